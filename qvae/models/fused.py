"""Passes over activations compiled by numba: what a training step does besides products, and its derivatives.

Numba is imported here; :mod:`qvae.models.passes` says what each pass computes for whom, and asks for this module.

Rows of a batch are read and written whole, so that the processor's vectors hold neighbouring columns. Numbers in bfloat16, of
which numpy has none, are words of 16 bits: the upper half of a number in float32. All arithmetic is in float32.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from qvae.ising.compiling import LARGEST, LOG2_E, OPTIONS, compiled, exp_minus, power_of_two
from qvae.ising.fused import next_word, seed

_f32, _i32, _u16, _u32, _u64 = np.float32, np.int32, np.uint16, np.uint32, np.uint64
_SINGLE, _HALF = types.Array(types.float32, 2, "C"), types.Array(types.uint16, 2, "C")
_COLUMNS = types.Array(types.float32, 1, "C")


def read(stored: Any) -> Any:
    """A stored number in float32."""


@overload(read)
def _read_as(stored: Any) -> Any:
    def half(stored: Any) -> Any:
        return _i32(_i32(stored) << _i32(16)).view(_f32)

    def single(stored: Any) -> Any:
        return stored

    return half if stored == types.uint16 else single


def rounded(value: Any, like: Any) -> Any:
    """The number nearest to a value that is stored as ``like``; halves are rounded away from 0."""


@overload(rounded)
def _rounded_as(value: Any, like: Any) -> Any:
    def half(value: Any, like: Any) -> Any:
        return _u16(_u32(_f32(value).view(_u32) + _u32(0x8000)) >> _u32(16))

    def single(value: Any, like: Any) -> Any:
        return value

    return half if like == types.uint16 else single


@njit(**OPTIONS)
def _one_and_exp_minus(x: Any) -> Any:
    """1 + exp(-x), with x between -80 and 80; what is no number stays none."""
    bounded = LARGEST if x > LARGEST else x
    return _f32(1) + power_of_two((-LARGEST if bounded < -LARGEST else bounded) * -LOG2_E)


# Batch norm and SiLU --------------------------------------------------------------------------------------------------


@njit(forceinline=True, **OPTIONS)
def _add(x: Any, shift: Any, total: Any) -> None:
    for c in range(x.size):
        total[c] += read(x[c]) - shift[c]


@njit(forceinline=True, **OPTIONS)
def _add_square(x: Any, shift: Any, total: Any) -> None:
    for c in range(x.size):
        total[c] += (read(x[c]) - shift[c]) ** 2


def _moments_types(x: Any) -> Any:
    return types.void(x, _COLUMNS, _COLUMNS)


@compiled(_moments_types(_SINGLE), _moments_types(_HALF))
def moments(x: Any, mean: Any, variance: Any) -> None:
    """Write means and variances of the columns of x (B, C); those of equal numbers are exact."""
    rows, columns = x.shape
    for c in range(columns):
        variance[c], mean[c] = read(x[0, c]), _f32(0)  # numbers are summed less the first one
    for r in range(1, rows):
        _add(x[r], variance, mean)
    for c in range(columns):
        mean[c], variance[c] = variance[c] + mean[c] / _f32(rows), _f32(0)
    for r in range(rows):
        _add_square(x[r], mean, variance)
    for c in range(columns):
        variance[c] /= _f32(rows)


@njit(forceinline=True, **OPTIONS)
def _activate(x: Any, mean: Any, factor: Any, bias: Any, out: Any, slope: Any) -> None:
    for c in range(x.size):
        y = (read(x[c]) - mean[c]) * factor[c] + bias[c]
        s = _f32(1) / _one_and_exp_minus(y)
        out[c] = rounded(y * s, out[c])
        slope[c] = s + y * (s - s * s)


def _forward_types(x: Any) -> Any:
    return types.void(x, *4 * (_COLUMNS,), *3 * (types.float32,), _COLUMNS, _COLUMNS, x, _SINGLE)


@compiled(_forward_types(_SINGLE), _forward_types(_HALF))
def normalise_and_activate(
    x: Any,
    mean: Any,
    rate: Any,
    weight: Any,
    bias: Any,
    rows: Any,
    eps: Any,
    momentum: Any,
    running_mean: Any,
    running_var: Any,
    out: Any,
    slope: Any,
) -> None:
    """Write SiLU(y) and its slope at y = weight (x - mean) rate + bias of x (B, C), a part of so many ``rows`` of a batch.

    ``rate`` holds the variances of columns, and is given 1/sqrt(variance + eps). Running statistics go so far towards those of
    the batch, the variance without its bias.
    """
    factor = np.empty_like(rate)
    for c in range(rate.size):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_var[c] += momentum * (rate[c] * (rows / (rows - _f32(1))) - running_var[c])
        rate[c] = _f32(1) / np.sqrt(rate[c] + eps)
        factor[c] = weight[c] * rate[c]
    for r in range(x.shape[0]):
        _activate(x[r], mean, factor, bias, out[r], slope[r])


@njit(forceinline=True, **OPTIONS)
def _add_gradients(x: Any, g: Any, slope: Any, mean: Any, total: Any, along: Any) -> None:
    for c in range(x.size):
        pulled = read(g[c]) * slope[c]
        total[c] += pulled
        along[c] += pulled * (read(x[c]) - mean[c])


def _sums_types(x: Any) -> Any:
    return types.void(x, x, _SINGLE, *4 * (_COLUMNS,))


@compiled(_sums_types(_SINGLE), _sums_types(_HALF))
def gradient_sums(x: Any, g: Any, slope: Any, mean: Any, rate: Any, in_weight: Any, in_bias: Any) -> None:
    """Write what :func:`normalise_and_activate` makes of a gradient g (B, C) in weight and in bias, sums over these rows."""
    for c in range(mean.size):
        in_weight[c] = in_bias[c] = _f32(0)
    for r in range(x.shape[0]):
        _add_gradients(x[r], g[r], slope[r], mean, in_bias, in_weight)
    for c in range(mean.size):
        in_weight[c] *= rate[c]


@njit(forceinline=True, **OPTIONS)
def _pull_back(x: Any, g: Any, slope: Any, mean: Any, factor: Any, by_mean: Any, by_slope: Any, out: Any) -> None:
    for c in range(x.size):
        pulled = factor[c] * (read(g[c]) * slope[c])
        out[c] = rounded(pulled - by_mean[c] - (read(x[c]) - mean[c]) * by_slope[c], out[c])


def _backward_types(x: Any) -> Any:
    return types.void(x, x, _SINGLE, *5 * (_COLUMNS,), types.float32, x)


@compiled(_backward_types(_SINGLE), _backward_types(_HALF))
def pull_back(
    x: Any, g: Any, slope: Any, mean: Any, rate: Any, weight: Any, in_weight: Any, in_bias: Any, rows: Any, in_x: Any
) -> None:
    """Write what :func:`normalise_and_activate` makes of a gradient g (B, C) in x, (B, C), from sums over so many ``rows``."""
    factor, by_mean, by_slope = np.empty_like(mean), np.empty_like(mean), np.empty_like(mean)
    for c in range(mean.size):
        factor[c] = weight[c] * rate[c]
        by_mean[c], by_slope[c] = factor[c] * in_bias[c] / rows, factor[c] * in_weight[c] * rate[c] / rows
    for r in range(x.shape[0]):  # g slope once more: to keep it would need more memory than is near
        _pull_back(x[r], g[r], slope[r], mean, factor, by_mean, by_slope, in_x[r])


# A bias ---------------------------------------------------------------------------------------------------------------


@njit(forceinline=True, **OPTIONS)
def _add_bias(x: Any, bias: Any, out: Any) -> None:
    for c in range(bias.size):
        out[c] = read(x[c]) + bias[c]


@compiled(types.void(_SINGLE, _COLUMNS, _SINGLE), types.void(_HALF, _COLUMNS, _SINGLE))
def add_bias(x: Any, bias: Any, out: Any) -> None:
    """Write x + bias of x (B, C)."""
    for r in range(x.shape[0]):
        _add_bias(x[r], bias, out[r])


@njit(forceinline=True, **OPTIONS)
def _sum_and_store(g: Any, total: Any, out: Any) -> None:
    for c in range(g.size):
        total[c] += g[c]
        out[c] = rounded(g[c], out[c])


@compiled(types.void(_SINGLE, _COLUMNS, _SINGLE), types.void(_SINGLE, _COLUMNS, _HALF))
def sum_and_store(g: Any, in_bias: Any, in_x: Any) -> None:
    """Write what :func:`add_bias` makes of a gradient g (B, C) in the bias, (C,), and in x, (B, C)."""
    for c in range(in_bias.size):
        in_bias[c] = _f32(0)
    for r in range(g.shape[0]):
        _sum_and_store(g[r], in_bias, in_x[r])


# Functions of logits, and their sums over a row -----------------------------------------------------------------------

# log(1 + e) / e for e from 0 to 1, to a relative 2e-8.
_L0, _L1, _L2, _L3, _L4 = (_f32(c) for c in (0.999999981069, -0.499993527232, 0.333165514248, -0.248269700565, 0.190567861125))
_L5, _L6, _L7, _L8 = (_f32(c) for c in (-0.135809043106, 0.0774633199419, -0.0291392503231, 0.00516203837359))


@njit(**OPTIONS)
def _log1p(e: Any) -> Any:
    high = ((((_L8 * e + _L7) * e + _L6) * e + _L5) * e + _L4) * e
    return ((((high + _L3) * e + _L2) * e + _L1) * e + _L0) * e


@njit(nogil=True, fastmath={"reassoc"})
def _sum(values: Any) -> Any:
    total = _f32(0)
    for c in range(values.size):
        total += values[c]
    return total


@njit(forceinline=True, **OPTIONS)
def _log_probabilities(logits: Any, x: Any, terms: Any, slope: Any) -> None:
    for c in range(logits.size):
        e = exp_minus(abs(logits[c]))
        s = (_f32(1) if logits[c] > _f32(0) else e) / (_f32(1) + e)
        terms[c] = x[c] * logits[c] - max(logits[c], _f32(0)) - _log1p(e)
        slope[c] = x[c] - s


@compiled(types.void(_SINGLE, _SINGLE, _COLUMNS, _SINGLE))
def bernoulli(logits: Any, x: Any, total: Any, slope: Any) -> None:
    """Write sums over rows of x l - softplus(l), (B,), and their slopes x - sigmoid(l), (B, D), of logits l and x (B, D)."""
    terms = np.empty(logits.shape[1], np.float32)
    for r in range(logits.shape[0]):
        _log_probabilities(logits[r], x[r], terms, slope[r])
        total[r] = _sum(terms)


@njit(forceinline=True, **OPTIONS)
def _entropies(logits: Any, terms: Any, slope: Any) -> None:
    for c in range(logits.size):
        size = abs(logits[c])
        e = exp_minus(size)
        rare = e / (_f32(1) + e)
        terms[c] = _log1p(e) + size * rare
        slope[c] = logits[c] * (rare * rare - rare)


@compiled(types.void(_SINGLE, _COLUMNS, _SINGLE))
def entropy(logits: Any, total: Any, slope: Any) -> None:
    """Write sums over rows of softplus(l) - l sigmoid(l), (B,), and their slopes -l sigmoid(l) sigmoid(-l), (B, n)."""
    terms = np.empty(logits.shape[1], np.float32)
    for r in range(logits.shape[0]):
        _entropies(logits[r], terms, slope[r])
        total[r] = _sum(terms)


@njit(forceinline=True, **OPTIONS)
def _tanh_of_halves(logits: Any, out: Any) -> None:
    for c in range(logits.size):
        e = exp_minus(abs(logits[c]))
        t = (_f32(1) - e) / (_f32(1) + e)
        out[c] = t if logits[c] > _f32(0) else -t


@compiled(types.void(_SINGLE, _SINGLE))
def tanh_of_half(logits: Any, out: Any) -> None:
    """Write tanh(l/2) of logits l (B, n)."""
    for r in range(logits.shape[0]):
        _tanh_of_halves(logits[r], out[r])


# A relaxation of bits -------------------------------------------------------------------------------------------------

_STEP, _HALF_STEP = _f32(2.0**-32), _f32(2.0**-33)
_MANTISSA, _ONE, _LOG_2 = _i32(0x7FFFFF), _i32(0x3F800000), _f32(0.6931471805599453)


@njit(**OPTIONS)
def _log(x: Any) -> Any:
    """Of a number from 2^-33 to 1, to 1e-7."""
    word = _f32(x).view(_i32)
    fraction = _i32(_i32(word & _MANTISSA) | _ONE).view(_f32)
    return _f32(_i32(_i32(word - _ONE) >> _i32(23))) * _LOG_2 + _log1p(fraction - _f32(1))


@njit(forceinline=True, **OPTIONS)
def _draw(logits: Any, factor: Any, s: Any, out: Any) -> None:
    for c in range(logits.size):
        drawn, s[0, c], s[1, c], s[2, c], s[3, c] = next_word(s[0, c], s[1, c], s[2, c], s[3, c])
        u = _f32(_i32(drawn >> _u32(1))) * _STEP + _HALF_STEP  # from 0 to a half; the other half is its mirror image
        noise = _log(u / (_f32(1) - u))
        out[c] = _f32(1) / _one_and_exp_minus(factor * (logits[c] + (noise if drawn & _u32(1) else -noise)))


@compiled(types.void(_SINGLE, types.float32, types.Array(types.uint64, 1, "C"), _SINGLE))
def binary_concrete(logits: Any, factor: Any, words: Any, out: Any) -> None:
    """Write sigmoid(factor (l + logistic noise)) of logits l (B, n); each column has a stream, which a call's 2 words start."""
    rows, columns = logits.shape
    streams = np.empty((4, columns), np.uint32)
    seed(streams, words[0], words[1], 0)
    for r in range(rows):
        _draw(logits[r], factor, streams, out[r])
