"""What a diagnosis found: a short training of a configuration, of settings that might help, and a circuit's plateau."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qvae.diagnosis.layers import Layer, Verdict
from qvae.diagnosis.plateau import Plateau


@dataclass(frozen=True)
class Trial:
    """A short training of one setting, and how the gradients of its layers fared.

    Attributes:
        setting: what was changed, as ``--set`` takes it; empty for the configuration itself.
        steps: whose gradients were noted.
        layers: all of them, the nearest to the loss first.
    """

    setting: str
    steps: tuple[int, ...]
    layers: tuple[Layer, ...]

    def named(self, verdict: Verdict) -> list[Layer]:
        """The layers of a verdict."""
        return [layer for layer in self.layers if layer.verdict == verdict]

    @property
    def is_well(self) -> bool:
        """Whether no layer is dead, and none explodes."""
        return not (self.named("dead") or self.named("exploding"))

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {"setting": self.setting, "steps": list(self.steps), "layers": [layer.to_dict() for layer in self.layers]}


@dataclass(frozen=True)
class Diagnosis:
    """Layers and circuit, and the folder of their pictures.

    Attributes:
        source: the configuration's data and model, or the run, in words.
        trial: of the configuration itself.
        others: settings that might help, each tried alone; none where nothing is wrong, or where a run's model is given.
        plateau: of the circuit; None where the model has none.
        path: the folder.
    """

    source: str
    trial: Trial
    others: tuple[Trial, ...]
    plateau: Plateau | None
    path: Path
