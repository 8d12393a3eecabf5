"""Which kernels sweep on a CPU: those that numba compiles, where it is installed, and torch's everywhere else."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import time
from types import ModuleType

import torch

_log = logging.getLogger(__name__)
SWITCH = "QVAE_KERNELS"
"""The environment variable that is read at every call: ``torch`` switches numba's kernels off."""


def kernels(device: torch.device, name: str = "ising.fused") -> ModuleType | None:
    """:mod:`qvae.ising.fused`, or that of another ``name``, or None where torch's kernels serve.

    They serve on other devices, where numba is missing or doesn't fit this Python or numpy, and where ``QVAE_KERNELS=torch``.
    Both draw from the same distributions, but other numbers from the same seed.
    """
    if device.type != "cpu" or os.environ.get(SWITCH) == "torch":
        return None
    return _loaded(name)


def name_of_kernels(device: torch.device) -> str:
    """``numba`` or ``torch``, whichever :func:`kernels` says: from one seed they draw different numbers."""
    return "torch" if kernels(device) is None else "numba"


@functools.cache
def _loaded(name: str) -> ModuleType | None:
    """Numba and what it compiles, or has compiled before: first here, since that takes time."""
    collects = gc.isenabled()
    gc.disable()  # of all that numba makes nothing is garbage, and searching it takes a third of the time
    try:
        return _load(name)
    finally:
        if collects:
            gc.enable()


def _load(name: str) -> ModuleType | None:
    began = time.perf_counter()
    try:
        if not _has_numba():
            return None
        found = importlib.import_module(f"qvae.{name}")
        new = importlib.import_module("qvae.ising.compiling").new_kernels
    except Exception as error:
        _log.warning("numba can't compile the kernels (%s); torch's, which are slower, serve", type(error).__name__)
        return None
    if new:
        new.clear()
        seconds = time.perf_counter() - began
        _log.warning("numba compiled kernels in %.1f s, and won't again where it could keep them on disk", seconds)
    return found


def _has_numba() -> bool:
    """Whether it is there and fits this Python and numpy; one without its compiler's library raises an OSError."""
    try:
        importlib.import_module("numba")
    except ImportError:
        return False
    return True


def random_words(generator: torch.Generator | None) -> tuple[int, int]:
    """Two random words of 64 bits, from which the streams of a call's chains start: there is no other random state to keep."""
    first, second = torch.empty(2, dtype=torch.int64).random_(-(2**63), None, generator=generator).tolist()
    return first % 2**64, second % 2**64
