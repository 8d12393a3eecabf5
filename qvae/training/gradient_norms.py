"""Norms of gradients while any model trains, layer by layer, read from the backward pass itself."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class GradientNorms:
    """Notes the norm of every parameter tensor's gradient as backward leaves it, before an optimizer clips or uses it.

    The norms stay on their device until :meth:`series` asks for them, so that no step waits for them. Where a step goes
    backward several times, as in a game, the last gradient counts.

    Args:
        model: any module, classical or with circuits.
        every: so many steps lie between two that are noted, the first one being noted.

    Attributes:
        names: of the parameters that learn by gradients, those first whose gradients came first: the nearest to the loss.
        steps: that were noted, from 1.
        silent: names of the parameters that learn nothing from gradients: they don't require any.

    >>> model = nn.Linear(2, 1)
    >>> with GradientNorms(model) as norms:
    ...     model(torch.ones(3, 2)).sum().backward()
    ...     norms.end_step()
    >>> norms.series()["bias"].tolist()
    [3.0]
    """

    def __init__(self, model: nn.Module, every: int = 1) -> None:
        self.every = every
        self.silent = [name for name, parameter in model.named_parameters() if not parameter.requires_grad]
        self._learning = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
        self._came: list[str] = []
        self._now: dict[str, Tensor] = {}
        self._kept: list[dict[str, Tensor]] = []
        self._step = 0
        self._handles: list[Any] = []

    def __enter__(self) -> GradientNorms:
        self._handles = [
            parameter.register_post_accumulate_grad_hook(self._note(name)) for name, parameter in self._learning.items()
        ]
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()

    def _note(self, name: str) -> Callable[[Tensor], None]:
        def note(parameter: Tensor) -> None:
            if self._step % self.every == 0 and parameter.grad is not None:
                self._now[name] = parameter.grad.detach().norm()

        return note

    def end_step(self) -> None:
        """Say that a step of the training is over."""
        if self._step % self.every == 0:
            self._came += [name for name in self._now if name not in self._came]
            self._kept.append(self._now)
            self._now = {}
        self._step += 1

    @property
    def steps(self) -> list[int]:
        """Those that were noted, from 1."""
        return [1 + self.every * number for number in range(len(self._kept))]

    @property
    def reached(self) -> list[str]:
        """Parameters to which a gradient came in a step that was noted, the nearest to the loss first."""
        return list(self._came)

    @property
    def names(self) -> list[str]:
        """Parameters that learn, the nearest to the loss first, and at the end those that no gradient ever reached."""
        return [*self._came, *(name for name in self._learning if name not in self._came)]

    def series(self) -> dict[str, Tensor]:
        """Norms (steps,) by name, float64, on the CPU; 0 where no gradient came."""
        zero = torch.zeros(())
        return {
            name: torch.stack([step.get(name, zero).double().cpu() for step in self._kept]) if self._kept else zero.new_zeros(0)
            for name in self.names
        }
