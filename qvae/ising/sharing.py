"""Work on parts of the chains, shared out over as many threads as torch is given."""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable, Iterator
from queue import SimpleQueue

import torch

Work = Callable[[int], None]
Done = SimpleQueue[BaseException | None]
Job = tuple[Work, Iterator[int], int, Done]

# By the number of threads that help with jobs from them. An interrupt may come at any point of Python's own code, and leave a
# lock of concurrent.futures taken for ever; these queues have none.
_queues: dict[int, SimpleQueue[Job]] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_queues.clear)  # threads don't come along


def share(work: Work, parts: int) -> None:
    """Do ``work(0)`` to ``work(parts - 1)``, each on one thread, the caller's or a helper's, with torch's products on it, too.

    So what is computed doesn't depend on the number of threads, which is torch's: the user's ``OMP_NUM_THREADS``.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for part in range(parts):
            work(part)
        return
    helpers = min(threads, parts) - 1
    done: Done = SimpleQueue()
    job = work, itertools.count(), parts, done
    for _ in range(helpers):
        _queue(threads).put(job)
    try:
        torch.set_num_threads(1)
        _help(job)
        failures = [done.get() for _ in range(parts)]
    finally:
        torch.set_num_threads(threads)  # each thread has its own number, but the last one set holds for threads to come
    for failure in failures:
        if failure is not None:
            raise failure


def _queue(threads: int) -> SimpleQueue[Job]:
    """Where helpers wait for jobs."""
    if threads not in _queues:
        queue: SimpleQueue[Job] = SimpleQueue()
        for number in range(1, threads):
            threading.Thread(target=_serve, args=(queue,), name=f"qvae-chains-{number}", daemon=True).start()
        _queues[threads] = queue
    return _queues[threads]


def _serve(queue: SimpleQueue[Job]) -> None:
    """Help with jobs, one after the other, for ever."""
    is_alone = False
    while True:
        job = queue.get()
        if not is_alone:
            torch.get_num_threads()  # else this thread's first product would set it anew
            torch.set_num_threads(1)
            is_alone = True
        _help(job)
        del job  # and what it holds, while there is nothing to do


def _help(job: Job) -> None:
    """Do parts of a job until none is left."""
    work, numbers, parts, done = job
    while (part := next(numbers)) < parts:  # a number is given once, since Python counts in one step
        try:
            work(part)
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
