"""Memory: whether there is enough for something, before it is asked for, and keeping what was freed for the next step.

The system would rather kill the process than refuse.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import sys
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from qvae.errors import QvaeError, RunError

if TYPE_CHECKING:
    import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # numbers of the parameters in glibc's malloc.h
_USUAL_PAD = 2**17  # of the second
_KEPT = 2**30  # bytes at the end of the heap: more than the tensors of a step that is short enough to gain from it
_LARGE = 2**26  # bytes of a block that still goes back to the system when it is freed, wherever it lies
_HUGE = 2**21  # bytes of a huge page
_LEARNT = 2**25 - 2**16  # bytes of the largest block whose freeing glibc's allocator learns from, and its own
_OF_USERS = ("MALLOC_", "GLIBC_TUNABLES")  # beginnings of variables by which a user sets the allocator


def require_memory(
    num_bytes: float, what: str, remedy: str, error: type[QvaeError] = RunError, device: torch.device | None = None
) -> None:
    """Raise ``error`` if something takes more memory than this machine, or its GPU, has.

    Args:
        num_bytes: that it takes.
        what: it is, as the beginning of a sentence.
        remedy: a clause.
        error: what is raised.
        device: where it is; None is the machine itself.

    >>> require_memory(1e15, "the model", "lower model.network.hidden")
    Traceback (most recent call last):
    ...
    qvae.errors.RunError: the model takes 1,000,000.0 GB of memory, more than this machine has; lower model.network.hidden.
    """
    if num_bytes > memory_of(device):
        owner = "this machine" if device is None or device.type == "cpu" else str(device)
        raise error(f"{what} takes {num_bytes / 1e9:,.1f} GB of memory, more than {owner} has; {remedy}.")


def memory_of(device: torch.device | None) -> int:
    """Bytes of a GPU's memory, or of what this process may have of the machine's."""
    if device is None or device.type != "cuda":
        return total_memory()
    import torch

    return torch.cuda.get_device_properties(device).total_memory


@cache
def total_memory() -> int:
    """Bytes of memory that this process may have: the machine's, or its control group's, if that is less."""
    if not hasattr(os, "sysconf"):  # Windows, which doesn't kill for it
        return sys.maxsize
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no control group, or "max"
        return found
    return min(found, limit)


def keep_freed_memory() -> None:
    """Have glibc's allocator keep the memory that a step frees, for the next step; elsewhere, nothing.

    By default it returns blocks of some megabytes at once, and the system clears every page anew: a step of a 10-qubit
    circuit at batch 256 takes 30 ms so, and 24 ms otherwise. What is kept lies in huge pages, where the system has them. It is
    a setting of the whole process, for programs to make and not for libraries; one that the user has made, by a variable as
    MALLOC_TRIM_THRESHOLD_, stays.
    """
    if not _has_glibc() or any(name.startswith(_OF_USERS) for name in os.environ):
        return
    libc = ctypes.CDLL(None)
    for parameter, value in ((_TRIM_THRESHOLD, _KEPT), (_MMAP_THRESHOLD, _LARGE)):
        libc.mallopt(parameter, value)
    _ask_for_huge_pages(libc)


def _has_glibc() -> bool:
    try:
        return bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except (AttributeError, ValueError, OSError):  # another system, or musl, which knows the name and has no version
        return False


def _ask_for_huge_pages(libc: ctypes.CDLL) -> None:
    """Let the heap grow by half of what it keeps, untouched, and ask for huge pages there: addresses are found in fewer.

    A training step of mnist takes 2 to 3 % less time so. A mapping that grew bit by bit would have them in its first bit alone.
    """
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return
    libc.malloc.restype = libc.sbrk.restype = ctypes.c_void_p
    began = -(-libc.sbrk(0) // _HUGE) * _HUGE
    libc.mallopt(_TOP_PAD, _KEPT // 2)  # as large as what is kept it would go back at once
    libc.free(ctypes.c_void_p(libc.malloc(ctypes.c_size_t(_LARGE // 2))))
    libc.mallopt(_TOP_PAD, _USUAL_PAD)
    grown = libc.sbrk(0) - began
    if grown > 0:
        libc.madvise(ctypes.c_void_p(began), ctypes.c_size_t(grown), mmap.MADV_HUGEPAGE)  # refused, all is as it was


def expect_large_blocks() -> None:
    """Show glibc's allocator a block of 32 MB that comes and goes, as any program with such a tensor does.

    It keeps what is freed up to twice the size of the largest block that it has seen freed. States of half a megabyte would
    else go back to the system at the end of every step: one of 150 gates on 10 qubits takes 18 ms so, and 14 ms otherwise.
    The block isn't touched, and so costs nothing; settings of the user stay as they are.
    """
    import torch

    torch.empty(_LEARNT, dtype=torch.uint8)
