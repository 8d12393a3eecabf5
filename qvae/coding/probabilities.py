"""Probabilities of bits that every machine agrees on: logits rounded to whole numbers, and a table of the logistic function.

A coder and its decoder must use the same probabilities to the last bit, or all that follows is noise. Sums of floating-point
numbers depend on the number of threads and on the processor; what is done here doesn't.
"""

from __future__ import annotations

from decimal import Decimal, localcontext
from functools import cache

import numpy as np

UNIT = 256
"""Steps of a logit of 1."""

SHIFTS = 16
"""Places of the grid to which real logits are rounded; its lines are as many steps apart."""

MARGIN = 1e-9
"""Of a logit: two machines' float64 networks differ by a thousandth of this at most."""

_HIGHEST = 14 * UNIT  # a probability of one in a million: rarer bits cost 20 each
_BEYOND = 15.0  # from here on a logit's rounding changes nothing
_PRECISION = 2**20  # coded probabilities are multiples of its inverse


class OnTheFence(Exception):
    """A logit lies so near to the middle between two lines that another machine may round it the other way."""


def rounded(logits: np.ndarray, shift: int, is_coding: bool) -> np.ndarray:
    """Real logits as whole steps, int64, on the grid that is moved by ``shift`` steps, 0 to ``SHIFTS`` - 1.

    A line's distance of 1/16 costs a bit of which nothing is known 2e-4 nats.

    Raises:
        OnTheFence: ``is_coding``, and one of them is within ``MARGIN`` of another rounding.
    """
    places = (logits.clip(-_BEYOND, _BEYOND) * UNIT - shift) / SHIFTS
    lines = np.floor(places + 0.5)
    if is_coding:
        is_near = np.abs(np.abs(places - lines) - 0.5) < MARGIN * UNIT / SHIFTS
        if bool((is_near & (np.abs(logits) < _BEYOND)).any()):
            raise OnTheFence
    return lines.astype(np.int64) * SHIFTS + shift


def probabilities(steps: np.ndarray) -> np.ndarray:
    """p = 1 / (1 + exp(-steps / 256)) in multiples of 2^-20 that are neither 0 nor 1, float64.

    >>> probabilities(np.array([0, 256, -(10**9)])).tolist() == [0.5, 766570 / 2**20, 2**-20]
    True
    """
    return _logistic()[np.clip(steps, -_HIGHEST, _HIGHEST) + _HIGHEST]


@cache
def _logistic() -> np.ndarray:
    with localcontext() as context:
        # Decimal's exponential is rounded correctly, whoever computes it; the C library's is not.
        context.prec = 30
        upper = [int((_PRECISION / (1 + (Decimal(-step) / UNIT).exp())).to_integral_value()) for step in range(_HIGHEST + 1)]
    counts = np.minimum(np.array(upper), _PRECISION - 1)
    return np.concatenate([_PRECISION - counts[:0:-1], counts]) / _PRECISION
