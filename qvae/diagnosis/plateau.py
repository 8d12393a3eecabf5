"""Whether a circuit stands on a barren plateau: variances of its gradients against size, and what other starts make of them."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.gradients.variance import Decay, GradientVariance, exponential_decay, gradient_variance, power_decay
from qvae.circuits.initialisation import uniform
from qvae.config.schema import ModelConfig
from qvae.diagnosis.remedies import COSTS, Family, Remedy, remedies
from qvae.errors import CircuitError
from qvae.models.circuit_block import CircuitBlock
from qvae.progress import Report

MOST_QUBITS = 10
"""That are looked at: larger circuits take long, and the law is seen before."""
_SIZES = 4  # of circuits, in qubits and in layers


@dataclass(frozen=True)
class Curve:
    """Variances of derivatives by all weights, uniform at the start, against the size of the circuit.

    Attributes:
        against: qubits or layers.
        fixed: the other one, in words.
        cost: global or local.
        sizes: of the circuits.
        variances: one for each size.
        decay: of the law that fits better; None where fewer than three sizes can't tell, or a variance is 0.
        law: exponential, so many bits for each qubit or layer, or power, which leaves gradients to train with.
    """

    against: str
    fixed: str
    cost: str
    sizes: tuple[int, ...]
    variances: tuple[GradientVariance, ...]
    decay: Decay | None
    law: str


@dataclass(frozen=True)
class Plateau:
    """What was found out about a model's circuit.

    Attributes:
        qubits, layers: of the circuit whose depth varies and whose starts are tried.
        starts: for each variance.
        curves: against qubits and against layers, for both costs.
        remedies: uniform angles first, which the others are held against.
    """

    qubits: int
    layers: int
    starts: int
    curves: tuple[Curve, ...]
    remedies: tuple[Remedy, ...]

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def circuit_family(config: ModelConfig, seed: int = 0) -> Family:
    """The circuits of a model's configuration at other sizes, encoding the angles of one normal latent."""
    chosen = config.circuit
    assert chosen is not None

    def made(qubits: int, layers: int) -> tuple[Circuit, Tensor]:
        sized = chosen.model_copy(update={"qubits": qubits, "layers": layers, "measured": "z"})
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            block = CircuitBlock.from_config(sized) if config.gan is None else CircuitBlock.styled(sized, config.gan.noise)
            latents = torch.randn(1, block.num_latents)
        return block.circuit, block.angles(latents).detach()[0].double()

    return made


def look_for_plateau(config: ModelConfig, starts: int, seed: int, report: Report = lambda share, figures: None) -> Plateau:
    """All of it, for the circuit of a model; by exact amplitudes, whatever executor trains it.

    Raises:
        CircuitError: the circuit can't be had.
    """
    assert config.circuit is not None
    family, most = circuit_family(config, seed), min(config.circuit.qubits, MOST_QUBITS)
    layers = config.circuit.layers
    depths = sorted({1, max(1, layers // 2), layers, 2 * layers})[-_SIZES:]
    report(0.0, "variances against qubits")
    by_qubits = curves(family, "qubits", [(qubits, layers) for qubits in spaced(2, most)], starts, seed)
    report(0.3, "variances against layers")
    by_layers = curves(family, "layers", [(most, depth) for depth in depths], starts, seed)
    report(0.6, "other starts, and layerwise training")
    tried = remedies(config, most, family, starts, seed)
    report(1.0, "")
    return Plateau(most, layers, starts, (*by_qubits, *by_layers), tried)


def spaced(least: int, most: int) -> list[int]:
    """Up to four whole numbers from the least to the most, evenly.

    >>> spaced(2, 10), spaced(2, 3), spaced(2, 1)
    ([2, 5, 7, 10], [2, 3], [1])
    """
    if most <= least:
        return [most]
    count = min(_SIZES, most - least + 1)
    return [least + round(place * (most - least) / (count - 1)) for place in range(count)]


def curves(
    family: Family, against: Literal["qubits", "layers"], sizes: Sequence[tuple[int, int]], starts: int, seed: int
) -> tuple[Curve, ...]:
    """Variances of both costs along circuits of growing (qubits, layers); sizes at which there is no such circuit are left out.

    Args:
        family: makes the circuits.
        against: what grows.
        sizes: one or more, the other number being the same in all.
        starts: for each variance.
        seed: of the starts.
    """
    made = []
    for size in sizes:
        with suppress(CircuitError):  # trees, for instance, have powers of two
            made.append((size, *family(*size)))
    varied = 0 if against == "qubits" else 1
    fixed = _counted(sizes[0][1 - varied], "layers" if against == "qubits" else "qubits")
    found = []
    for name, cost in COSTS.items():
        variances = [
            gradient_variance(circuit, cost(circuit.num_qubits), None, starts, uniform, inputs, seed=seed)
            for _, circuit, inputs in made
        ]
        places = tuple(size[varied] for size, _, _ in made)
        found.append(Curve(against, fixed, name, places, tuple(variances), *_decay(places, variances)))
    return tuple(found)


def _counted(number: int, things: str) -> str:
    return f"{number} {things if number > 1 else things[:-1]}"


def _decay(sizes: Sequence[int], variances: Sequence[GradientVariance]) -> tuple[Decay | None, str]:
    """The better of two laws, and its name."""
    try:
        bits, power = exponential_decay(sizes, variances), power_decay(sizes, variances)
    except CircuitError:
        return None, ""
    return (bits, "exponential") if bits.chi_square <= power.chi_square else (power, "power")
