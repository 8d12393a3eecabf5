"""Held-out rows, watched while a model trains: overfitting is told once."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

_RISE = 0.5  # nats above its best, from which on held-out rows are said to get worse


class HeldOutWatch:
    """Remembers the best loss of held-out rows.

    Args:
        warn: takes the kind of a trouble and a clause about it.
    """

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn
        self._best_held_out = math.inf

    def check_held_out(self, surrogate: float, epoch: int) -> None:
        """Say it where the surrogate of held-out rows is well above its best."""
        self._best_held_out = min(self._best_held_out, surrogate)
        if surrogate > self._best_held_out + _RISE:
            self._warn(
                "overfitting",
                f"the surrogate of held-out rows has risen from {self._best_held_out:.2f} to {surrogate:.2f} nats "
                f"(epoch {epoch}): the model begins to learn its training rows by heart; take fewer training.epochs, or "
                "training.early_stopping",
            )

    def state_dict(self) -> dict[str, Any]:
        """What the signs of trouble depend on."""
        return {"best_held_out": self._best_held_out if math.isfinite(self._best_held_out) else None}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        best = state.get("best_held_out")
        self._best_held_out = math.inf if best is None else best
