"""An update of weights compiled by numba, which is imported here: :mod:`qvae.training.optimizers.halves` asks for this module.

Numbers in bfloat16 are words of 16 bits, the upper half of a number in float32, as in :mod:`qvae.models.fused`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from qvae.ising.compiling import OPTIONS, compiled
from qvae.models.fused import read

_f32, _u16, _u32 = np.float32, np.uint16, np.uint32
_SINGLE, _HALF = types.Array(types.float32, 2, "C"), types.Array(types.uint16, 2, "C")


@njit(**OPTIONS)
def _to_half(value: Any) -> Any:
    """As torch rounds it: of two numbers that are as near, to the even one."""
    word = _f32(value).view(_u32)
    return _u16(_u32(word + _u32(0x7FFF) + _u32(_u32(word >> _u32(16)) & _u32(1))) >> _u32(16))


@njit(forceinline=True, **OPTIONS)
def _move(
    w: Any, half: Any, g: Any, mean: Any, square: Any, kept: Any, rate: Any, by1: Any, by2: Any, scale: Any, eps: Any
) -> None:
    for c in range(w.size):
        gradient = read(g[c])
        mean[c] += by1 * (gradient - mean[c])
        square[c] += by2 * (gradient * gradient - square[c])
        w[c] = kept * w[c] - rate * mean[c] / (scale * np.sqrt(square[c]) + eps)
        half[c] = _to_half(w[c])


@compiled(types.void(_SINGLE, _HALF, _HALF, _SINGLE, _SINGLE, *6 * (types.float32,)))
def adamw(
    w: Any, half: Any, g: Any, mean: Any, square: Any, kept: Any, rate: Any, by1: Any, by2: Any, scale: Any, eps: Any
) -> None:
    """Move weights w (M, N) and their copy in bfloat16 by a gradient g, with moving averages of it and of its square.

    w becomes kept w - rate mean / (scale sqrt(square) + eps), after the averages have gone so far, by1 and by2, towards g.
    """
    for r in range(w.shape[0]):
        _move(w[r], half[r], g[r], mean[r], square[r], kept, rate, by1, by2, scale, eps)
