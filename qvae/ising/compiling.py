"""How numba compiles passes, and what several of them need. Numba is imported here: :mod:`qvae.ising.compiled` asks for it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, version_info
from numba.core.caching import FunctionCache
from numba.core.runtime import rtsys

_f32, _i32 = np.float32, np.int32

# Products and sums may be contracted to one instruction, but keep their order, on which rounding by _TO_WHOLE rests.
OPTIONS: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "nsz"}}
new_kernels: list[str] = []
"""Names of those that weren't found on disk."""


_TRIED = (0, 61), (0, 68)  # versions of numba, from and to, whose kept code was seen to run without its tables


class _Kept(FunctionCache):
    """Code on disk, loaded without the tables of all that numba knows: they take as long as all else in a process's first call.

    numba fills them itself as soon as something is to be compiled.
    """

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        if not _TRIED[0] <= version_info.short <= _TRIED[1]:
            return super().load_overload(sig, target_context)
        rtsys.initialize(target_context)  # what code that asks for memory calls; ours calls nothing else
        with self._guard_against_spurious_io_errors():
            return self._load_overload(sig, target_context)


# numba looks for changes in a function's own file only: after one in another file, delete what it kept (*.nbi, *.nbc).


def compiled(*signatures: Any) -> Callable[[Any], Any]:
    """Compile for these types now; the code is kept on disk, where numba finds a place that can be written to."""

    def compile_(function: Any) -> Any:
        try:
            kernel = njit(**OPTIONS)(function)
            kernel._cache = _Kept(function)
            for signature in signatures:
                kernel.compile(signature)
            kernel.disable_compile()  # for other types, as numba does where it is told all at once
        except Exception:  # no such place, a full disk, or a damaged file
            kernel = njit(list(signatures), **OPTIONS)(function)
        if kernel.stats.cache_misses:
            new_kernels.append(function.__name__)
        return kernel

    return compile_


# 2^t: a polynomial of relative error 1e-7 for the fraction of t, its whole part into the exponent.
LOG2_E, LARGEST = _f32(1.4426950408889634), _f32(80.0)
_P0, _P1, _P2, _P3, _P4, _P5 = (
    _f32(c) for c in (1.00000007165, 0.693146967065, 0.240221197237, 0.0555071327186, 0.00967554134312, 0.0013276472632)
)
_TO_WHOLE = _f32(1.5 * 2.0**23)  # added to a small number, it rounds it, and leaves it in the last bits of the sum


@njit(inline="always")
def power_of_two(t: Any) -> Any:
    """2^t for t from -126 to 126."""
    rounded = t + _TO_WHOLE
    f = t - (rounded - _TO_WHOLE)
    power = ((((_P5 * f + _P4) * f + _P3) * f + _P2) * f + _P1) * f + _P0
    return _i32(_f32(power).view(_i32) + _i32(_f32(rounded).view(_i32) << _i32(23))).view(_f32)


@njit(inline="always")
def exp_minus(a: Any) -> Any:
    """exp(-a) for a >= 0, and never less than exp(-80)."""
    return power_of_two((LARGEST if a > LARGEST else a) * -LOG2_E)  # what is no number stays none
