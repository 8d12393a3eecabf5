"""One protocol of progress: what long work tells whoever watches it; a terminal, a log file or a notebook draws it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Report = Callable[[float, str], None]
"""Takes the part of the work that is done, 0 to 1, and the latest figures in words, which may be empty."""


class Progress:
    """Whoever watches; this one looks away, and a subclass shows what it is told."""

    @contextmanager
    def work(self, name: str) -> Iterator[Report]:
        """A piece of work that goes on while the block runs, and what it reports to; pieces don't overlap."""
        yield lambda share, figures: None

    def say(self, text: str) -> None:
        """A sentence to read once."""

    def warn(self, text: str) -> None:
        """A sentence about something that looks wrong; it begins in lower case and has no period."""


def counter(report: Report, total: int) -> Callable[[int], None]:
    """A function that is told how many more of ``total`` are done, and reports the share.

    >>> shown = []
    >>> count = counter(lambda share, figures: shown.append(share), 4)
    >>> count(1), count(2), shown
    (None, None, [0.25, 0.75])
    """
    done = 0

    def count(more: int) -> None:
        nonlocal done
        done += more
        report(min(1.0, done / max(1, total)), "")

    return count
