"""What long work tells whoever watches it: lines at every tenth, shares that end at 1, and displays that fail."""

import pytest

from qvae import progress
from qvae.progress import PrintedProgress, Progress, Sturdy, clock, counter, or_default


def printed(capsys):
    return capsys.readouterr().out.splitlines()


def test_lines_at_every_tenth_of_work_with_figures(seconds, capsys):
    with PrintedProgress().work("training") as report:
        for step in range(1, 1001):
            seconds[0] += 0.125
            report(step / 1000, f"epoch {step}")
    lines = printed(capsys)
    assert (len(lines), lines[0], lines[1], lines[-1]) == (
        11, "  0%  0:00  epoch 1", " 10%  0:12  epoch 100", "100%  2:05  epoch 1000",
    )  # fmt: skip


def test_work_without_figures_leaves_a_line_in_ten_seconds_and_one_at_its_end(seconds, capsys):
    for each, expected in (
        (2.5, []),  # ten seconds are not yet long
        (2.6, ["100%  0:10  log Z"]),
        (12.0, [" 25%  0:12  log Z", " 50%  0:24  log Z", " 75%  0:36  log Z", "100%  0:48  log Z"]),
        (6.0, [" 50%  0:12  log Z", "100%  0:24  log Z"]),
    ):
        with PrintedProgress().work("log Z") as report:
            for part in range(1, 5):
                seconds[0] += each
                report(part / 4, "")
        assert printed(capsys) == expected
    with PrintedProgress().work("log Z"):  # which tells nothing
        seconds[0] += 11
    with PrintedProgress().work("training") as report:
        report(0.5, "epoch 1")
        seconds[0] += 11
    assert printed(capsys) == ["100%  0:11  log Z", " 50%  0:00  epoch 1"]
    PrintedProgress().warn("it looks odd")
    assert printed(capsys) == ["warning: it looks odd"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599.4, "59:59"), (3599.6, "1:00:00"), (36_000 + 61, "10:01:01")],
)
def test_clocks(seconds, text):
    assert clock(seconds) == text


def test_shares_end_at_one_whatever_is_counted():
    shares = []
    for total in (4, 0):
        count = counter(lambda share, figures: shares.append((share, figures)), total)
        for more in (1, 3, 2):
            count(more)
    assert shares == [(0.25, ""), (1.0, ""), (1.0, ""), (1.0, ""), (1.0, ""), (1.0, "")]


def test_a_display_that_fails_costs_itself(caplog):
    told = []

    class Falls(Progress):
        def say(self, text):
            told.append(text)
            raise OSError("no terminal")

        def warn(self, text):
            told.append(text)

    display = Sturdy.around(Falls())
    assert Sturdy.around(display) is display
    display.warn("first")
    display.say("second")
    display.warn("third")
    with display.work("on") as report:
        report(0.5, "")
    assert told == ["first", "second"]
    assert str(display.failure) == "no terminal"
    assert [record.getMessage() for record in caplog.records] == [
        "the display of progress failed (OSError('no terminal')); work goes on without it"
    ]


def test_a_prompt_gets_lines_and_a_script_silence(monkeypatch):
    mine = Progress()
    assert or_default(mine) is mine
    monkeypatch.delattr(progress.sys, "ps1", raising=False)
    monkeypatch.setitem(progress.sys.modules, "IPython", None)
    assert type(or_default(None)) is Progress
    monkeypatch.setattr(progress.sys, "ps1", ">>> ", raising=False)
    assert type(or_default(None)) is PrintedProgress
