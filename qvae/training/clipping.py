"""Gradients clipped to a largest norm, with what torch's own function asks of every parameter in every step left out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> None:
    """Scale all gradients, in place and by one factor, so that their joint norm is at most ``largest``.

    Bit by bit what :func:`torch.nn.utils.clip_grad_norm_` does, for parameters on one device and of one type.
    """
    gradients: list[Tensor] = [parameter.grad for parameter in parameters if parameter.grad is not None]
    if gradients:
        norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
        torch._foreach_mul_(gradients, torch.clamp(largest / (norm + 1e-6), max=1.0))
