"""Simultaneous perturbation: two evaluations of the loss a step, however many parameters there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.options import checked_options
from qvae.seeding import Seed
from qvae.training.optimizers.perturbing import PerturbingOptimizer


class SPSA(PerturbingOptimizer):
    """theta <- theta - a_k (L(theta + c_k D) - L(theta - c_k D)) / (2 c_k) D, with D of +1 and -1 at random.

    a_k = lr / (k + 1 + stability)^0.602 and c_k = step / (k + 1)^0.101 in step k, from 0: Spall 1998 (Johns Hopkins APL
    Technical Digest 19, 482), whose advice is a ``stability`` of about a tenth of all steps. No gradients are needed, so that
    any executor will do, shots and noise included.

    Args:
        params: of any model, or groups of them; those that are frozen now stay as they are.
        lr: a.
        step: c, in the parameters' units; larger than the noise of the loss over its slope.
        stability: A, steps.
        blocking: None, or how much a step may raise the loss before it is taken back, which costs one evaluation more.
        seed: of D; None draws one.

    Raises:
        ValueError: a number is out of its range.
    """

    @checked_options
    def __init__(
        self,
        params: Any,
        lr: Annotated[float, Field(gt=0)] = 0.1,
        step: Annotated[float, Field(gt=0)] = 0.1,
        stability: Annotated[float, Field(ge=0)] = 0.0,
        blocking: Annotated[float, Field(ge=0)] | None = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(params, {"lr": lr, "step": step, "stability": stability}, blocking, seed)
        self.steps = 0

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One step; ``closure`` gives the loss, of the same data in each of its calls. Returns the mean of both losses."""
        size = self.param_groups[0]["step"] / (self.steps + 1) ** 0.101
        parameters = [parameter for each in self.param_groups for parameter in each["params"]]
        directions = [self._signs(parameter) for parameter in parameters]
        up, down = (self._loss_at(closure, parameters, directions, sign * size) for sign in (1, -1))
        slope, loss = (up - down) / (2 * size), (up + down) / 2
        rates = [self._rate(group) for group in self.param_groups for _ in group["params"]]
        with self._taken_back_if_worse(closure, parameters, loss):
            moves = [-rate * slope * direction for rate, direction in zip(rates, directions, strict=True)]
            torch._foreach_add_(parameters, moves)
        self.steps += 1
        return loss

    def _rate(self, group: dict[str, Any]) -> float:
        return float(group["lr"] / (self.steps + 1 + group["stability"]) ** 0.602)

    def state_dict(self) -> dict[str, Any]:
        """Settings, steps, and the generator's state."""
        return super().state_dict() | {"steps": self.steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        state = dict(state_dict)
        steps = state.pop("steps")
        if type(steps) is not int or steps < 0:
            raise ValueError(f"the number of steps is {steps!r}")
        self.steps = steps
        super().load_state_dict(state)
