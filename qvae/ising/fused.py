"""Passes over bits of chains compiled by numba: random number, probability, comparison and bit in one.

Numba is imported here: :func:`qvae.ising.compiled.kernels` gives this module to whoever sweeps, or says that it can't be had.

Every chain has a generator of its own, xoshiro128++ (Blackman and Vigna 2021, ACM Trans. Math. Softw. 47, 36), whose four words
are a column of ``streams``. What it draws doesn't depend on the chains beside it, so that threads can share them out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from qvae.ising.compiling import OPTIONS, compiled, exp_minus

_f32, _i8, _i32, _u32, _u64 = np.float32, np.int8, np.int32, np.uint32, np.uint64

WORDS, COLUMNS = types.Array(types.uint32, 2, "C"), types.Array(types.float32, 1, "C")


# Random bits ----------------------------------------------------------------------------------------------------------

_GOLDEN = _u64(0x9E3779B97F4A7C15)


@njit(inline="always")
def _mixed(word: Any) -> Any:
    """The finalizer of splitmix64 (Steele, Lea and Flood 2014): 64 bits that look independent for neighbouring words."""
    word = (word ^ (word >> _u64(30))) * _u64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> _u64(27))) * _u64(0x94D049BB133111EB)
    return word ^ (word >> _u64(31))


@compiled(types.void(WORDS, types.uint64, types.uint64, types.int64))
def seed(streams: Any, key: Any, other_key: Any, first: Any) -> None:
    """Start ``streams`` (4, chains) of the chains ``first`` and following from a call's two random words."""
    for chain in range(streams.shape[1]):
        place = _GOLDEN * _u64(first + chain + 1)
        one, other = _mixed(key + place), _mixed(other_key + place)
        streams[0, chain], streams[1, chain] = _u32(one), _u32(one >> _u64(32))
        streams[2, chain], streams[3, chain] = _u32(other), _u32(other >> _u64(32))


# numba makes 64 bits of every operation on 32, in silence: each is cast back.


@njit(inline="always")
def _rotated(word: Any, places: int) -> Any:
    return _u32(_u32(word << _u32(places)) | _u32(word >> _u32(32 - places)))


@njit(inline="always")
def next_word(s0: Any, s1: Any, s2: Any, s3: Any) -> Any:
    """32 random bits and the state after them."""
    drawn = _u32(_rotated(_u32(s0 + s3), 7) + s0)
    shifted = _u32(s1 << _u32(9))
    s2 = _u32(s2 ^ s0)
    s3 = _u32(s3 ^ s1)
    s1 = _u32(s1 ^ s2)
    s0 = _u32(s0 ^ s3)
    return drawn, s0, s1, _u32(s2 ^ shifted), _rotated(s3, 11)


_STEP, _HALF_STEP = _f32(2.0**-31), _f32(2.0**-32)


@njit(inline="always")
def is_up(logit: Any, drawn: Any) -> Any:
    """Whether a bit of this logit is 1, by 32 random bits.

    The less likely value comes with probability e / (1 + e), e = exp(-|logit|), to a relative 1e-6, for the smallest ones, too,
    and never beyond |logit| = 23: u + u e < e, where u is a multiple of 2^-31 and a half of it.
    """
    e = exp_minus(abs(logit))
    u = _f32(_i32(drawn >> _u32(1))) * _STEP + _HALF_STEP
    return (logit > _f32(0)) != (u * e + u < e)


# Dense blocks ---------------------------------------------------------------------------------------------------------


@njit(**OPTIONS)
def copy_row(source: Any, target: Any) -> None:
    for c in range(source.size):
        target[c] = source[c]


DIGIT = 255  # of two digits from -127 to 127, the first one's worth

_SMALLEST = _f32(1e-30)  # weights below it count as 0
MATRIX, PRODUCT = types.Array(types.float32, 2, "C"), types.Array(types.int32, 2, "C")


@compiled(types.void(MATRIX, types.Array(types.int8, 2, "C"), COLUMNS))
def split(weights: Any, digits: Any, scale: Any) -> None:
    """Write weights (rows, n) as scale times (255 first + second digit), each row to a 64,000th of its largest one.

    Args:
        weights: (rows, n).
        digits: of all rows the first ones, then the second ones, (2 rows, n), to be written.
        scale: (rows,), to be written.
    """
    rows, n = weights.shape
    for r in range(rows):
        largest = _f32(0)
        for k in range(n):
            largest = max(largest, abs(weights[r, k]))
        scale[r] = largest / _f32(127 * DIGIT + 127)
        inverse = _f32(1) / scale[r] if largest > _SMALLEST else _f32(0)
        for k in range(n):
            whole = np.rint(weights[r, k] * inverse)
            first = np.rint(whole / _f32(DIGIT))
            digits[r, k], digits[rows + r, k] = _i8(first), _i8(whole - first * _f32(DIGIT))


@njit(forceinline=True, **OPTIONS)
def _join(first: Any, second: Any, scale: Any, sums: Any) -> None:
    for c in range(sums.size):
        sums[c] = scale * (_f32(DIGIT) * _f32(first[c]) + _f32(second[c]))


def read_row(product: Any, row: Any, scale: Any, sums: Any) -> None:
    """Copy a row of a product, of numbers in float32 or, in int32, of the two digits of :func:`split`."""


@overload(read_row)
def _read_row_of(product: Any, row: Any, scale: Any, sums: Any) -> Any:
    def of_digits(product: Any, row: Any, scale: Any, sums: Any) -> None:
        _join(product[row], product[product.shape[0] // 2 + row], scale[row], sums)

    def of_numbers(product: Any, row: Any, scale: Any, sums: Any) -> None:
        copy_row(product[row], sums)

    return of_digits if product.dtype == types.int32 else of_numbers


@njit(forceinline=True, **OPTIONS)
def _draw_row(sums: Any, level: Any, base: Any, beta: Any, s: Any, bits: Any) -> None:
    for c in range(beta.size):
        drawn, s[0, c], s[1, c], s[2, c], s[3, c] = next_word(s[0, c], s[1, c], s[2, c], s[3, c])
        bits[c] = _i8(1) if is_up(base + beta[c] * (sums[c] + level), drawn) else _i8(0)


def _draw_types(product: Any) -> Any:
    return types.void(product, COLUMNS, COLUMNS, COLUMNS, COLUMNS, WORDS, types.Array(types.int8, 2, "C"))


@compiled(_draw_types(MATRIX), _draw_types(PRODUCT))
def draw(product: Any, scale: Any, level: Any, base: Any, beta: Any, streams: Any, bits: Any) -> None:
    """Draw ``bits`` (rows, chains) of the logits base + beta (product + level).

    Args:
        product: (rows, chains) in float32, or of :func:`split`'s digits (2 rows, chains) in int32.
        scale: of digits, (rows,).
        level, base: (rows,).
        beta: (chains,).
        streams: of the chains, which go on.
        bits: to be written.
    """
    sums = np.empty(beta.size, np.float32)
    for r in range(bits.shape[0]):
        read_row(product, r, scale, sums)
        _draw_row(sums, level[r], base[r], beta, streams, bits[r])


# Any blocks -----------------------------------------------------------------------------------------------------------

NUMBERS = types.Array(types.int32, 1, "C")


@njit(forceinline=True, **OPTIONS)
def _add_four(sums: Any, w0: Any, w1: Any, w2: Any, w3: Any, x0: Any, x1: Any, x2: Any, x3: Any) -> None:
    for c in range(sums.size):
        first = (w0 if x0[c] else _f32(0)) + (w1 if x1[c] else _f32(0))
        sums[c] += first + ((w2 if x2[c] else _f32(0)) + (w3 if x3[c] else _f32(0)))


@njit(forceinline=True, **OPTIONS)
def sum_neighbours(sums: Any, row: Any, starts: Any, columns: Any, values: Any, level: Any, bits: Any) -> None:
    for c in range(sums.size):
        sums[c] = level
    for e in range(starts[row], starts[row + 1], 4):
        i, j, k, m = columns[e], columns[e + 1], columns[e + 2], columns[e + 3]
        _add_four(sums, values[e], values[e + 1], values[e + 2], values[e + 3], bits[i], bits[j], bits[k], bits[m])


@compiled(
    types.void(
        *(types.Array(types.int8, 2, "C"), types.int64, types.int64, types.uint64, types.uint64, types.int64),
        *(NUMBERS, NUMBERS, NUMBERS, COLUMNS, COLUMNS, COLUMNS, COLUMNS),
    )
)
def sweep(
    state: Any,
    first: Any,
    stop: Any,
    key: Any,
    other_key: Any,
    num_sweeps: Any,
    rows: Any,
    starts: Any,
    columns: Any,
    values: Any,
    level: Any,
    base: Any,
    beta: Any,
) -> None:
    """Draw the bits of some chains so many times, row by row, of logits from base, at beta 0, to sums of neighbours + level.

    Args:
        state: bits (n, chains), int8, read and written.
        first, stop: of the chains.
        key, other_key: a call's two random words.
        num_sweeps: how many times.
        rows: in the order of their updates.
        starts, columns, values: what each row is coupled to, and how, a multiple of four entries a row.
        level, base: (n,).
        beta: (chains,).
    """
    n, chains = state.shape[0], stop - first
    width = (chains + 15) // 16 * 16  # what doesn't fill the processor's vectors would be drawn one by one
    bits, streams, betas = np.zeros((n, width), np.int8), np.empty((4, width), np.uint32), np.ones(width, np.float32)
    seed(streams, key, other_key, first)
    copy_row(beta[first:stop], betas)
    # Loops, since numba takes seconds to compile the assignment of a slice.
    for row in range(n):
        copy_row(state[row, first:stop], bits[row])
    none, sums = _f32(0), np.empty(width, np.float32)
    for _ in range(num_sweeps):
        for row in rows:
            sum_neighbours(sums, row, starts, columns, values, level[row] - base[row], bits)
            _draw_row(sums, none, base[row], betas, streams, bits[row])
    for row in range(n):
        copy_row(bits[row, :chains], state[row, first:stop])


@njit(forceinline=True, **OPTIONS)
def _add_raised(bits: Any, level: Any, share: Any, sums: Any, total: Any) -> None:
    for c in range(total.size):
        raised = level + share * sums[c]
        total[c] += raised if bits[c] else _f32(0)


@compiled(
    types.void(
        *(types.Array(types.int8, 2, "C"), types.int64, types.int64),
        *(NUMBERS, NUMBERS, COLUMNS, COLUMNS, COLUMNS, COLUMNS),
    )
)
def raised(
    state: Any, first: Any, stop: Any, starts: Any, columns: Any, values: Any, level: Any, share: Any, total: Any
) -> None:
    """What raised bits add to a total: of some chains, the sum of level + share times sum of neighbours over those that are 1.

    Args:
        state: bits (n, chains), int8.
        first, stop: of the chains.
        starts, columns, values: as of :func:`sweep`.
        level, share: (n,).
        total: (chains,), of which these are written.
    """
    n, chains = state.shape[0], stop - first
    bits = np.zeros((n, (chains + 15) // 16 * 16), np.int8)
    for row in range(n):
        copy_row(state[row, first:stop], bits[row])
    sums, found = np.zeros(bits.shape[1], np.float32), np.zeros(bits.shape[1], np.float32)
    for row in range(n):
        if share[row] != 0:
            sum_neighbours(sums, row, starts, columns, values, _f32(0), bits)
        _add_raised(bits[row], level[row], share[row], sums, found)
    copy_row(found[:chains], total[first:stop])
