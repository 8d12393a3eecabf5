"""Signals while a training runs: what it hears, and what others who listen still hear."""

import os
import signal
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from qvae.training import interrupts
from qvae.training.interrupts import interrupts_deferred


def interrupt(event):
    os.kill(os.getpid(), signal.SIGINT)
    for _ in range(1000):  # Python's handler runs between two lines
        if event.is_set():
            return
        time.sleep(0.01)


@pytest.fixture
def listener():
    """Somebody who is woken by signals, as the event loop of a notebook is."""
    reading, writing = socket.socketpair()
    with reading, writing:
        reading.settimeout(10)
        writing.setblocking(False)
        before = signal.set_wakeup_fd(writing.fileno())
        yield reading, writing
        signal.set_wakeup_fd(before)


def test_who_was_woken_by_signals_is_woken_by_them_during_a_training_and_after_it(listener):
    reading, writing = listener
    handlers, said = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)], []
    with interrupts_deferred(said.append) as event:
        interrupt(event)
        assert event.is_set()
        assert reading.recv(1) == bytes([signal.SIGINT])
    assert len(said) == 1
    assert "stopping after the step in flight" in said[0]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    found = signal.set_wakeup_fd(writing.fileno())
    assert found == writing.fileno()


def test_a_second_interrupt_is_one():
    before = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(before)

    def impatient():
        with interrupts_deferred(lambda text: None) as event:
            interrupt(event)
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(10)

    with pytest.raises(KeyboardInterrupt):
        impatient()
    found = signal.set_wakeup_fd(before)
    assert found == before


INT, TERM, OTHER = bytes([signal.SIGINT]), bytes([signal.SIGTERM]), bytes([signal.SIGCHLD])


def watched(monkeypatch, *signs):
    """What a watcher says of these bytes, each sent once it has had its time, and the code that it ends the process with."""

    class Ended(Exception):
        pass

    def end(code):
        raise Ended(code)

    monkeypatch.setattr(interrupts.os, "_exit", end)
    reading, writing = socket.socketpair()
    signs, said = list(signs), []

    def select(readers, writers, others, patience):
        """Time goes by whenever there is an end to it."""
        if patience is not None:
            return [], [], []
        writing.sendall(signs.pop(0))
        return readers, writers, others

    monkeypatch.setattr(interrupts, "select", SimpleNamespace(select=select))
    with reading, writing:
        try:
            interrupts._watch(reading, [signal.SIGINT, signal.SIGTERM], said.append)
        except Ended as ended:
            return said, ended.args[0]
    assert not signs
    return said, None


def test_signals_that_nobody_hears_are_said_and_the_third_ends_the_process(monkeypatch):
    said, code = watched(monkeypatch, INT, TERM, OTHER, INT)
    assert [text.split("; ")[1].split(" ends")[0] for text in said] == ["2 times more", "once more"]
    assert code == 130  # of a shell, for what Ctrl-C ended


def test_signals_that_are_heard_count_from_the_beginning(monkeypatch):
    said, code = watched(monkeypatch, INT, interrupts._HEARD, INT, TERM, interrupts._HEARD, INT, OTHER, interrupts._END)
    assert ["2 times" in text for text in said] == [True, True, False, True]
    assert code is None
    assert watched(monkeypatch, OTHER, OTHER, OTHER, interrupts._END) == ([], None)


def test_a_thread_that_is_not_the_main_one_hears_nothing():
    found, handler = [], signal.getsignal(signal.SIGINT)

    def work():
        with interrupts_deferred(found.append) as event:
            found.append((event.is_set(), signal.getsignal(signal.SIGINT) is handler))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [(False, True)]


def test_a_closed_terminal_interrupts_unless_it_is_to_be_ignored():
    before = signal.getsignal(signal.SIGHUP)
    try:
        for handler, is_taken in ((signal.SIG_DFL, True), (signal.SIG_IGN, False)):
            signal.signal(signal.SIGHUP, handler)
            with interrupts_deferred(lambda text: None):
                assert callable(signal.getsignal(signal.SIGHUP)) is is_taken
            assert signal.getsignal(signal.SIGHUP) == handler
    finally:
        signal.signal(signal.SIGHUP, before)
