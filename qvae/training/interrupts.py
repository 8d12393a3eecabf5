"""Ctrl-C, SIGTERM and SIGHUP, put off until the step in flight is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # the last one, of a terminal that is closed, isn't everywhere


@contextmanager
def interrupts_deferred(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """The signals set an event, so that a step is never cut in two; a second one interrupts at once, as a hung sampler.

    One that is ignored, as SIGHUP under nohup, stays so.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return

    def remember(number: int, frame: Any) -> None:
        if event.is_set():
            raise KeyboardInterrupt
        event.set()
        say("stopping after the step in flight; once more stops at once, and goes on from the last checkpoint")

    numbers = [getattr(signal, name) for name in _SIGNALS if hasattr(signal, name)]
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]
    previous = {number: signal.signal(number, remember) for number in heard}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
