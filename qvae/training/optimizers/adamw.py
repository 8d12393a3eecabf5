"""Steps of AdamW on a CPU: torch's update with less of Python around it, one pass for weights that have copies in bfloat16."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from qvae.training.optimizers.halves import Half, Halves

_USUAL = {"fused": True, "amsgrad": False, "maximize": False, "capturable": False, "differentiable": False}
_MOMENTS = "exp_avg", "exp_avg_sq"


class AdamWSteps:
    """Makes the steps of an optimizer, which keeps its settings and state; those of an AdamW take less time on a CPU.

    Args:
        optimizer: any; torch makes the steps of others than its fused AdamW, those of a parameter that has not moved yet, and
            those in which a parameter has no gradient.
        halves: that take gradients in the place of some weights.
    """

    def __init__(self, optimizer: Optimizer, halves: Halves | None = None) -> None:
        self._optimizer, self._halves = optimizer, halves
        self._state: Any = None
        self._groups: list[_Group] = []

    def __getstate__(self) -> tuple[Optimizer, Halves | None]:
        """What is known of the optimizer's tensors is of these ones."""
        return self._optimizer, self._halves

    def __setstate__(self, state: tuple[Optimizer, Halves | None]) -> None:
        AdamWSteps.__init__(self, *state)

    @torch.no_grad()
    def step(self) -> None:
        """Move all parameters by their gradients."""
        if self._knows_all() and all(group.is_reached() for group in self._groups):
            for group in self._groups:
                group.move()
            return
        if self._halves is not None:
            self._halves.hand_over()
        self._optimizer.step()

    def _knows_all(self) -> bool:
        """Whether all of the state is known: it is another one after a state was loaded."""
        optimizer = self._optimizer
        if self._state is not optimizer.state:
            weights = [weight for group in optimizer.param_groups for weight in group["params"]]
            if type(optimizer) is not torch.optim.AdamW or not all(_is_usual(optimizer.state, weight) for weight in weights):
                return False
            if any(group[key] != value for group in optimizer.param_groups for key, value in _USUAL.items()):
                return False
            self._groups = [_Group(group, optimizer.state, self._halves) for group in optimizer.param_groups]
            self._state = optimizer.state
        return True


def _is_usual(state: Any, weight: Tensor) -> bool:
    return weight in state and all(
        x.is_cpu and x.dtype == torch.float32 and x.is_contiguous() for x in (weight, *(state[weight][key] for key in _MOMENTS))
    )


class _Group:
    """Parameters with the same settings, and what an optimizer remembers of them."""

    def __init__(self, settings: dict[str, Any], state: Any, halves: Halves | None) -> None:
        self._settings, self._source = settings, halves
        weights, halved = settings["params"], {} if halves is None else halves.of
        self._rest: list[Tensor] = [weight for weight in weights if weight not in halved]
        self._means, self._squares = ([state[weight][key] for weight in self._rest] for key in _MOMENTS)
        self._halves: list[Half] = [halved[weight] for weight in weights if weight in halved]
        self._moments = [[state[half.weight][key].numpy() for key in _MOMENTS] for half in self._halves]
        moving = [*self._rest, *(half.weight for half in self._halves)]
        # In one tensor they are counted at once: one by one, they take as long as the weights of a small layer.
        self._steps = torch.stack([state[weight]["step"] for weight in moving])
        self._step_of_each = list(self._steps)
        for weight, step in zip(moving, self._step_of_each, strict=True):
            state[weight]["step"] = step

    def is_reached(self) -> bool:
        """Whether each parameter has one gradient, where it is looked for."""
        return all(weight.grad is not None for weight in self._rest) and all(half.is_reached for half in self._halves)

    def move(self) -> None:
        """Make a step."""
        self._steps.add_(1.0)
        if self._rest:
            self._move_rest()
        if self._halves:
            self._move_halves()

    def _move_rest(self) -> None:
        """By torch's fused kernel."""
        settings = self._settings
        torch._fused_adamw_(
            self._rest,
            [weight.grad for weight in self._rest],  # type: ignore[misc]
            self._means,
            self._squares,
            [],
            self._step_of_each[: len(self._rest)],
            lr=settings["lr"],
            beta1=settings["betas"][0],
            beta2=settings["betas"][1],
            weight_decay=settings["weight_decay"],
            eps=settings["eps"],
            amsgrad=False,
            maximize=False,
        )

    def _move_halves(self) -> None:
        """By compiled passes, one for each weight."""
        adamw, steps = self._source.update.adamw, self._steps.tolist()[len(self._rest) :]  # type: ignore[union-attr]
        for half, moments, step in zip(self._halves, self._moments, steps, strict=True):
            adamw(*half.arrays, half.gradient(), *moments, *self._factors(step))
            half.moved()

    def _factors(self, steps: float) -> tuple[float, ...]:
        """Those of :func:`qvae.training.optimizers.fused.adamw`."""
        rate, (beta1, beta2) = self._settings["lr"], self._settings["betas"]
        kept, scale = 1 - rate * self._settings["weight_decay"], (1 - beta2**steps) ** -0.5
        return kept, rate / (1 - beta1**steps), 1 - beta1, 1 - beta2, scale, self._settings["eps"]
