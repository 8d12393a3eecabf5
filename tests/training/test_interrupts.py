"""Signals while a training runs: what it hears, and what others who listen still hear."""

import os
import signal
import socket
import time

import pytest

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
