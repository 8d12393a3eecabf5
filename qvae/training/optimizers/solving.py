"""Linear systems of a metric: by Cholesky, by conjugate gradients, and by eigenvalues where it was measured."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def solved_by_cholesky(metric: Tensor, gradient: Tensor, damping: float) -> Tensor:
    """(F + damping)^-1 gradient, of an F (W, W) without negative eigenvalues."""
    damped = metric + damping * torch.eye(len(metric)).to(metric)
    return torch.cholesky_solve(gradient.unsqueeze(1), torch.linalg.cholesky(damped)).squeeze(1)


def solved_by_magnitudes(metric: Tensor, gradient: Tensor, damping: float) -> Tensor:
    """(sqrt(F F) + damping)^-1 gradient, of a symmetric F (W, W), which noise may have given negative eigenvalues."""
    values, vectors = torch.linalg.eigh(metric)
    return vectors @ ((vectors.T @ gradient) / (values.abs() + damping))


def conjugate_gradients(product: Callable[[Tensor], Tensor], right: Tensor) -> Tensor:
    """x with A x = right, of a positive definite A that is known by its products with vectors (W,).

    Hestenes and Stiefel 1952, until the residual is 1e-3 of the square root of the type's precision, or for 2 W products, of
    which exact arithmetic would need W.
    """
    found = torch.zeros_like(right)
    residual, direction = right.clone(), right.clone()
    square = residual @ residual
    enough = square * (1e-3 * torch.finfo(right.dtype).eps ** 0.5) ** 2
    for _ in range(2 * len(right)):
        if square <= enough:
            break
        image = product(direction)
        length = square / (direction @ image)
        found = found + length * direction
        residual = residual - length * image
        square, before = residual @ residual, square
        direction = residual + square / before * direction
    return found
