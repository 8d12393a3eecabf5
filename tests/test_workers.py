"""Processes that do work that is shared out: their threads, their end, and what is raised there."""

import os
import signal
import time
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from types import SimpleNamespace

import pytest
import torch

from qvae.errors import WorkersError
from qvae.workers import Lost, Processes, _end_with


def outcome(workers, place, function, *arguments):
    (found,) = workers.outcomes({workers.submit(place, function, *arguments): place}).values()
    return found


def test_processes_share_threads_out_and_are_ended():
    workers = Processes(1, threads=1)
    assert outcome(workers, 0, torch.get_num_threads) == 1
    pid = outcome(workers, 0, os.getpid)
    assert os.getpgid(pid) != os.getpgid(0)  # so that Ctrl-C is its parent's
    assert outcome(workers, 0, os.getenv, "OMP_NUM_THREADS") == "1"
    assert isinstance(outcome(workers, 0, int, "many"), ValueError)
    os.kill(pid, signal.SIGKILL)
    lost = outcome(workers, 0, os.getpid)
    assert isinstance(lost, Lost)
    assert str(lost) == "worker 1 of 1"
    workers.renew(0)
    other = outcome(workers, 0, os.getpid)
    assert other != pid
    pending, started = workers.submit(0, time.sleep, 600), time.monotonic()
    workers.close(now=True)
    assert time.monotonic() - started < 60
    assert pending.done()
    with pytest.raises(ProcessLookupError):
        os.kill(other, 0)


def test_a_process_ends_when_its_parent_does_even_at_work(monkeypatch):
    steps = []
    monkeypatch.setattr("qvae.workers.os._exit", lambda code: steps.append(code))
    _end_with(SimpleNamespace(join=lambda: steps.append("the parent has ended")))
    assert steps == ["the parent has ended", 1]


def test_all_processors_are_shared_out(monkeypatch):
    monkeypatch.setattr("qvae.workers.processors", lambda: 8)
    assert [Processes(number).threads for number in (1, 3, 16)] == [8, 2, 1]


def test_outcomes_are_in_the_order_of_places_whoever_answers_first():
    workers, pending = Processes(9), {}
    for place in range(8, -1, -1):
        future = Future()
        future.set_result(place)
        pending[future] = place
    assert list(workers.outcomes(pending).items()) == [(place, place) for place in range(9)]


def test_a_call_that_was_called_off_is_lost():
    future = Future()
    future.cancel()
    future.set_running_or_notify_cancel()
    assert isinstance(Processes(1).outcomes({future: 0})[0], Lost)


def test_one_that_is_killed_while_it_starts_is_replaced_and_two_in_a_row_are_an_error(monkeypatch):
    executors = []

    class Stillborn(Executor):
        def submit(self, function, *arguments):
            future = Future()
            future.set_exception(BrokenExecutor("it ended"))
            return future

    def born(*arguments):
        executors.append(Stillborn() if len(executors) in (0, 2, 3) else ThreadPoolExecutor(1))
        return executors[-1]

    monkeypatch.setattr("qvae.workers.ProcessPoolExecutor", born)
    workers = Processes(1)
    assert isinstance(outcome(workers, 0, int, "1"), Lost)
    workers.renew(0)
    assert outcome(workers, 0, int, "1") == 1
    workers.renew(0)
    assert isinstance(outcome(workers, 0, int, "1"), Lost)
    workers.renew(0)
    assert isinstance(outcome(workers, 0, int, "1"), Lost)
    with pytest.raises(WorkersError, match="two worker processes ended before their first work"):
        workers.renew(0)


def test_work_is_mapped_and_that_of_a_worker_that_dies_is_done_again(tmp_path):
    workers = Processes(1, threads=1)
    try:
        assert workers.map(dies_once, [tmp_path / "a"] * 3, torch.arange(3)) == [0, 1, 2]
        with pytest.raises(ValueError, match="invalid literal"):
            workers.map(int, ["1", "two"])
    finally:
        workers.close(now=True)


def test_work_at_which_all_workers_die_is_given_up(monkeypatch):
    workers, renewed = Processes(2), []
    monkeypatch.setattr(workers, "submit", lambda *call: Future())
    monkeypatch.setattr(workers, "outcomes", lambda pending: {place: Lost("") for place in pending.values()})
    monkeypatch.setattr(workers, "renew", renewed.append)
    with pytest.raises(WorkersError, match="died 5 times, one after the other"):
        workers.map(abs, [1, 2, 3])
    assert renewed == [0, 1, 0, 1]


def dies_once(file, value):
    if not file.exists():
        file.touch()
        os._exit(1)
    return value
