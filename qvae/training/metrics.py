"""What training shows and writes: means over an epoch as JSON lines, and early signs of trouble in words."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qvae.errors import QvaeError
from qvae.files import append_text
from qvae.progress import Progress
from qvae.training import ranks
from qvae.training.objective import Clock, Objective


class TrainingDiverged(QvaeError):
    """A figure, or a weight, is NaN or infinite: in all processes of a training, since they have the same ones."""

    is_everywhere = True


class Metrics:
    """Sums figures of steps on the device and, once an epoch, shows and writes their means.

    Args:
        file: gets a line of JSON each epoch; None writes nothing.
        progress: is told the figures and what looks wrong.
        tensorboard: folder of TensorBoard's events (extra ``tensorboard``); None writes none.

    Attributes:
        warnings: what was said, as ``kind: text``.
        row: figures of the last epoch, as they were written.
    """

    def __init__(
        self, file: Path | None = None, progress: Progress | None = None, tensorboard: Path | None = None
    ) -> None:
        self.progress = Progress() if progress is None else progress
        self.warnings: list[str] = []
        self.row: dict[str, float | None] = {}
        self._file = file
        self._totals: Tensor | None = None
        self._steps = 0
        self._latest: dict[str, Any] = {}
        self._writer_class = None if tensorboard is None else _tensorboard_writer()
        self._tensorboard = tensorboard
        self._writer: Any = None  # it makes its folder, so not before there is something to write

    # Collecting -------------------------------------------------------------------------------------------------------

    def record(self, figures: Tensor) -> None:
        """Add a step's figures (F,) to the epoch's sums, without waiting for the device."""
        # A resumed run brings its sums from the CPU.
        self._totals = figures if self._totals is None else self._totals.to(figures) + figures
        self._steps += 1

    def average(self) -> None:
        """Have the epoch's sums be averages over the processes that train together."""
        ranks.average_([] if self._totals is None else [self._totals])

    @property
    def has_open_epoch(self) -> bool:
        """Whether steps were recorded since the last epoch's end."""
        return self._totals is not None

    def check_finite(self, parameters: Sequence[Tensor] = (), said: str = Objective.diverged) -> None:
        """Raise :class:`TrainingDiverged`, which says so, if a figure or one of ``parameters`` is no longer a finite number."""
        watched = [*parameters, *([] if self._totals is None else [self._totals])]
        if not all(bool(torch.isfinite(tensor).all()) for tensor in watched):
            raise TrainingDiverged(said)

    def end_epoch(self, objective: Objective, clock: Clock, seconds: float, found: Mapping[str, float]) -> str:
        """Write and keep the epoch's figures; returns the last known loss in words, for a title.

        An epoch without a step, before which a budget ended, is none.
        """
        self.check_finite(said=objective.diverged)
        if self._totals is not None:
            means = dict(zip(objective.figures, (self._totals / self._steps).tolist(), strict=True))
            self._totals, self._steps = None, 0
            row: dict[str, float | None] = {"epoch": clock.epoch, "step": clock.step, "seconds": round(seconds, 3)}
            figures = objective.epoch_figures(means, found, clock)
            row |= {key: value if math.isfinite(value) else None for key, value in figures.items()}
            self.row = row
            self._write(row)
            self._latest |= {key: row[key] for key in ("epoch", *objective.shown) if key in row}
        return self._loss(objective)

    def _loss(self, objective: Objective) -> str:
        known = (name for name in objective.headline if self._latest.get(name) is not None)
        name = next(known, None)
        return "" if name is None else f"{name} {self._latest[name]:.1f}"

    def _write(self, row: Mapping[str, float | None]) -> None:
        if self._file is not None:
            append_text(self._file, json.dumps(row) + "\n")
        if self._writer_class is not None:
            self._writer = self._writer or self._writer_class(self._tensorboard)
            for key, value in row.items():
                if value is not None:
                    self._writer.add_scalar(f"training/{key}", value, row["step"])

    def flush(self) -> None:
        """See what was written onto the disk."""
        if self._writer is not None:
            self._writer.flush()

    # Showing ----------------------------------------------------------------------------------------------------------

    def summary(self, objective: Objective) -> str:
        """The latest figures in words: those that need a look are not measured in every epoch."""
        figures = self._latest | objective.live
        shown = {"epoch": ("epoch", "d"), **objective.shown}
        words = [f"{label} {figures[key]:{form}}" for key, (label, form) in shown.items() if figures.get(key) is not None]
        return "  ".join(words)

    def warn(self, kind: str, text: str) -> None:
        """Say something once per kind."""
        if not any(warning.startswith(f"{kind}: ") for warning in self.warnings):
            self.warnings.append(f"{kind}: {text}")
            self.progress.warn(text)

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The open epoch's sums, the latest figures, and what was said."""
        return {
            "totals": self._totals,
            "steps": self._steps,
            "figures": dict(self._latest),
            "warnings": list(self.warnings),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        self._totals, self._steps, self._latest = state["totals"], state["steps"], dict(state["figures"])
        self.warnings = list(state["warnings"])


def _tensorboard_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise QvaeError(
            "training.tensorboard needs an extra; in the clone of qvae: pip install -e '.[tensorboard]'."
        ) from error
    return SummaryWriter
