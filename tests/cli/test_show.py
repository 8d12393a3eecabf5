"""What is printed: in any encoding, with users' names as they are."""

import io
import shutil
import sys

import pytest

from qvae.cli.show import accept_any_encoding, make_console, print_facts, print_table, print_warning
from qvae.reporting.page import Table

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


def test_runs_of_any_name_are_compared(command, small_run, tmp_path):
    for name in NAMES:
        shutil.copytree(small_run, tmp_path / name.replace("/", ""))
    code, out, err = command("compare", NAMES[0], NAMES[1].replace("/", ""))
    assert (code, err) == (0, "")
    assert "$x^{$ [bold]" in out
    assert (tmp_path / "comparison.png").exists()
