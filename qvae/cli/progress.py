"""Progress on a terminal, as a bar with the latest figures under it, and in a log file, as a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from qvae.cli.show import print_warning
from qvae.progress import PrintedProgress, Report, clock

if TYPE_CHECKING:
    from rich.console import Console

_REFRESH_SECONDS = 0.2


class ConsoleProgress(PrintedProgress):
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
        with self._bar(name) if self.console.is_terminal else super().work(name) as report:
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
