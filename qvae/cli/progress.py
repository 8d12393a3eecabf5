"""Progress on a terminal, as a bar with the latest figures under it, and in a log file, as a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qvae.cli.show import print_warning
from qvae.progress import Progress, Report

if TYPE_CHECKING:
    from rich.console import Console

_REFRESH_SECONDS = 0.2
_QUIET_SECONDS = 10.0  # between two lines of work that has no figures, and before its first one


class ConsoleProgress(Progress):
    """Shows progress on a console.

    Args:
        console: a terminal gets a bar, which goes when the work is done, except that of work with figures; anything else gets
            lines: one at every tenth with figures, and without them no more than one in ten seconds.
    """

    def __init__(self, console: Console) -> None:
        self.console = console

    @contextmanager
    def work(self, name: str) -> Iterator[Report]:
        """A bar, or lines, while the block runs."""
        with self._bar(name) if self.console.is_terminal else self._lines(name) as report:
            yield report

    def say(self, text: str) -> None:
        """A line."""
        self.console.print(text)

    def warn(self, text: str) -> None:
        """A line that begins with ``warning:``."""
        print_warning(self.console, text)

    @contextmanager
    def _bar(self, name: str) -> Iterator[Report]:
        from rich.console import Group
        from rich.live import Live
        from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as Bar
        from rich.text import Text

        columns = (
            SpinnerColumn("line" if self.console.options.ascii_only else "dots"),
            TextColumn("{task.description}", style="bold", markup=False),
            BarColumn(bar_width=24),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("eta {task.fields[eta]}"),
        )
        bar = Bar(*columns, console=self.console)
        task = bar.add_task(name, total=None, eta="-:--")  # a bar that moves to and fro until a share is known
        line = Text("", style="cyan", no_wrap=True, overflow="ellipsis")
        eta, shown = _Eta(), 0.0
        with Live(Group(bar), console=self.console, refresh_per_second=5, transient=True) as live:

            def report(share: float, figures: str) -> None:
                nonlocal shown
                now = time.perf_counter()
                left = eta.left(share, now)
                if now - shown < _REFRESH_SECONDS and share < 1:
                    return
                shown = now
                bar.update(task, total=1.0, completed=share, eta="-:--" if left is None else clock(left))
                if figures:
                    line.plain = f"  {figures}"
                    live.transient = False
                    live.update(Group(bar, line))

            yield report

    @contextmanager
    def _lines(self, name: str) -> Iterator[Report]:
        started = said = time.perf_counter()
        tenth, has_figures = -1, False

        def report(share: float, figures: str) -> None:
            nonlocal tenth, said, has_figures
            now = time.perf_counter()
            has_figures = has_figures or bool(figures)
            if int(10 * share) > tenth and (figures or now - said > _QUIET_SECONDS):
                tenth, said = int(10 * share), now
                self.say(f"{share:4.0%}  {clock(now - started)}  {figures or name}")

        yield report
        now = time.perf_counter()
        if tenth < 10 and not has_figures and now - started > _QUIET_SECONDS:  # what took so long leaves a line in any case
            self.say(f"100%  {clock(now - started)}  {name}")


class _Eta:
    """Time left, from how fast the work went since it was first reported: a resumed one begins in the middle."""

    def __init__(self) -> None:
        self.first: tuple[float, float] | None = None

    def left(self, share: float, now: float) -> float | None:
        """Seconds; None as long as nothing is known."""
        self.first = self.first or (share, now)
        share_before, then = self.first
        rate = (share - share_before) / (now - then) if now > then else 0.0
        return (1 - share) / rate if rate > 0 else None


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, and hours where there are some.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
