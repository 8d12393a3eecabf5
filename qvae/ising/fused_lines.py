"""Cluster updates of world lines compiled by numba; see :class:`qvae.ising.world_lines.WorldLines` for what they do."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types

from qvae.ising.compiling import OPTIONS, compiled
from qvae.ising.fused import (
    COLUMNS,
    MATRIX,
    NUMBERS,
    PRODUCT,
    WORDS,
    copy_row,
    is_up,
    next_word,
    read_row,
    seed,
    sum_neighbours,
)

__all__ = ["seed", "sweep_lines", "turn"]

_f32, _i8, _u32 = np.float32, np.int8, np.uint32
_STEP, _HALF_STEP = _f32(2.0**-31), _f32(2.0**-32)
_LINES = types.Array(types.int8, 3, "C")

# Loops over chains, which the processor's vectors hold side by side; slices follow one another ------------------------


@njit(forceinline=True, **OPTIONS)
def _between(logits: Any, level: Any, base: Any, beta: Any) -> None:
    """From sums over neighbours to logits at beta."""
    for c in range(beta.size):
        logits[c] = base[c] + beta[c] * (logits[c] + level - base[c])


@njit(forceinline=True, **OPTIONS)
def _join(bits: Any, following: Any, cut: Any, s: Any, joined: Any, logits: Any, tail: Any, carried: Any, whole: Any) -> None:
    """Draw bonds of a slice with the next one, and gather logits since the last cut in ``tail``.

    Equal neighbours in imaginary time are joined with probability 1 - ``cut``; ``carried`` are the bonds with the slice before.
    """
    for c in range(tail.size):
        drawn, s[0, c], s[1, c], s[2, c], s[3, c] = next_word(s[0, c], s[1, c], s[2, c], s[3, c])
        before = tail[c]
        tail[c] = logits[c] + (before if carried[c] else _f32(0))
        u = _f32(np.int32(drawn >> _u32(1))) * _STEP + _HALF_STEP
        bond = _i8(1) if (bits[c] == following[c]) & (u >= cut) else _i8(0)
        joined[c] = bond
        whole[c] &= bond


@njit(forceinline=True, **OPTIONS)
def _open(joined: Any, whole: Any) -> None:
    """Cut lines that are closed upon themselves, after their last slice."""
    for c in range(whole.size):
        joined[c] &= _i8(1) - whole[c]


@njit(forceinline=True, **OPTIONS)
def _draw(logits: Any, sums: Any, carried: Any, s: Any, up: Any) -> None:
    """Sums since the last cut, and a value for those segments that end in this slice."""
    for c in range(sums.size):
        drawn, s[0, c], s[1, c], s[2, c], s[3, c] = next_word(s[0, c], s[1, c], s[2, c], s[3, c])
        before = sums[c]
        logit = logits[c] + (before if carried[c] else _f32(0))
        sums[c] = logit
        up[c] = _i8(1) if is_up(logit, drawn) else _i8(0)


@njit(forceinline=True, **OPTIONS)
def _carry_back(joined: Any, up: Any, value: Any) -> None:
    """The value of the segment that a slice belongs to, given that of the next slice."""
    for c in range(value.size):
        own, other = up[c], value[c]  # read before the choice, or the loop isn't vectorised
        value[c] = other if joined[c] else own


@njit(**OPTIONS)
def _turn_line(logits: Any, level: Any, cut: Any, base: Any, beta: Any, pinned: Any, s: Any, bits: Any) -> None:
    """Draw one world line, ``bits`` (P, chains), of sums over neighbours (P, chains), which become logits."""
    slices, chains = bits.shape
    joined, up = np.empty((slices, chains), np.int8), np.empty((slices, chains), np.int8)
    sums, value = np.zeros(chains, np.float32), np.empty(chains, np.int8)
    whole, never = np.ones(chains, np.int8), np.zeros(chains, np.int8)
    for k in range(slices):
        _between(logits[k], level, base, beta)
    if pinned.size:
        for c in range(chains):
            logits[0, c] += pinned[c]
    carried = never
    for k in range(slices):
        following = bits[0] if k == slices - 1 else bits[k + 1]
        _join(bits[k], following, cut, s, joined[k], logits[k], sums, carried, whole)
        carried = joined[k]
    # What a segment across the end has gathered before it is in ``sums``; once more around, from where segments began.
    _open(joined[slices - 1], whole)
    carried = joined[slices - 1]
    for k in range(slices):
        _draw(logits[k], sums, carried, s, up[k])
        carried = joined[k]
    copy_row(up[slices - 1], value)
    for k in range(slices - 2, -1, -1):
        _carry_back(joined[k], up[k], value)
    _carry_back(joined[slices - 1], up[slices - 1], value)
    copy_row(value, bits[slices - 1])
    for k in range(slices - 2, -1, -1):
        _carry_back(joined[k], up[k], value)
        copy_row(value, bits[k])


# Sweeps ---------------------------------------------------------------------------------------------------------------


def _turn_types(product: Any) -> Any:
    return types.void(product, COLUMNS, COLUMNS, COLUMNS, MATRIX, COLUMNS, MATRIX, WORDS, _LINES)


@compiled(_turn_types(MATRIX), _turn_types(PRODUCT))
def turn(product: Any, scale: Any, level: Any, cut: Any, base: Any, beta: Any, pinned: Any, streams: Any, lines: Any) -> None:
    """Draw the world lines of one block.

    Args:
        product, scale: sums over neighbours, as of :func:`qvae.ising.fused.draw`, a row all slices and chains.
        level, cut: (size,).
        base: (size, chains).
        beta: (chains,).
        pinned: (size, chains), added to the logits of slice 0, or of no columns.
        streams: of the chains, which go on.
        lines: bits (size, P, chains), read and written.
    """
    sums = np.empty(product.shape[1], np.float32)
    logits = sums.reshape(lines.shape[1], beta.size)
    for r in range(lines.shape[0]):
        read_row(product, r, scale, sums)
        _turn_line(logits, level[r], cut[r], base[r], beta, pinned[r], streams, lines[r])


@compiled(
    types.void(
        *(_LINES, types.int64, WORDS),
        *(NUMBERS, NUMBERS, NUMBERS, COLUMNS, COLUMNS, COLUMNS, MATRIX, COLUMNS, MATRIX),
    )
)
def sweep_lines(
    lines: Any,
    num_sweeps: Any,
    streams: Any,
    rows: Any,
    starts: Any,
    columns: Any,
    values: Any,
    level: Any,
    cut: Any,
    base: Any,
    beta: Any,
    pinned: Any,
) -> None:
    """Draw all world lines so many times, row by row.

    Args:
        lines: bits (n, P, chains), read and written.
        num_sweeps: how many times.
        streams: of the chains, which go on.
        rows: in the order of their updates.
        starts, columns, values: what each row is coupled to, and how, a multiple of four entries a row.
        level, cut: (n,).
        base, beta, pinned: as of :func:`turn`, of n rows.
    """
    n, slices, chains = lines.shape
    bits, sums = lines.reshape(n, slices * chains), np.empty(slices * chains, np.float32)
    logits = sums.reshape(slices, chains)
    for _ in range(num_sweeps):
        for row in rows:
            sum_neighbours(sums, row, starts, columns, values, _f32(0), bits)
            _turn_line(logits, level[row], cut[row], base[row], beta, pinned[row], streams, lines[row])
