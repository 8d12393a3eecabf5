"""The Walsh-Hadamard transform, and Gray's code, whose neighbours differ in one bit."""

from __future__ import annotations

import torch
from torch import Tensor


def walsh_hadamard(values: Tensor) -> Tensor:
    """sum_b (-1)^(number of bits in a & b) values[b] for every a, over the last dimension, (..., 2**n).

    >>> walsh_hadamard(torch.tensor([1.0, 0.0, 0.0, 1.0])).tolist()
    [2.0, 0.0, 0.0, 2.0]
    """
    size, half = values.shape[-1], 1
    while half < size:
        first, second = values.unflatten(-1, (-1, 2, half)).unbind(-2)
        values = torch.stack([first + second, first - second], dim=-2).flatten(-3)
        half *= 2
    return values


def place_in_gray_code(code: int) -> int:
    """Which number of Gray's code this is: the i with i ^ i >> 1 equal to it.

    >>> [place_in_gray_code(code) for code in (0, 1, 3, 2)]
    [0, 1, 2, 3]
    """
    place = 0
    while code:
        place ^= code
        code >>= 1
    return place
