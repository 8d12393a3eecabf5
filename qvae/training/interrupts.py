"""Ctrl-C, SIGTERM and SIGHUP, put off until the step in flight is done; and what is left where that never is."""

from __future__ import annotations

import os
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_PATIENCE = 1.0  # seconds in which Python hears of a signal, unless it waits for code that isn't Python
_ENOUGH = 3  # signals, after which a process ends that has heard of none
_HEARD, _END = b"\xfe", b"\xff"  # numbers of no signals


@contextmanager
def interrupts_deferred(say: Callable[[str], None]) -> Iterator[threading.Event]:
    """The signals set an event, so that a step is never cut in two; a second one interrupts at once, as a sampler that hangs.

    Python hears of a signal once it is back from code that isn't Python. Where that hangs, a thread says so, and a third signal
    ends the process as it is: the last checkpoint stands. Only where such code keeps Python's own lock as it hangs, which few
    do, no thread can, and SIGQUIT (Ctrl-\\) is left. SIGHUP comes where a terminal is closed, on systems that have it.
    """
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    numbers = [signal.SIGINT, *_ends()]
    with _watched(numbers, say) as heard:

        def remember(number: int, frame: Any) -> None:
            heard()
            if event.is_set():
                raise KeyboardInterrupt
            event.set()
            say("stopping after the step in flight; once more stops at once, and goes on from the last checkpoint")

        previous = {number: signal.signal(number, remember) for number in numbers}
        try:
            yield event
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)


@contextmanager
def ends_interrupt() -> Iterator[None]:
    """SIGTERM and SIGHUP interrupt the block as Ctrl-C does, so that who has others at work can end them, too."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = {number: signal.signal(number, signal.default_int_handler) for number in _ends()}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ends() -> list[signal.Signals]:
    """The signals by which others than the user at the keyboard end a process."""
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as it is under nohup
        return [signal.SIGTERM, signal.SIGHUP]
    return [signal.SIGTERM]


@contextmanager
def _watched(numbers: list[signal.Signals], say: Callable[[str], None]) -> Iterator[Callable[[], None]]:
    """A thread sees the signals while the block runs, whatever the main one waits for; what is yielded says that it heard."""
    reading, writing = socket.socketpair()
    with reading, writing:
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
        if before != -1:  # somebody else watches, such as the event loop of a notebook
            signal.set_wakeup_fd(before)
        watcher = threading.Thread(target=_watch, args=(reading, numbers, say), daemon=True)
        watcher.start()
        try:
            yield lambda: writing.sendall(_HEARD)
        finally:
            signal.set_wakeup_fd(before)
            writing.sendall(_END)
            watcher.join()


def _watch(reading: socket.socket, numbers: list[signal.Signals], say: Callable[[str], None]) -> None:
    """Say that signals aren't heard, and end the process at the last of several."""
    unheard, is_said = 0, True
    while True:
        if not select.select([reading], [], [], None if is_said else _PATIENCE)[0]:
            more = "once more" if unheard == _ENOUGH - 1 else f"{_ENOUGH - unheard} times more"
            say(f"this waits for code that can't be interrupted; {more} ends the process, and the last checkpoint stands")
            is_said = True
            continue
        byte = reading.recv(1)
        if byte == _END:
            return
        if byte == _HEARD:
            unheard, is_said = 0, True
        elif byte[0] in numbers:
            unheard, is_said = unheard + 1, False
            if unheard == _ENOUGH:
                os._exit(128 + signal.SIGINT)
