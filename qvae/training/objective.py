"""The contract of an objective: what is optimised, by which optimizers, and what is measured on the way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Clock:
    """Where a training stands, for schedules.

    Attributes:
        step: steps done.
        epoch: of the last step, from 1.
        progress: part of the training that is done, 0 to 1: in steps, in seconds or of a budget, whichever is furthest.
    """

    step: int
    epoch: int
    progress: float


class Objective(ABC):
    """Losses and optimizers of one model. The trainer knows time, files and faults, and asks an objective for the rest.

    A new one implements :meth:`step`, :meth:`state_dict` and :meth:`load_state_dict`; the other methods have the defaults of
    an objective that has nothing more to say.

    Attributes:
        model: in training mode, on its device.
        figures: names of the numbers that a step gives.
        shown: label and format of the figures that a display shows, in its order.
        headline: the figures of which the first known one stands for the training in a title.
        live: figures to show before the epoch ends, such as what was spent.
        began: the step with which the weights that are averaged begin to move.
        diverged: what is said, with the remedy, where a figure or a weight is no longer a finite number.
        takes_classes: rows that it is given have one number more, the place of the row's label among those of the training
            data.
    """

    figures: ClassVar[tuple[str, ...]]
    shown: ClassVar[Mapping[str, tuple[str, str]]] = {}
    headline: ClassVar[tuple[str, ...]] = ()
    began: int = 0
    diverged: ClassVar[str] = (
        "the surrogate is no longer a finite number; lower training.learning_rate or training.prior_learning_rate."
    )
    takes_classes: bool = False

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self.model = model.to(device).train()
        self.device = device
        self.live: dict[str, float] = {}
        self._listener: Callable[[str, str], None] | None = None
        self._unheard: list[tuple[str, str]] = []

    def warn(self, kind: str, text: str) -> None:
        """Say a clause about a trouble; of each kind the first one is heard."""
        if self._listener is None:
            self._unheard.append((kind, text))
        else:
            self._listener(kind, text)

    def listen(self, listener: Callable[[str, str], None]) -> None:
        """Have warnings told to ``listener``, those from before it listened, too."""
        self._listener = listener
        for kind, text in self._unheard:
            listener(kind, text)
        self._unheard.clear()

    @abstractmethod
    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """One step on rows of stored data (B, D): forward, backward and update; its figures (F,), left on the device.

        Where several processes train, rows are this one's part of the batch: between backward and update,
        :func:`qvae.training.ranks.average_gradients` makes its gradients those of the whole.

        Raises:
            BudgetExhausted: a sampler's next call isn't covered; nothing of the step has happened.
            QvaeError: anything else that a user can mend; nothing of the step has happened.
        """

    def look(self, clock: Clock) -> dict[str, float]:
        """Figures that cost too much for every step: asked for a few times in a training, at the end of an epoch."""
        return {}

    def validate(self, rows: Tensor, found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """Figures of stored rows (N, D) that training never sees, beside what a look has ``found``; changes nothing.

        Early stopping goes by ``held_out`` among them, the lower the better.
        """
        return {}

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """The row of an epoch: from the means of its steps' figures and, where there was a look, from what it found."""
        return dict(means) | dict(found)

    @property
    def budget_share(self) -> float:
        """How much of what a sampler may spend is spent, 0 to 1."""
        return 0.0

    @property
    def phases(self) -> tuple[float, ...]:
        """At which progress steps begin to be of another kind, and take another time; the first are from 0 on."""
        return (0.0,)

    @property
    def is_remote(self) -> bool:
        """Whether a step waits for a service."""
        return False

    @property
    def circuit_executions(self) -> int:
        """Circuits that a step runs besides those of losses and gradients."""
        return 0

    def parameters(self) -> dict[str, nn.Parameter]:
        """Those of the model whose average over the training is used later, by their names in the model."""
        return dict(self.model.named_parameters())

    def settle(self, model: nn.Module, rows: Tensor, batch_size: int) -> None:
        """Make a copy of the model with averaged weights fit for use, with stored ``rows`` (N, D); in evaluation mode."""
        model.eval()

    @abstractmethod
    def state_dict(self) -> dict[str, Any]:
        """Model, optimizers, generators and whatever else the rest of the training depends on."""

    @abstractmethod
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there; keys of others are among ``state``."""

    def release(self) -> None:  # noqa: B027
        """Give back memory that only steps need, which will take it again."""

    def close(self) -> None:  # noqa: B027
        """Release connections; the objective isn't used afterwards."""


def optimizer_state(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """What an optimizer remembers of each parameter, by the parameter's number as text; settings are left out."""
    return {str(index): dict(state) for index, state in optimizer.state_dict()["state"].items()}


def load_optimizer_state(optimizer: torch.optim.Optimizer, state: Mapping[str, Any], **others: Any) -> None:
    """Go on from :func:`optimizer_state`, with the optimizer's own settings, and what else its state has.

    Raises:
        ValueError: it is of other parameters. Fused kernels take shapes on trust, and would write past the end of a moment.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    moments = {int(index): dict(values) for index, values in state.items()}
    for index, values in moments.items():
        shape = parameters[index].shape
        needed = {key for key in _MOMENTS & values.keys() if values[key] is not None} | _moments_of(optimizer)
        if any(not _is_moment(values.get(key), shape) for key in needed):
            raise ValueError(f"the optimizer's moments of parameter {index} are not of its shape {tuple(shape)}")
        if "metric" in values and not _is_moment(values["metric"], torch.Size(2 * (shape.numel(),))):
            raise ValueError(f"the optimizer's metric of parameter {index} is none")
        if "step" in values and not _is_moment(values["step"], torch.Size()):
            raise ValueError(f"the optimizer's step of parameter {index} is no number")
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"], **others})


_MOMENTS = {"exp_avg", "exp_avg_sq", "max_exp_avg_sq", "momentum_buffer", "momentum"}


def _moments_of(optimizer: torch.optim.Optimizer) -> set[str]:
    """What must be there of each parameter that was ever updated."""
    return {"exp_avg", "exp_avg_sq"} if isinstance(optimizer, torch.optim.Adam) else set()


def _is_moment(value: Any, shape: torch.Size) -> bool:
    return isinstance(value, Tensor) and value.shape == shape and value.is_floating_point() and bool(value.isfinite().all())
