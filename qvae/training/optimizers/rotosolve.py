"""Rotosolve: each angle in turn goes to where the loss, a sinusoid in it, is least."""

from __future__ import annotations

from collections.abc import Callable
from math import pi
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.options import checked_options
from qvae.training.optimizers.perturbing import leave_out_frozen, one_number


class Rotosolve(torch.optim.Optimizer):
    """theta_d <- the nearest minimum in theta_d of A sin(theta_d + B) + C, fitted to three values of the loss.

    Where the loss is linear in expectations, and each parameter the angle of one Pauli rotation, with scale 1 and once in the
    circuit, it has this form exactly, and no learning rate is needed: Ostaszewski et al. 2021 (arXiv:1905.09692). A network or
    an entropy behind the circuit, or a loss of other rows in each step, makes the sinusoid a fit: then ``blocking`` says which
    of its minima are believed.

    Args:
        params: angles, or groups of them; those that are frozen now stay as they are.
        angles: how many a step visits, going on where the last one stopped; None is all of them.
        blocking: None, or how much a move may raise the loss before it is taken back, which costs one evaluation more a step.

    Raises:
        ValueError: there is no angle among the parameters that isn't frozen, or a number is out of its range.
    """

    @checked_options
    def __init__(
        self,
        params: Any,
        angles: Annotated[int, Field(ge=1)] | None = None,
        blocking: Annotated[float, Field(ge=0)] | None = None,
    ) -> None:
        super().__init__(params, {})
        leave_out_frozen(self)
        self._total = sum(parameter.numel() for group in self.param_groups for parameter in group["params"])
        if not self._total:
            raise ValueError("the parameters hold no angle that may move; give Rotosolve those of a circuit that has weights")
        self._num = self._total if angles is None else min(angles, self._total)
        self._blocking, self.place = blocking, 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """Visit the next angles; ``closure`` gives the loss, of the same data in each of its calls.

        Returns:
            The loss that the last angle's sinusoid has at its minimum; with ``blocking`` the loss where the step ends.
        """
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        angles = [angle for parameter in parameters for angle in parameter.view(-1).unbind()]
        before, loss = [parameter.clone() for parameter in parameters], None
        try:
            for visit in range(self._num):
                loss = self._solve(angles[(self.place + visit) % self._total], closure, loss)
        except BaseException:
            torch._foreach_copy_(parameters, before)
            raise
        self.place = (self.place + self._num) % self._total
        assert loss is not None
        return loss

    def executions(self, batch: int) -> int:
        """Circuits that a step runs, where a loss runs one for each of so many rows."""
        return batch * (3 * self._num + (self._blocking is not None))

    def _solve(self, angle: Tensor, closure: Callable[[], Tensor], known: Tensor | None) -> Tensor:
        """Move one angle; ``known`` is the loss where it stands, of the angle before."""
        start = angle.clone()
        here = one_number(closure()) if known is None or self._blocking is None else known
        up, down = (self._loss_at(angle, start + shift, closure) for shift in (pi / 2, -pi / 2))
        middle = (up + down) / 2
        move = -pi / 2 - torch.atan2(here - middle, (up - down) / 2)
        move = torch.remainder(move + pi, 2 * pi) - pi  # half a turn at most, so that averages over steps make sense
        if self._blocking is None:
            angle.copy_(start + move)
            return middle - torch.hypot(here - middle, (up - down) / 2)
        there = self._loss_at(angle, start + move, closure)
        if there <= here + self._blocking:
            return there
        angle.copy_(start)
        return here

    @staticmethod
    def _loss_at(angle: Tensor, value: Tensor, closure: Callable[[], Tensor]) -> Tensor:
        angle.copy_(value)
        return one_number(closure())

    def state_dict(self) -> dict[str, Any]:
        """Settings, and which angle is next."""
        return super().state_dict() | {"place": self.place}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        state = dict(state_dict)
        place = state.pop("place")
        if type(place) is not int or not 0 <= place < self._total:
            raise ValueError(f"the next angle is {place!r}, of {self._total}")
        self.place = place
        super().load_state_dict(state)
