"""What optimizers by random perturbations share: directions, losses on both sides of a point, steps taken back, and state."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from qvae.circuits.gradients.spsa import random_signs
from qvae.seeding import Seed, Seeded


class PerturbingOptimizer(torch.optim.Optimizer):
    """Asks for values of the loss at random places near the parameters, and for no gradients.

    Args:
        params: of any model, or groups of them; those that are frozen now stay as they are.
        defaults: settings of a group.
        blocking: None, or how much a step may raise the loss before it is taken back, which costs one evaluation more.
        seed: of the directions; None draws one.
    """

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], blocking: float | None, seed: Seed) -> None:
        super().__init__(params, defaults)
        leave_out_frozen(self)
        self._random, self._blocking = Seeded(seed), blocking

    @abstractmethod
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One step; ``closure`` gives the loss, of the same data in each of its calls. Returns the mean of both losses."""

    def executions(self, batch: int) -> int:
        """Circuits that a step runs, where a loss runs one for each of so many rows."""
        return batch * (2 if self._blocking is None else 3)

    def _signs(self, parameter: Tensor) -> Tensor:
        return random_signs(parameter.shape, parameter, self._random.generator(parameter.device))

    def _loss_at(
        self, closure: Callable[[], Tensor], parameters: list[Tensor], directions: list[Tensor], size: float
    ) -> Tensor:
        """The loss a step of this size along the directions; the parameters are back at their very bits afterwards."""
        before = [parameter.clone() for parameter in parameters]
        torch._foreach_add_(parameters, directions, alpha=size)
        try:
            return one_number(closure())
        finally:
            torch._foreach_copy_(parameters, before)

    @contextmanager
    def _taken_back_if_worse(self, closure: Callable[[], Tensor], parameters: list[Tensor], loss: Tensor) -> Iterator[None]:
        """A step from this loss, unless it raises it by more than ``blocking``, or the loss can't be had there."""
        before = [parameter.clone() for parameter in parameters]
        is_kept = False
        try:
            yield
            is_kept = self._blocking is None or bool(one_number(closure()) <= loss + self._blocking)
        finally:
            if not is_kept:
                torch._foreach_copy_(parameters, before)

    def state_dict(self) -> dict[str, Any]:
        """Settings, what is remembered of each parameter, and the generator's state."""
        return super().state_dict() | {"random": self._random.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from there."""
        state = dict(state_dict)
        self._random.load_state_dict(state.pop("random"))
        super().load_state_dict(state)


def is_frozen(parameter: Tensor) -> bool:
    """Whether it has been told to stay, by ``requires_grad_(False)``; a tensor that is no ``nn.Parameter`` was never asked."""
    return isinstance(parameter, nn.Parameter) and not parameter.requires_grad


def leave_out_frozen(optimizer: torch.optim.Optimizer) -> None:
    """Take frozen parameters out of the groups of an optimizer that moves by losses, and so would move them, too.

    It is done once, when the optimizer is made: a training doesn't ask for gradients of what moves by losses either.
    """
    for group in optimizer.param_groups:
        group["params"] = [parameter for parameter in group["params"] if not is_frozen(parameter)]


def one_number(loss: Tensor | float) -> Tensor:
    """The loss of a closure, without axes.

    Raises:
        ValueError: it is none, or several.
    """
    found = loss if isinstance(loss, Tensor) else torch.tensor(loss if isinstance(loss, float) else [], dtype=torch.float64)
    if found.numel() != 1:
        form = f"a tensor of shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"{loss!r}"
        raise ValueError(f"the closure returned {form}; it must return the loss, one number, as loss.mean() is")
    return found.reshape(())
