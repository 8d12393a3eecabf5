"""Work on parts of the chains, shared out over as many threads as torch is given."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from queue import SimpleQueue

import torch

Work = Callable[[int], None]
Done = SimpleQueue[BaseException | None]

# By the number of threads that take parts of work from them. An interrupt may come at any point of Python's own code, and leave
# a lock of concurrent.futures taken for ever; these queues have none.
_queues: dict[int, SimpleQueue[tuple[Work, int, Done]]] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_queues.clear)  # threads don't come along


def share(work: Work, parts: int) -> None:
    """Do ``work(0)`` to ``work(parts - 1)``, each on one thread, with torch's products on that thread, too.

    So what is computed doesn't depend on the number of threads, which is torch's: the user's ``OMP_NUM_THREADS``.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for part in range(parts):
            work(part)
        return
    if threads not in _queues:
        queue: SimpleQueue[tuple[Work, int, Done]] = SimpleQueue()
        for number in range(threads):
            threading.Thread(target=_serve, args=(queue,), name=f"qvae-chains-{number}", daemon=True).start()
        _queues[threads] = queue
    done: Done = SimpleQueue()
    try:
        for part in range(parts):
            _queues[threads].put((work, part, done))
        failures = [done.get() for _ in range(parts)]
    finally:
        torch.set_num_threads(threads)  # each thread has its own number, but the last one set holds for threads to come
    for failure in failures:
        if failure is not None:
            raise failure


def _serve(queue: SimpleQueue[tuple[Work, int, Done]]) -> None:
    """Do parts of work, one after the other, for ever."""
    is_alone = False
    while True:
        work, part, done = queue.get()
        try:
            if not is_alone:
                torch.get_num_threads()  # else this thread's first product would set it anew
                torch.set_num_threads(1)
                is_alone = True
            work(part)
        except BaseException as error:
            done.put(error)
        else:
            done.put(None)
        del work, done  # and what they hold, while there is nothing to do
