"""Early stopping: the averaged weights at which held-out rows were best are kept, and a training that no longer helps ends."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from qvae.training.objective import Clock


class EarlyStopping:
    """Watches the surrogate of held-out rows from look to look (L. Prechelt, "Early stopping - but when?", 1998).

    Args:
        patience: looks in a row that find them no better, after which the training ends; None never ends one and keeps nothing.
        begins: part of the training from which looks count: before, another loss is minimised than the one that is looked at.

    Attributes:
        best: the lowest figure so far, in nats.
        epoch: when it was.
        weights: averaged ones of then; None before the first look that counts.
    """

    def __init__(self, patience: int | None, begins: float = 0.0) -> None:
        self.patience, self.begins = patience, begins
        self.best, self.epoch = math.inf, 0
        self.weights: list[Tensor] | None = None
        self._looks_since = 0

    @property
    def has_ended(self) -> bool:
        """Whether patience is at its end."""
        return self.patience is not None and self._looks_since >= self.patience

    def look(self, held_out: float, weights: Sequence[Tensor], clock: Clock) -> None:
        """Take the figure of a look, and the averaged weights as they are then, which are copied."""
        if self.patience is None or clock.progress < self.begins:
            return
        if held_out < self.best:
            self.best, self.epoch, self._looks_since = held_out, clock.epoch, 0
            self.weights = [value.clone() for value in weights]
        else:
            self._looks_since += 1

    @property
    def words(self) -> str:
        """Which weights the training ends with, as a clause; empty where they are those of its last look, or all count."""
        if self.patience is None or self.weights is None or not self._looks_since:
            return ""
        kept = f"the weights of epoch {self.epoch} are kept, at which held-out rows were best ({self.best:.2f} nats)"
        if not self.has_ended:
            return kept
        looks = f"{self._looks_since} look{'s' * (self._looks_since > 1)} in a row"
        return f"{looks} found held-out rows no better, so the training ended early: {kept}"

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the training depends on."""
        if self.weights is None:
            return {}
        return {"best": self.best, "epoch": self.epoch, "looks_since": self._looks_since, "weights": list(self.weights)}

    def load_state_dict(self, state: Mapping[str, Any], like: Sequence[Tensor]) -> None:
        """Go on from there, with weights on the device of ``like``."""
        if state and self.patience is not None:
            self.best, self.epoch, self._looks_since = state["best"], state["epoch"], state["looks_since"]
            self.weights = [saved.to(value) for saved, value in zip(state["weights"], like, strict=True)]
