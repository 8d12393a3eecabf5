"""Parts of work on several threads: all are done, what fails is raised, and an interrupt leaves nobody waiting."""

import gc
import signal
import threading
import time

import pytest
import torch

from qvae.ising.sharing import share


@pytest.fixture(autouse=True)
def two_threads():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def test_each_part_is_done_once_on_one_thread_of_torch_s():
    found = []

    def work(part):
        found.append((part, torch.get_num_threads(), threading.current_thread().name))
        time.sleep(0.01)  # so that no thread does them all

    share(work, 20)
    assert sorted(part for part, *_ in found) == list(range(20))
    assert {threads for _, threads, _ in found} == {1}
    assert {name for *_, name in found} == {threading.current_thread().name, "qvae-chains-1"}
    assert torch.get_num_threads() == 2


def test_a_single_part_is_the_caller_s():
    found = []
    share(lambda part: found.append((part, torch.get_num_threads(), threading.current_thread())), 1)
    assert found == [(0, 1, threading.current_thread())]
    share(found.append, 0)
    assert len(found) == 1


def test_what_fails_is_raised_once_all_are_done():
    done = []

    def work(part):
        if part == 1:
            raise ValueError("no such part")
        done.append(part)

    with pytest.raises(ValueError, match="no such part"):
        share(work, 5)
    assert sorted(done) == [0, 2, 3, 4]
    assert torch.get_num_threads() == 2


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs alarms")
def test_interrupts_at_any_point_leave_the_threads_at_work():
    class Interrupt(BaseException):
        pass

    def interrupt(number, frame):
        raise Interrupt

    before, end, count = signal.signal(signal.SIGALRM, interrupt), time.monotonic() + 2, 0
    gc.disable()  # an interrupt in a callback of the collector, such as hypothesis has, would be lost
    try:
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, 2e-4 + 1e-6 * (count % 100))
                while True:
                    share(lambda part: None, 4)
            except Interrupt:
                count += 1
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, before)
        gc.enable()
    assert count > 50
    found = []
    share(found.append, 4)
    assert sorted(found) == [0, 1, 2, 3]
