"""What is printed: in any encoding, with users' names as they are."""

import io
import json
import shutil
import sys

import pytest

import qvae
from qvae.circuits.executor import ExecutorCapabilities
from qvae.cli import backends, progress, show
from qvae.cli.show import accept_any_encoding, make_console, print_evaluation, print_facts, print_table, print_warning
from qvae.reporting.page import Table
from qvae.sampling.sampler import Capabilities

NAMES = ["[red] of :smile:", "$x^{$ [/bold]"]


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_an_encoding_without_our_letters_gets_others(monkeypatch, encoding):
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding=encoding, write_through=True))
    accept_any_encoding()
    print_table(make_console(), Table(("ELBO",), [("-16.37 ± 0.26, 数",)], note="ζ ± 1"))
    printed = raw.getvalue().decode(encoding)
    assert "-16.37 " + ("+-" if encoding == "ascii" else "±") + " 0.26, ?" in printed
    assert "zeta" in printed


def test_names_are_no_markup(monkeypatch, capsys):
    console = make_console()
    print_table(console, Table(NAMES, [NAMES]))
    print_facts(console, {NAMES[0]: NAMES[1]})
    print_warning(console, NAMES[1])
    printed = capsys.readouterr().out
    assert [printed.count(name) for name in NAMES] == [3, 4]


def test_numbers_of_a_run_are_printed_with_what_is_wrong_with_them(small_run, capsys):
    file = small_run / "evaluation.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"log_z_details": {"warning": "log Z is a guess"}}))
    print_evaluation(make_console(), qvae.load_run(small_run))
    printed = capsys.readouterr().out
    assert "warning: log Z is a guess" in printed
    for text in ("ELBO", "log Z of the prior", "latent units"):
        assert text in printed


@pytest.mark.parametrize(
    ("able", "cells"),
    [
        (Capabilities(), ("any", "no", "sampled", "fresh", "here")),
        (Capabilities(max_spins=20, transverse_field=True), ("up to 20", "up to 20", "sampled", "fresh", "here")),
        (
            Capabilities(max_spins=20, transverse_field=True, max_quantum_spins=14, exact=True, persistent=True, remote=True),
            ("up to 20", "up to 14", "exact", "kept", "remote"),
        ),
    ],
)
def test_what_a_sampler_can_do_stands_in_its_columns(able, cells):
    assert dict(zip(backends._SAMPLERS.columns, backends._SAMPLERS.cells(able), strict=True)) == dict(
        zip(("spins", "in a field", "moments", "chains", "runs"), cells, strict=True)
    )


@pytest.mark.parametrize(
    ("able", "cells"),
    [
        (ExecutorCapabilities(), ("any", "from shots", "by shifts", "no", "here")),
        (
            ExecutorCapabilities(max_qubits=5, exact=True, differentiable=True, noisy=True, remote=True),
            ("up to 5", "exact", "in torch", "yes", "remote"),
        ),
    ],
)
def test_what_an_executor_can_do_stands_in_its_columns(able, cells):
    assert dict(zip(backends._EXECUTORS.columns, backends._EXECUTORS.cells(able), strict=True)) == dict(
        zip(("qubits", "accuracy", "gradients", "noise", "runs"), cells, strict=True)
    )


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_a_table_loses_no_word_however_narrow_the_terminal(capsys, width):
    console = make_console()
    console.width = width
    header = ("sampler", "package", "spins", "in a field", "moments", "chains", "runs")
    row = ("path_integral", "a-package-of-long-name 0.1.0", "any", "up to 14", "sampled", "kept", "remote")
    print_table(console, Table(header, [row]))
    printed = capsys.readouterr().out
    assert max(len(line) for line in printed.splitlines()) <= width
    letters = "".join(printed.split())
    assert all(word in letters for text in (*header[1:], *row) for word in text.split())


def test_columns_share_the_room_that_their_words_leave():
    """Of 20 letters "of", "two" and "words" take 10: each gets three more, and who wants less leaves it to the others."""
    rows = [["of an", "two or so", "words in a line"]]
    assert show._widths(rows, 10) == [2, 3, 5]
    assert show._widths(rows, 9) is None
    assert show._widths(rows, 19) == [5, 6, 8]
    assert show._widths(rows, 25) == [5, 9, 11]
    assert show._widths(rows, 40) == [5, 9, 15]
    assert show._widths([["a", ""]], 5) == [1, 1]


def test_the_time_left_follows_from_the_speed_since_the_first_report():
    eta = progress._Eta()
    assert eta.left(0.5, 100.0) is None  # a training that goes on begins in the middle
    assert eta.left(0.5, 101.0) is None
    assert eta.left(0.6, 102.0) == pytest.approx(0.4 / 0.05)
    assert eta.left(1.0, 110.0) == 0.0


def test_runs_of_any_name_are_compared(command, small_run, tmp_path):
    for name in NAMES:
        shutil.copytree(small_run, tmp_path / name.replace("/", ""))
    code, out, err = command("compare", NAMES[0], NAMES[1].replace("/", ""))
    assert (code, err) == (0, "")
    assert "$x^{$ [bold]" in out
    assert (tmp_path / "comparison.png").exists()


def test_a_file_is_as_wide_as_the_terminal_says_or_wider(monkeypatch):
    for columns, width in (("80", 120), ("200", 200)):
        monkeypatch.setenv("COLUMNS", columns)
        assert make_console().width == width
