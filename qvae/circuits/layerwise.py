"""Layerwise training of a circuit: its layers begin to learn one after another."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Layerwise:
    """Angles of layers that don't learn yet are held at 0: after Skolik et al. 2021 (arXiv:2006.14904).

    A shallow circuit has larger gradients than a deep one, and a layer that begins finds those before it trained. A layer that
    has begun goes on learning, where the paper holds it and trains larger parts in turns afterwards. Call :meth:`hold` before
    the first step, and after each step of whatever optimizer.

    Attributes:
        ends: for each layer, the number of weights up to its end.
        part: of the training over which the layers begin, above 0 to 1: layer l, from 0, of L at ``part * l / L``.

    >>> weight = torch.ones(6)
    >>> Layerwise(ends=(2, 4, 6), part=0.3).hold(weight, progress=0.15)
    >>> weight
    tensor([1., 1., 1., 1., 0., 0.])
    """

    ends: tuple[int, ...]
    part: float

    def begun(self, progress: float) -> int:
        """How many layers learn after a part of the training, 0 to 1."""
        layers = len(self.ends)
        return min(layers, 1 + int(layers * progress / self.part))

    @torch.no_grad()
    def hold(self, weight: Tensor, progress: float) -> None:
        """Put the weights (..., W) of layers that haven't begun to 0."""
        weight[..., self.ends[self.begun(progress) - 1] :] = 0
