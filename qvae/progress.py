"""One protocol of progress: what long work tells whoever watches it; a terminal, a log file or a notebook draws it."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

_log = logging.getLogger(__name__)

_QUIET_SECONDS = 10.0  # between two lines of work that has no figures, and before its first one

Report = Callable[[float, str], None]
"""Takes the part of the work that is done, 0 to 1, and the latest figures in words, which may be empty."""


class Progress:
    """Whoever watches; this one looks away, and a subclass shows what it is told.

    Attributes:
        failure: why nothing is shown any more; None as long as it is.
    """

    failure: Exception | None = None

    @contextmanager
    def work(self, name: str) -> Iterator[Report]:
        """A piece of work that goes on while the block runs, and what it reports to; pieces don't overlap."""
        yield lambda share, figures: None

    def say(self, text: str) -> None:
        """A sentence to read once."""

    def warn(self, text: str) -> None:
        """A sentence about something that looks wrong; it begins in lower case and has no period."""


class Sturdy(Progress):
    """Tells another one until that fails, then nobody: a display that fails costs itself, and not the work."""

    def __init__(self, display: Progress) -> None:
        self._display = display

    @classmethod
    def around(cls, display: Progress | None) -> Sturdy:
        """The display, or what :func:`or_default` takes for None, made sturdy."""
        return display if isinstance(display, cls) else cls(or_default(display))

    @contextmanager
    def work(self, name: str) -> Iterator[Report]:
        """As the display's, which is told of the end in any case."""
        with ExitStack() as stack:
            shown = ExitStack()
            report = self._tried(lambda: shown.enter_context(self._display.work(name)))
            stack.callback(self._tried, shown.close, is_last=True)
            yield lambda share, figures: self._tried(lambda: report(share, figures))

    def say(self, text: str) -> None:
        """Passed on."""
        self._tried(lambda: self._display.say(text))

    def warn(self, text: str) -> None:
        """Passed on."""
        self._tried(lambda: self._display.warn(text))

    def _tried(self, tell: Callable[[], Any], is_last: bool = False) -> Any:
        if self.failure is not None and not is_last:
            return None
        try:
            return tell()
        except Exception as error:
            if self.failure is None:
                self.failure = error
                _log.warning("the display of progress failed (%r); work goes on without it", error)
            return None


class PrintedProgress(Progress):
    """Prints lines: at every tenth of work with figures, and of other work, if it takes long, one in ten seconds at most."""

    @contextmanager
    def work(self, name: str) -> Iterator[Report]:
        """Lines while the block runs."""
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

    def say(self, text: str) -> None:
        """A line."""
        print(text, flush=True)

    def warn(self, text: str) -> None:
        """A line that begins with ``warning:``."""
        self.say(f"warning: {text}")


def is_interactive() -> bool:
    """Whether a person sits at a notebook or a prompt, where calls are made again and silence is long."""
    shell = sys.modules.get("IPython")
    return hasattr(sys, "ps1") or (shell is not None and shell.get_ipython() is not None)


def or_default(progress: Progress | None) -> Progress:
    """Whoever watches; where nobody was named, a notebook or a prompt gets lines, and a script silence."""
    if progress is not None:
        return progress
    return PrintedProgress() if is_interactive() else Progress()


def clock(seconds: float) -> str:
    """Seconds as minutes and seconds, and hours where there are some.

    >>> clock(75), clock(3675)
    ('1:15', '1:01:15')
    """
    whole = round(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


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
