"""Work on parts of the chains, shared out over as many threads as torch is given."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: dict[int, ThreadPoolExecutor] = {}  # by their number of threads
_own = threading.local()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # threads don't come along


def share(work: Callable[[int], None], parts: int) -> None:
    """Do ``work(0)`` to ``work(parts - 1)``, each on one thread, with torch's products on that thread, too.

    So what is computed doesn't depend on the number of threads, which is torch's: the user's ``OMP_NUM_THREADS``.
    """
    threads = torch.get_num_threads()
    if threads == 1:
        for part in range(parts):
            work(part)
        return

    def alone(part: int) -> None:
        if not hasattr(_own, "is_set"):
            torch.get_num_threads()  # else this thread's first product would set it anew
            torch.set_num_threads(1)
            _own.is_set = True
        work(part)

    if threads not in _pools:
        _pools[threads] = ThreadPoolExecutor(threads, "qvae-chains")
    try:
        list(_pools[threads].map(alone, range(parts)))
    finally:
        torch.set_num_threads(threads)  # each thread has its own number, but the last one set holds for threads to come
