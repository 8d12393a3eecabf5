"""Who does work that is shared out: processes of this machine, or an executor that somebody else made.

Workers are executors of :mod:`concurrent.futures`, one for each place, so that what a place holds is found there again.
Those of a dask cluster are in :mod:`qvae.cluster`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, CancelledError, Executor, Future, ProcessPoolExecutor, wait
from typing import Any

from qvae.errors import WorkersError

_LOOK_SECONDS = 1.0  # between two looks whether those that don't answer are still there
_TRIES = 5  # of work whose workers die
_PATIENCE = 30.0  # seconds in which a process that is told to end must have done so


class Lost(Exception):
    """A worker died before it had answered, and what it held is gone; the text says which."""


class Workers(ABC):
    """A number of places, each of which does one thing after the other.

    Attributes:
        remembers: whether a place is one process, so that what a function keeps there in its module is there for the next.
    """

    remembers: bool = True

    @abstractmethod
    def __len__(self) -> int:
        """How many places there are."""

    @abstractmethod
    def submit(self, place: int, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """Have a module's function called at a place; hand what it returns, through :meth:`result`, to whoever waits."""

    @abstractmethod
    def renew(self, place: int) -> None:
        """Put another worker where one died.

        Raises:
            WorkersError: there is none.
        """

    @abstractmethod
    def close(self, now: bool = False) -> None:
        """Let all of them go; ``now`` ends what they are at."""

    def wait(self, pending: Mapping[Future[Any], int], seconds: float) -> list[Future[Any]]:
        """Those of the futures, by their places, that have an outcome: some as soon as they have, or none after ``seconds``."""
        return list(wait(pending, seconds, FIRST_COMPLETED).done)

    def result(self, place: int, future: Future[Any]) -> Any:
        """What a function returned that :meth:`wait` says is done; what it raised is raised.

        Raises:
            Lost: its worker died.
        """
        try:
            return future.result()
        except (BrokenExecutor, CancelledError):
            raise Lost(self.describe(place)) from None

    def outcomes(self, pending: Mapping[Future[Any], int]) -> dict[int, Any]:
        """What was returned at each place, in their order, once all have answered; where it was raised, the exception."""
        waiting, found = dict(pending), {}
        while waiting:
            for future in self.wait(waiting, _LOOK_SECONDS):
                place = waiting.pop(future)
                try:
                    found[place] = self.result(place, future)
                except Exception as error:
                    found[place] = error
        return dict(sorted(found.items()))

    def map(self, function: Callable[..., Any], /, *columns: Iterable[Any]) -> list[Any]:
        """As :func:`map`: calls of a module's function, one for each row of arguments, shared out between the places in turn.

        A call whose worker dies is made again; so it must depend on its arguments alone.

        Raises:
            WorkersError: workers died again and again.
            Exception: the first one that a call raised.
        """
        # Pickled here: torch would put tensors that go between processes into shared memory, which outlives those that die.
        calls = [pickle.dumps((function, row)) for row in zip(*columns, strict=True)]
        found, todo, losses = [None] * len(calls), list(range(len(calls))), 0
        while todo:
            now, todo = todo[: len(self)], todo[len(self) :]
            pending = {self.submit(place, _called, calls[row]): place for place, row in enumerate(now)}
            for place, outcome in self.outcomes(pending).items():
                if isinstance(outcome, Lost):
                    losses += 1
                    if losses == _TRIES:
                        raise WorkersError(f"workers died {_TRIES} times, one after the other; have they enough memory?")
                    self.renew(place)
                    todo.append(now[place])
                elif isinstance(outcome, Exception):
                    raise outcome
                else:
                    found[now[place]] = pickle.loads(outcome)
        return found

    def describe(self, place: int) -> str:
        """A place in words."""
        return f"worker {place + 1} of {len(self)}"


def _called(call: bytes) -> bytes:
    function, row = pickle.loads(call)
    return pickle.dumps(function(*row))


class Processes(Workers):
    """Processes of this machine, started when they are first used, with the processors shared out between them.

    They are spawned, since a forked copy of threads that compute may hang, and end with their parent, however it ends.

    Args:
        number: of processes, 1 or more.
        threads: of torch's in each; None shares all processors out.
    """

    def __init__(self, number: int, threads: int | None = None) -> None:
        self.threads = threads or max(1, processors() // number)
        self._executors: list[ProcessPoolExecutor | None] = [None] * number
        self._pids: dict[int, int] = {}
        self._unborn: set[int] = set()  # places whose last process ended before its first work

    def __len__(self) -> int:
        return len(self._executors)

    def submit(self, place: int, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """As for all workers; the first call at a place starts its process."""
        executor = self._executors[place]
        if executor is None:
            spawn = multiprocessing.get_context("spawn")
            executor = ProcessPoolExecutor(1, spawn, _begin, (self.threads,))
            self._executors[place] = executor
            executor.submit(os.getpid).add_done_callback(lambda found: self._note(place, found))
        try:
            return executor.submit(function, *arguments)
        except BrokenExecutor as error:  # it died while nobody waited for it
            broken: Future[Any] = Future()
            broken.set_exception(error)
            return broken

    def _note(self, place: int, found: Future[int]) -> None:
        if not found.cancelled() and found.exception() is None:
            self._pids[place] = found.result()

    def renew(self, place: int) -> None:
        """A fresh process, from the next call on.

        Raises:
            WorkersError: the last two never came to their work, and another wouldn't either.
        """
        executor = self._executors[place]
        if executor is not None:
            executor.shutdown(wait=False, cancel_futures=True)
        self._executors[place] = None
        if self._pids.pop(place, None) is not None:
            self._unborn.discard(place)
        elif place in self._unborn:
            raise WorkersError(
                "two worker processes ended before their first work; in a script of your own, put what it runs under "
                "`if __name__ == '__main__':`, since each worker imports the script."
            )
        else:
            self._unborn.add(place)

    def close(self, now: bool = False) -> None:
        """End them all: with ``now`` by SIGTERM, at which a training saves its state first, and later by SIGKILL."""
        last = threading.Timer(_PATIENCE, self._signal, (getattr(signal, "SIGKILL", signal.SIGTERM),))
        last.daemon = True
        if now:
            self._signal(signal.SIGTERM)
            last.start()
        for executor in self._executors:
            if executor is not None:
                executor.shutdown(wait=True, cancel_futures=True)
        last.cancel()
        self._executors = [None] * len(self)
        self._pids.clear()

    def _signal(self, number: int) -> None:
        for pid in list(self._pids.values()):
            with contextlib.suppress(OSError):
                os.kill(pid, number)


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(threads: int) -> None:
    """What each process does first: it takes its share of threads, leaves Ctrl-C to its parent, and ends when that does."""
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    parent = multiprocessing.parent_process()
    assert parent is not None
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(threads)
    import torch

    torch.set_num_threads(threads)  # where a script that was imported has imported torch already


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(1)


class Lent(Workers):
    """An executor that its user made and closes; nobody knows which of its processes does what.

    Args:
        executor: with ``submit``, as those of :mod:`concurrent.futures` have it.
        number: of calls that are made at once.
    """

    remembers = False

    def __init__(self, executor: Executor, number: int) -> None:
        self._executor, self._number = executor, number

    def __len__(self) -> int:
        return self._number

    def submit(self, place: int, function: Callable[..., Any], /, *arguments: Any) -> Future[Any]:
        """As for all workers.

        Raises:
            WorkersError: the executor takes nothing any more.
        """
        try:
            return self._executor.submit(function, *arguments)
        except RuntimeError as error:
            raise WorkersError(f"the executor that was given takes no work any more ({error}); give another one.") from error

    def renew(self, place: int) -> None:
        """Nothing: whoever made the executor replaces its workers."""

    def close(self, now: bool = False) -> None:
        """Nothing: it isn't ours."""
