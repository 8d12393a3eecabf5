"""What work looks like on a terminal of 80 columns, and in a log file."""

import io
import re

import pytest
from rich.console import Console

from qvae.cli.progress import ConsoleProgress

FIGURES = "epoch 200  surrogate 123.45  reconstruction 123.45  kl 12.34  beta 1.00  QPU s 1234.56"


def screen(is_terminal):
    plain = {"highlight": False, "markup": False, "emoji": False}
    return Console(file=io.StringIO(), force_terminal=is_terminal, width=80, height=24, **plain)


def shown(console):
    """Lines as they were written, without the terminal's control sequences."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", console.file.getvalue()).replace("\r", "\n").splitlines()


def test_a_terminal_shows_bar_share_and_time_left_beside_any_figures(seconds):
    console = screen(True)
    with ConsoleProgress(console).work("training") as report:
        report(0.0, "")
        seconds[0] += 30
        report(0.5, FIGURES)
    bar, figures = shown(console)[-2:]
    for part in ("training", "━━━━", "50%", "eta 0:30"):
        assert part in bar
    assert figures.startswith("  epoch 200  surrogate 123.45")
    assert max(map(len, shown(console))) <= 80


def test_a_resumed_work_counts_its_rate_from_where_it_goes_on(seconds):
    console = screen(True)
    with ConsoleProgress(console).work("training") as report:
        report(0.9, "")
        seconds[0] += 10
        report(0.95, "epoch 1")
    assert "eta 0:10" in shown(console)[-2]


def test_work_without_figures_leaves_nothing_on_a_terminal(seconds):
    console = screen(True)
    with ConsoleProgress(console).work("evaluating") as report:
        seconds[0] += 1
        report(0.5, "")
    assert console.file.getvalue().endswith("\x1b[2K")  # the line is erased


def test_a_log_has_a_line_at_every_tenth(seconds):
    console = screen(False)
    with ConsoleProgress(console).work("training") as report:
        for step in range(1, 1001):
            seconds[0] += 0.1
            report(step / 1000, f"epoch {step}")
    lines = shown(console)
    assert len(lines) == 11
    assert lines[0] == "  0%  0:00  epoch 1"
    assert lines[-1] == "100%  1:40  epoch 1000"


def test_a_log_tells_of_work_without_figures_only_if_it_takes_long(seconds):
    console = screen(False)
    with ConsoleProgress(console).work("evaluating") as report:
        for step in range(1, 101):
            seconds[0] += 0.05
            report(step / 100, "")
        assert shown(console) == []
        seconds[0] += 20
        report(1.0, "")
    assert shown(console) == ["100%  0:25  evaluating"]


def test_a_log_tells_of_long_work_that_never_reported(seconds):
    console = screen(False)
    with ConsoleProgress(console).work("log Z"):
        seconds[0] += 9
    with ConsoleProgress(console).work("log Z"):
        seconds[0] += 11
    with ConsoleProgress(console).work("training") as report:
        seconds[0] += 11
        report(0.5, "epoch 1")
    assert shown(console) == ["100%  0:11  log Z", " 50%  0:11  epoch 1"]


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_is_said_is_not_read_as_markup(is_terminal):
    console = screen(is_terminal)
    watching = ConsoleProgress(console)
    watching.say("sizes [bold] and [3,3]")
    watching.warn("the shape is [4, 4] [red]")
    assert shown(console) == ["sizes [bold] and [3,3]", "warning: the shape is [4, 4] [red]"]
