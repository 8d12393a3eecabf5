"""A task with a circuit: a classifier of eight qubits by a string on all of them, from uniform angles, on a barren plateau.

The loss is the mean of (1 - y <O>) / 2, linear in expectations, so that Rotosolve has its form. A cost counts circuits, as a
quantum computer would have to run them: gradients by parameter shift, and metrics from overlaps.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from measured import Readings, along, waves
from qvae_backends.statevector import StatevectorExecutor
from racing import Attempt, Method
from torch import Tensor, nn

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gradients import SPSA as SPSAGradient
from qvae.circuits.gradients import ParameterShift
from qvae.circuits.gradients.metric import levels, num_overlaps
from qvae.circuits.initialisation import IdentityBlocks, SmallAngles, Start, uniform
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.layerwise import Layerwise
from qvae.circuits.library import angle_encoding, compose, hardware_efficient
from qvae.training.optimizers import QNSPSA, SPSA, QuantumNaturalGradient, Rotosolve

QUBITS, LAYERS, ROWS, METRIC_ROWS = 8, 6, 16, 1
STEPS, PERTURBED_STEPS, SWEEPS, JORDAN_STEPS, SHOTS = 60, 300, 8, 20, 50
ADAM, DESCENT, NATURAL, PERTURBED = (0.03, 0.1, 0.3), (1.0, 3.0, 10.0), (0.03, 0.1, 0.3), (1.0, 3.0, 10.0)
NATURAL_PERTURBED = (0.01, 0.03, 0.1)
GLOBAL = [("Z" * QUBITS, 1.0)]
LOCAL = [("I" * (QUBITS - 1 - qubit) + "Z" + "I" * qubit, 1 / QUBITS) for qubit in range(QUBITS)]


class Classifier(nn.Module):
    """<O> of an encoding and an ansatz, beside the data of a seed: two clouds of angles, on both sides of pi/2."""

    def __init__(self, seed: int, ansatz: Circuit, start: Start = uniform, observable: Any = GLOBAL) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.layer = CircuitLayer(compose(angle_encoding(QUBITS), ansatz), [observable])
        with torch.no_grad():
            self.layer.weight.copy_(start(ansatz, 1, generator)[0])
        direction = torch.randn(QUBITS, generator=generator)
        self.y = 2.0 * (torch.arange(ROWS) % 2) - 1
        noise = 0.4 * torch.randn(ROWS, QUBITS, generator=generator)
        self.x = torch.pi / 2 + 0.8 * self.y.unsqueeze(1) * direction / direction.norm() * QUBITS**0.5 / 2 + noise

    def forward(self) -> Tensor:
        """The loss."""
        return (1 - self.y * self.layer(self.x)[:, 0]).mean() / 2

    def value(self) -> Tensor:
        """The loss, exact, without gradients."""
        with torch.no_grad():
            found = StatevectorExecutor().expectations(self.layer.circuit, self.x, self.layer.observables, self.layer.weight)
            return (1 - self.y * found[:, 0]).mean() / 2


ANSATZ = hardware_efficient(QUBITS, LAYERS, ("ry",), "cz")
BLOCKS = IdentityBlocks(hardware_efficient(QUBITS, 1, ("ry",), "cz"), LAYERS // 2)
LAYERWISE = Layerwise(tuple(QUBITS * (layer + 1) for layer in range(LAYERS)), part=0.5)
Make = Callable[[int], Classifier]
GRADIENT = ROWS * (1 + 2 * ANSATZ.num_weights)


def plain(seed: int) -> Classifier:
    return Classifier(seed, ANSATZ)


def by_spsa(seed: int) -> Classifier:
    model = plain(seed)
    model.layer.gradient = SPSAGradient(seed=seed)
    return model


class Measured(StatevectorExecutor):
    """Bits drawn from exact probabilities."""

    capabilities = ExecutorCapabilities()
    shots = SHOTS
    _weighted_expectations = Executor._weighted_expectations


def on_shots(seed: int) -> Classifier:
    model = plain(seed)
    model.layer.executor, model.layer.gradient = Measured(seed=seed), ParameterShift()
    return model


def attempt(model: Classifier, step: Callable[[float], object], cost: float) -> Attempt:
    return Attempt(step, lambda: float(model.value()), cost)


def by_gradients(
    seed: int,
    rate: float,
    make: Make,
    kind: Callable[[Classifier, float], torch.optim.Optimizer],
    metric: int = 0,
    layerwise: Layerwise | None = None,
    cost: int = GRADIENT,
) -> Attempt:
    model = make(seed)
    optimizer = kind(model, rate)
    if layerwise is not None:
        layerwise.hold(model.layer.weight, 0.0)

    def step(progress: float) -> None:
        optimizer.zero_grad()
        model().backward()
        optimizer.step()
        if layerwise is not None:
            layerwise.hold(model.layer.weight, progress)

    return attempt(model, step, cost + metric)


def by_losses(
    seed: int, rate: float, kind: Callable[[Classifier, float, int], Any], cost: float
) -> Attempt:
    model = plain(seed)
    optimizer = kind(model, rate, seed)
    return attempt(model, lambda progress: optimizer.step(model.value), cost)


def by_jordan(seed: int, rate: float) -> Attempt:
    """Two angles in each of 24 circuits, 12 qubits, and Adam; the loss is a wave in each, so that nine values tell it."""
    model, readings = plain(seed).double(), Readings(seed, 6)
    optimizer, layer = torch.optim.Adam(model.parameters(), rate), model.layer
    everything = Circuit(QUBITS, layer.circuit.gates, layer.circuit.num_parameters, layer.circuit.num_parameters)
    turns = 2 * torch.pi / 3 * torch.cartesian_prod(*2 * [torch.arange(3.0, dtype=torch.float64)])

    def around(first: int) -> Tensor:
        """The loss at nine pairs of two angles, (3, 3)."""
        weights = layer.weight.detach().repeat(len(turns), 1)
        weights[:, first : first + 2] += turns
        values = torch.cat([model.x.double().repeat(len(turns), 1), weights.repeat_interleave(ROWS, 0)], 1)
        found = layer.executor.expectations(everything, values, layer.observables)[:, 0].view(3, 3, ROWS)
        return (1 - model.y * found).mean(2) / 2

    def step(progress: float) -> None:
        layer.weight.grad = torch.zeros_like(layer.weight)
        for first in range(0, len(layer.weight), 2):
            here, coefficients = layer.weight.detach()[first : first + 2], waves(around(first))

            def loss(points: Tensor, here: Tensor = here, coefficients: Tensor = coefficients) -> Tensor:
                return along(coefficients, points - here)

            # A derivative of <O> is at most 1, and one of third order along a line in two angles at most sqrt(2)^3.
            layer.weight.grad[first : first + 2] = readings.read(loss, here, 0.5, 2**0.5)
        optimizer.step()

    told = partial(readings.in_words, JORDAN_STEPS)
    return Attempt(step, lambda: float(model.value()), lambda: ROWS * readings.phases, told)


def plateau() -> list[Method]:
    """Optimizers from uniform angles, and Adam with remedies."""

    def adam(model: Classifier, rate: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(model.parameters(), rate)

    def natural(**options: Any) -> Callable[[Classifier, float], torch.optim.Optimizer]:
        return lambda model, rate: QuantumNaturalGradient(model, rate, rows=METRIC_ROWS, damping=0.01, **options)

    def method(name: str, kind: Any, rates: tuple[float, ...], make: Make = plain, **more: Any) -> Method:
        return Method(name, partial(by_gradients, make=make, kind=kind, **more), rates, STEPS)

    circuit = plain(0).layer.circuit
    full, blocks, diagonal = (
        METRIC_ROWS * num_overlaps(circuit, parts)
        for parts in (None, levels(circuit), torch.arange(circuit.num_weights))
    )
    spsa = partial(
        by_losses,
        kind=lambda model, rate, seed: SPSA(model.parameters(), rate, step=0.1, stability=PERTURBED_STEPS / 10, seed=seed),
        cost=2 * ROWS,
    )
    qnspsa = partial(
        by_losses,
        kind=lambda model, rate, seed: QNSPSA(model, rate, step=0.05, damping=0.01, blocking=0.02, rows=METRIC_ROWS, seed=seed),
        cost=3 * ROWS + 4 * METRIC_ROWS,
    )
    rotosolve = partial(
        by_losses, kind=lambda model, rate, seed: Rotosolve(model.parameters()), cost=3 * ANSATZ.num_weights * ROWS
    )
    small = SmallAngles(1 / (2 * (QUBITS * (LAYERS + 2)) ** 0.5))  # of an observable on all qubits: Zhang et al. 2022
    return [
        method("Adam", adam, ADAM),
        method("AdamW", lambda model, rate: torch.optim.AdamW(model.parameters(), rate), ADAM),
        method("SGD, momentum 0.9", lambda model, rate: torch.optim.SGD(model.parameters(), rate, 0.9), DESCENT),
        method("QNG, full metric", natural(), NATURAL, metric=full),
        method("QNG, block-diagonal", natural(metric="block-diagonal"), NATURAL, metric=blocks),
        method("QNG, diagonal", natural(metric="diagonal"), NATURAL, metric=diagonal),
        method("QNG, momentum 0.9", natural(momentum=0.9), tuple(rate / 3 for rate in NATURAL), metric=full),
        Method("SPSA", spsa, PERTURBED, PERTURBED_STEPS),
        Method("QN-SPSA, blocking", qnspsa, NATURAL_PERTURBED, PERTURBED_STEPS),
        Method("Rotosolve", rotosolve, (0.0,), SWEEPS),
        Method("Adam, SPSA's gradients", partial(by_gradients, make=by_spsa, kind=adam, cost=3 * ROWS), ADAM, STEPS),
        Method(f"Adam, {SHOTS} shots a circuit", partial(by_gradients, make=on_shots, kind=adam), (0.1,), STEPS),
        Method("Adam, Jordan's gradients", by_jordan, (0.1,), JORDAN_STEPS),
        method("Adam, small angles", adam, ADAM, lambda seed: Classifier(seed, ANSATZ, small)),
        method("Adam, identity blocks", adam, ADAM, lambda seed: Classifier(seed, BLOCKS.circuit, BLOCKS)),
        method("Adam, layerwise", adam, ADAM, layerwise=LAYERWISE),
        method("Adam, local cost", adam, ADAM, lambda seed: Classifier(seed, ANSATZ, uniform, LOCAL)),
    ]
