"""Work on parts of the chains, shared out over as many threads as torch is given."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import torch

_pools: dict[int, ThreadPoolExecutor] = {}  # by their number of threads
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
    list(_pool(threads).map(work, range(parts)))


def _pool(threads: int) -> ThreadPoolExecutor:
    if threads not in _pools:
        everyone = threading.Barrier(threads)

        def begin() -> None:
            torch.get_num_threads()  # else the first product would set it anew
            torch.set_num_threads(1)
            everyone.wait()

        before = torch.get_num_threads()
        _pools[threads] = pool = ThreadPoolExecutor(threads, "qvae-chains", begin)
        list(pool.map(lambda part: None, range(threads)))
        torch.set_num_threads(before)  # the number is each thread's own, but the last one set holds for threads to come
    return _pools[threads]
