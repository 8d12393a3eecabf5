"""Which layers' gradients vanish or explode: norms over a few steps, judged against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median
from typing import Any, Literal

from qvae.training.gradient_norms import GradientNorms

DEAD = 1e-4
"""Of the largest norm between the loss and a layer: below it the layer is dead."""
TALL = 1e3
"""Times the norm of the tensors nearest to the loss: above it gradients explode on their way back."""
GROWTH = 100.0
"""Times, from the first to the last quarter of the steps: above it they explode as the training goes on."""
_NEAREST = 3  # tensors to the loss; the largest of them is what the others are held against

Verdict = Literal["healthy", "dead", "exploding", "frozen", "unreached"]


@dataclass(frozen=True)
class Layer:
    """A parameter tensor, and how its gradient fared.

    Attributes:
        name: in the model.
        size: numbers in it.
        norms: of its gradient, one for each step that was noted; empty where it has none.
        verdict: healthy, dead, exploding, frozen, which learns nothing by gradients, or unreached, to which none came.
        why: the verdict in words; empty for a healthy one.
    """

    name: str
    size: int
    norms: tuple[float, ...]
    verdict: Verdict = "healthy"
    why: str = ""

    @property
    def median(self) -> float:
        """Over the steps, those without a finite norm left out; 0 where there is none."""
        return median([norm for norm in self.norms if isfinite(norm)] or [0.0])

    def to_dict(self) -> dict[str, Any]:
        """For JSON, which has no infinities: norms that are no finite numbers are null."""
        norms = [norm if isfinite(norm) else None for norm in self.norms]
        return {"name": self.name, "size": self.size, "verdict": self.verdict, "why": self.why, "norms": norms}


def judged(norms: GradientNorms, sizes: Mapping[str, int]) -> list[Layer]:
    """Every layer with its verdict, the nearest to the loss first, and frozen ones at the end.

    Args:
        norms: of a training that is over.
        sizes: numbers in each parameter, by its name.
    """
    found = [(name, tuple(series.tolist())) for name, series in norms.series().items() if name in norms.reached]
    layers = [Layer(name, sizes[name], series) for name, series in found]
    nearest = max((layer.median for layer in layers[:_NEAREST]), default=0.0)
    reasons = {layer.name: _explosion(layer, norms.steps, nearest) for layer in layers}
    largest, after = 0.0, []
    for layer in layers:
        if not reasons[layer.name]:
            largest = max(largest, layer.median)
        after.append(_judged(layer, reasons[layer.name], largest))
    frozen = "no gradient is asked for: it is frozen, or an optimizer moves it by losses alone"
    elsewhere = "no gradient came in these steps: another phase of the training moves it, or nothing does"
    after += [Layer(name, sizes[name], (), "unreached", elsewhere) for name in norms.names if name not in norms.reached]
    return after + [Layer(name, sizes[name], (), "frozen", frozen) for name in norms.silent]


def _judged(layer: Layer, explosion: str, largest: float) -> Layer:
    if explosion:
        return Layer(layer.name, layer.size, layer.norms, "exploding", explosion)
    if layer.median == 0:
        return Layer(layer.name, layer.size, layer.norms, "dead", "its gradient is 0")
    if layer.median < DEAD * largest:
        why = f"its gradient is {layer.median / largest:.0e} of the largest between the loss and it"
        return Layer(layer.name, layer.size, layer.norms, "dead", why)
    return layer


def _explosion(layer: Layer, steps: Sequence[int], nearest: float) -> str:
    """Why a layer's gradients explode; empty if they don't."""
    broken = next((step for step, norm in zip(steps, layer.norms, strict=True) if not isfinite(norm)), None)
    if broken is not None:
        return f"its gradient is not finite from step {broken} on"
    quarter = max(1, len(layer.norms) // 4)
    first, last = median(layer.norms[:quarter] or (0.0,)), median(layer.norms[-quarter:] or (0.0,))
    if len(layer.norms) > 1 and first > 0 and last > GROWTH * first and last > nearest:
        return f"its gradient grows {last / first:.0e} times in {steps[-1]} steps"
    if nearest > 0 and layer.median > TALL * nearest:
        return f"its gradient is {layer.median / nearest:.0e} times that of the tensors nearest to the loss"
    return ""


