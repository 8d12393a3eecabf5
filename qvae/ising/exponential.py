"""exp(-H) of a small system in a transverse field, entry by entry: its rarest states keep their digits."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

_TERMS = 16  # of the power series: at a norm of 1 the next one is 5e-14 of the sum


def log_exponential(energies: Tensor, gamma: Tensor) -> Tensor:
    """log <s|exp(-H)|t> of all states, (2**n, 2**n), from energies (2**n,) and gamma (n,), differentiable; -inf where it is 0.

    By scaling and squaring: exp(-H) = exp(-c) [exp((c - H) / 2^k)]^(2^k). With c the largest energy no entry of c - H is
    negative, so neither are those of any power or product: nothing cancels, and each entry keeps its own digits, however
    small it is beside the others; eigenvectors have errors of the size of the largest. Squares are taken of logarithms, each
    row over its largest entry, so that nothing overflows or vanishes either. That is 6 products of matrices and one for each
    power of 2 in the norm of H, and twice as many for gradients: at 10 spins a second or two on a processor's core, three
    times as long as diagonalizing.
    """
    largest = energies.detach().max()
    weights = -_matrix(energies - largest, gamma)
    norm = float(weights.detach().sum(1).max())
    squarings = max(0, math.ceil(math.log2(norm))) if norm > 0 else 0
    step = 0.5**squarings
    log_entries = _log(_power_series(step * weights)) - step * largest
    for _ in range(squarings):
        log_entries = _squared(log_entries)
    return log_entries


def _matrix(energies: Tensor, gamma: Tensor) -> Tensor:
    """H in the z basis: energies on the diagonal, -gamma_i between states that differ in spin i alone, (2**n, 2**n)."""
    matrix = torch.diag(energies)
    states = torch.arange(len(energies), device=energies.device)
    for i in range(len(gamma)):
        matrix[states, states ^ (1 << i)] = -gamma[i]
    return matrix


def _power_series(matrix: Tensor) -> Tensor:
    """sum_k matrix^k / k! of so many terms, in six products (Paterson and Stockmeyer 1973)."""
    square = matrix @ matrix
    powers = [torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device), matrix, square, square @ matrix]
    fourth, total = square @ square, torch.zeros_like(matrix)
    for first in reversed(range(0, _TERMS, 4)):
        if first < _TERMS - 4:
            total = total @ fourth
        for k, power in enumerate(powers):
            total = total + power / math.factorial(first + k)
    return total


def _squared(log_entries: Tensor) -> Tensor:
    """log of the square of a symmetric matrix, from the logarithms of its entries."""
    largest = log_entries.detach().amax(1)
    scaled = torch.exp(log_entries - largest.unsqueeze(1))
    return _log(_Gram.apply(scaled)) + largest.unsqueeze(1) + largest


def _log(values: Tensor) -> Tensor:
    """-inf where a value is 0, without a gradient: log's own would be NaN."""
    positive = values > 0
    return torch.where(positive, values, 1.0).log().where(positive, -math.inf)


class _Gram(torch.autograd.Function):
    """X X', whose gradient takes one product instead of the two of a product of different matrices."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x @ x.T

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return (gradients[0] + gradients[0].T) @ x
