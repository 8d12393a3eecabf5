"""Which kernels sweep: numba's on a CPU and Triton's on CUDA, where these are installed, and torch's everywhere else."""

from __future__ import annotations

import functools
import gc
import importlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from types import ModuleType

import torch

_log = logging.getLogger(__name__)
SWITCH = "QVAE_KERNELS"
"""The environment variable that is read at every call: ``torch`` switches the other kernels off."""

_ON_CUDA: Mapping[str, str] = {"ising.fused": "ising.triton_sweeps", "ising.fused_lines": "ising.triton_lines"}
"""Modules of Triton's kernels, by those of numba's that do the same."""


def are_switched_off() -> bool:
    """Whether torch is to do everything, each time anew: ``QVAE_KERNELS=torch``."""
    return os.environ.get(SWITCH) == "torch"


def kernels(device: torch.device, name: str = "ising.fused") -> ModuleType | None:
    """:mod:`qvae.ising.fused`, or that of another ``name``, on CUDA what does the same there; None where torch's kernels serve.

    They serve on other devices, where numba or Triton is missing or doesn't fit, and where ``QVAE_KERNELS=torch``.
    All draw from the same distributions, but other numbers from the same seed.
    """
    if are_switched_off():
        return None
    if device.type == "cpu":
        return _loaded(name)
    return _loaded(_ON_CUDA[name], "triton") if device.type == "cuda" and name in _ON_CUDA else None


def name_of_kernels(device: torch.device) -> str:
    """``numba``, ``triton`` or ``torch``, whichever :func:`kernels` says: from one seed they draw different numbers."""
    return "torch" if kernels(device) is None else "numba" if device.type == "cpu" else "triton"


@functools.cache
def _loaded(name: str, compiler: str = "numba") -> ModuleType | None:
    """What ``compiler`` compiles, or has compiled before: first here, since loading it takes time."""
    collects = gc.isenabled()
    gc.disable()  # of all that a compiler makes nothing is garbage, and searching it takes a third of the time
    try:
        return _load(name, compiler)
    finally:
        if collects:
            gc.enable()


def _load(name: str, compiler: str) -> ModuleType | None:
    try:
        return _LOADERS[compiler](name) if _has(compiler) else None
    except Exception as error:
        _log.warning("%s can't compile the kernels (%s); torch's, which are slower, serve", compiler, type(error).__name__)
        return None


def _load_numba(name: str) -> ModuleType:
    began = time.perf_counter()
    found = importlib.import_module(f"qvae.{name}")
    new = importlib.import_module("qvae.ising.compiling").new_kernels
    if new:
        new.clear()
        seconds = time.perf_counter() - began
        _log.warning("numba compiled kernels in %.1f s, and won't again where it could keep them on disk", seconds)
    return found


def _load_triton(name: str) -> ModuleType:
    """It compiles at a kernel's first call: whether it can, which takes a compiler of C, is tried with a small one."""
    importlib.import_module("qvae.ising.triton_bits").draw_one()
    return importlib.import_module(f"qvae.{name}")


_LOADERS: Mapping[str, Callable[[str], ModuleType]] = {"numba": _load_numba, "triton": _load_triton}


def _has(compiler: str) -> bool:
    """Whether it is there and fits this Python and numpy; one without its compiler's library raises an OSError."""
    try:
        importlib.import_module(compiler)
    except ImportError:
        return False
    return True


def random_words(generator: torch.Generator | None) -> tuple[int, int]:
    """Two random words of 64 bits, from which the streams of a call's chains start: there is no other random state to keep."""
    first, second = random_word_tensor(generator).tolist()
    return first, second


def random_word_tensor(generator: torch.Generator | None) -> torch.Tensor:
    """Those words as a tensor (2,), which can be drawn again in its place."""
    return torch.empty(2, dtype=torch.int64).random_(-(2**63), None, generator=generator).view(torch.uint64)
