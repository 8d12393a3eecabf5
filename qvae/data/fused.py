"""Bits drawn from grey levels by a pass that numba compiles: :func:`qvae.data.grey.draw_quickly` asks for it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from qvae.ising.compiling import OPTIONS, compiled
from qvae.ising.fused import next_word, seed

_f32, _i32, _u32 = np.float32, np.int32, np.uint32
_LEVELS = _u32(0x7FFF)  # fifteen bits, as many as a code has


@njit(forceinline=True, **OPTIONS)
def _draw_row(codes: Any, s: Any, out: Any) -> None:
    pairs = codes.size // 2
    for c in range(pairs):  # two pixels, half a row apart, from each word
        drawn, s[0, c], s[1, c], s[2, c], s[3, c] = next_word(s[0, c], s[1, c], s[2, c], s[3, c])
        out[c] = _f32(1) if _i32(drawn & _LEVELS) <= _i32(codes[c]) else _f32(0)
        out[c + pairs] = _f32(1) if _i32(drawn >> _u32(17)) <= _i32(codes[c + pairs]) else _f32(0)
    if codes.size % 2:
        c = pairs
        drawn, s[0, c], s[1, c], s[2, c], s[3, c] = next_word(s[0, c], s[1, c], s[2, c], s[3, c])
        out[-1] = _f32(1) if _i32(drawn & _LEVELS) <= _i32(codes[-1]) else _f32(0)


@compiled(types.void(types.Array(types.int16, 2, "C"), types.uint64, types.uint64, types.Array(types.float32, 2, "C")))
def draw(codes: Any, key: Any, other_key: Any, out: Any) -> None:
    """Write 1 where fifteen random bits are no larger than the code, else 0, (N, D); streams start from a call's two words."""
    streams = np.empty((4, (codes.shape[1] + 1) // 2), np.uint32)
    seed(streams, key, other_key, 0)
    for r in range(codes.shape[0]):
        _draw_row(codes[r], streams, out[r])
