"""Ctrl-C, SIGTERM and SIGHUP, put off until the step in flight is done."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def interrupts_deferred(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """The signals set an event, so that a step is never cut in two; a second one interrupts at once, as a sampler that hangs.

    SIGHUP comes where a terminal is closed, on systems that have it.
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

    heard = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        heard.append(signal.SIGHUP)
    previous = {number: signal.signal(number, remember) for number in heard}
    try:
        yield event
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
