"""What helps a circuit on a plateau: starts and layerwise training, by their gradients and by the costs that they reach."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.gradients.variance import gradient_variance
from qvae.circuits.initialisation import FirstLayers, IdentityBlocks, SmallAngles, Start, uniform
from qvae.circuits.layerwise import Layerwise
from qvae.circuits.library import ANSATZES, ENCODINGS, compose
from qvae.circuits.library.costs import global_cost, local_cost
from qvae.circuits.paulis import PauliSum
from qvae.circuits.registry import load_executor
from qvae.config.schema import ModelConfig

COSTS = {"global": global_cost, "local": local_cost}
TRIED_STEPS = 30
TRIED_STARTS = 5
_RATE = 0.1  # of Adam, radians

Family = Callable[[int, int], tuple[Circuit, Tensor | None]]
"""From numbers of qubits and layers to a circuit and its inputs (I,), or None; it may raise a CircuitError for some numbers."""


@dataclass(frozen=True)
class Remedy:
    """A start of a circuit: the size of its gradients there, and what a short training makes of its costs.

    Attributes:
        name: in words.
        squares: mean squares of the derivatives by all weights, by the name of the cost.
        costs: by its name, before and after :data:`TRIED_STEPS` steps of Adam, means over :data:`TRIED_STARTS` starts.
    """

    name: str
    squares: dict[str, float]
    costs: dict[str, tuple[float, float]]


class _Tried(NamedTuple):
    name: str
    circuit: Circuit
    inputs: Tensor | None
    start: Start
    layerwise: Layerwise | None = None


def remedies(config: ModelConfig, qubits: int, family: Family, starts: int, seed: int) -> tuple[Remedy, ...]:
    """Uniform angles, which the others are held against, and all that a model's circuit may be started by.

    Args:
        config: of a model with a circuit.
        qubits: of it.
        family: makes it.
        starts: for each mean square.
        seed: of the starts.
    """
    found = []
    for tried in _starts(config, qubits, family):
        squares, costs = {}, {}
        for name, cost in COSTS.items():
            observable = cost(qubits)
            size = gradient_variance(tried.circuit, observable, None, starts, tried.start, tried.inputs, seed=seed)
            squares[name], costs[name] = size.mean_square, _trained(tried, observable, seed)
        found.append(Remedy(tried.name, squares, costs))
    return tuple(found)


def _starts(config: ModelConfig, qubits: int, family: Family) -> Iterator[_Tried]:
    """Of the same circuit, or of one that is as deep and has the same gates."""
    chosen = config.circuit
    assert chosen is not None
    layers = chosen.layers
    circuit, inputs = family(qubits, layers)
    yield _Tried("uniform angles", circuit, inputs, uniform)
    if chosen.initial_weights > 0:
        name = f"small angles, {chosen.initial_weights:g}, as configured"
        yield _Tried(name, circuit, inputs, SmallAngles(chosen.initial_weights))
    small = 1 / (2 * sqrt(layers + 2))
    yield _Tried(f"small angles, {small:.2f} (Zhang et al. 2022)", circuit, inputs, SmallAngles(small))
    if layers > 1:
        ends = tuple(family(qubits, number)[0].num_weights for number in range(1, layers + 1))
        yield _Tried(f"layerwise, {layers} layers", circuit, inputs, FirstLayers(ends[0]), Layerwise(ends, part=0.5))
    if chosen.arm != "unentangled":
        half = min(2, -(-layers // 2))
        number = max(1, layers // (2 * half))
        blocks = IdentityBlocks(ANSATZES[chosen.ansatz](qubits, half), number)
        encoding = ENCODINGS[chosen.encoding](qubits)
        seen = None if inputs is None else inputs[: encoding.num_inputs]
        name = f"identity blocks, {2 * half * number} layers behind one encoding"
        yield _Tried(name, compose(encoding, blocks.circuit), seen, blocks)


def _trained(tried: _Tried, observable: PauliSum, seed: int) -> tuple[float, float]:
    """Means of the cost before and after a short training, by exact amplitudes."""
    executor, circuit = load_executor("statevector"), tried.circuit
    weights = tried.start(circuit, TRIED_STARTS, torch.Generator().manual_seed(seed)).requires_grad_()
    inputs = weights.new_zeros(0) if tried.inputs is None else tried.inputs.to(weights)
    optimizer = torch.optim.Adam([weights], _RATE)

    def cost() -> Tensor:
        rows = torch.cat([inputs.expand(TRIED_STARTS, -1), weights], dim=1)
        return executor.expectations(circuit, rows, [observable]).mean()

    before = float(cost().detach())
    for step in range(TRIED_STEPS):
        optimizer.zero_grad()
        cost().mul(TRIED_STARTS).backward()  # each start has its own cost's gradient
        optimizer.step()
        if tried.layerwise is not None:
            tried.layerwise.hold(weights, step / TRIED_STEPS)
    return before, float(cost().detach())
