"""Rotosolve: each angle in turn goes to where the loss, a sinusoid in it, is least."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from math import pi

import torch
from torch import Tensor


class Rotosolve(torch.optim.Optimizer):
    """theta_d <- the minimum in theta_d of A sin(theta_d + B) + C, found from three values of the loss.

    The loss must be linear in expectations, and each parameter the angle of one Pauli rotation, with scale 1 and once in the
    circuit: then it has this form exactly, and no learning rate is needed. Ostaszewski et al. 2021 (arXiv:1905.09692).

    Args:
        params: angles; one step goes over all of them.

    Raises:
        ValueError: there is no angle among them.
    """

    def __init__(self, params: Iterable[Tensor]) -> None:
        super().__init__(params, {})
        if not any(parameter.numel() for group in self.param_groups for parameter in group["params"]):
            raise ValueError("the parameters hold no angle; give Rotosolve those of a circuit that has weights")

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One pass over all angles; ``closure`` gives the loss. Returns the loss that the last angle's sinusoid has then."""
        angles = (angle for group in self.param_groups for parameter in group["params"] for angle in parameter.view(-1))
        return [self._solve(angle, closure) for angle in angles][-1]

    def _solve(self, angle: Tensor, closure: Callable[[], Tensor]) -> Tensor:
        start = angle.clone()
        losses = []
        try:
            for shift in (0.0, pi / 2, -pi / 2):
                angle.copy_(start + shift)
                losses.append(closure())
        finally:
            angle.copy_(start)
        here, up, down = losses
        middle = (up + down) / 2
        angle.copy_(start - pi / 2 - torch.atan2(here - middle, (up - down) / 2))
        return middle - torch.hypot(here - middle, (up - down) / 2)

