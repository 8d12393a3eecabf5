"""How the gradients of a circuit shrink: their variance over random starts, and its decay with size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, sqrt
from typing import Any

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.gradients.parameter_shift import ParameterShift
from qvae.circuits.initialisation import Start, uniform
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError
from qvae.seeding import Seed, Seeded

_AT_ONCE = 2**21  # amplitudes whose states are kept for the derivatives


@dataclass(frozen=True)
class GradientVariance:
    """Of derivatives over random starts.

    Attributes:
        variance: over the starts, its mean over the weights that were asked for.
        stderr: its standard error.
        mean_square: of the derivatives; more than the variance where starts prefer a sign, as those of small angles do.
        starts: of them.
    """

    variance: float
    stderr: float
    mean_square: float
    starts: int


@dataclass(frozen=True)
class Decay:
    """A straight line through the logarithms of variances.

    Attributes:
        rate: factors of two by which the variance falls for each unit of what it was fitted against.
        stderr: its standard error, from those of the variances.
        chi_square: of the fit, for each degree of freedom; far above 1 where the variance follows another law.
    """

    rate: float
    stderr: float
    chi_square: float


def gradient_variance(
    circuit: Circuit,
    observable: Any,
    weight: int | None = 0,
    starts: int = 200,
    start: Start = uniform,
    inputs: Tensor | None = None,
    executor: Executor | None = None,
    seed: Seed = None,
) -> GradientVariance:
    """The variance of d<O>/dw over random weights w: where it falls exponentially with qubits, there is a barren plateau.

    Args:
        circuit: of W weights.
        observable: O, a sum of Pauli strings.
        weight: the number of that by which is derived; None is all of them.
        starts: 2 or more.
        start: draws them.
        inputs: of the circuit, (I,), the same at all starts.
        executor: None is ``statevector``; one without gradients is asked by the parameter-shift rule.
        seed: of the starts.

    Raises:
        CircuitError: the circuit has no such weight, or inputs that aren't given, or there are too few starts.
        ExecutorError: the executor takes fewer qubits, or failed.
    """
    executor = load_executor("statevector") if executor is None else executor
    wanted = _wanted(circuit, weight, starts, inputs)
    generator = Seeded(seed).generator(torch.device("cpu"))
    weights = start(circuit, starts, generator)
    rows = weights if inputs is None else torch.cat([inputs.to(weights).expand(starts, -1), weights], dim=1)
    derivatives = _derivatives(executor, circuit, rows, observable, wanted)
    squares = (derivatives - derivatives.mean(0)).square().mean(1) * starts / (starts - 1)
    stderr = float(squares.std()) / sqrt(starts)
    return GradientVariance(float(squares.mean()), stderr, float(derivatives.square().mean()), starts)


def exponential_decay(sizes: Sequence[float], variances: Sequence[GradientVariance]) -> Decay:
    """Bits that are lost for each qubit, or layer: variance = c 2**(-rate size).

    >>> halves = [GradientVariance(2.0**-n, 2.0**-n / 10, 2.0**-n, 200) for n in (2, 4, 6)]
    >>> round(exponential_decay([2, 4, 6], halves).rate, 6)
    1.0

    Raises:
        CircuitError: there are fewer than three sizes, or a variance is 0.
    """
    return _line(torch.tensor([float(size) for size in sizes]), variances)


def power_decay(sizes: Sequence[float], variances: Sequence[GradientVariance]) -> Decay:
    """The power of a decay that leaves gradients to train with: variance = c size**(-rate).

    Raises:
        CircuitError: as :func:`exponential_decay`.
    """
    return _line(torch.tensor([float(size) for size in sizes]).log2(), variances)


def _line(places: Tensor, variances: Sequence[GradientVariance]) -> Decay:
    """Least squares, weighted by the errors of the logarithms."""
    if len(places) < 3 or len(places) != len(variances) or not all(each.variance > 0 for each in variances):
        raise CircuitError("a decay is fitted to three sizes or more, each with a variance above 0.")
    logs = torch.tensor([each.variance for each in variances], dtype=torch.float64).log2()
    errors = torch.tensor([each.stderr / (each.variance * log(2)) for each in variances], dtype=torch.float64)
    share = errors.square().reciprocal()
    share = share / share.sum()
    away = places.double() - share @ places.double()
    spread = share @ away.square()
    slope = share @ (away * logs) / spread
    rest = (logs - share @ logs - slope * away) / errors
    stderr = float(errors.square().reciprocal().sum().mul(spread).rsqrt())
    return Decay(-float(slope), stderr, float(rest.square().sum()) / (len(places) - 2))


def _derivatives(executor: Executor, circuit: Circuit, rows: Tensor, observable: Any, wanted: range) -> Tensor:
    """By the wanted parameters, (starts, wanted)."""
    if not executor.capabilities.differentiable:
        dual = rows.new_ones(len(rows), 1)
        return ParameterShift().gradients(executor, circuit, rows, [observable], dual, wanted)
    found = []
    for part in rows.split(max(1, _AT_ONCE >> circuit.num_qubits)):
        part = part.clone().requires_grad_()
        (slopes,) = torch.autograd.grad(executor.expectations(circuit, part, [observable]).sum(), part)
        found.append(slopes[:, wanted.start : wanted.stop])
    return torch.cat(found)


def _wanted(circuit: Circuit, weight: int | None, starts: int, inputs: Tensor | None) -> range:
    given = 0 if inputs is None else len(inputs)
    if given != circuit.num_inputs:
        raise CircuitError(f"the circuit has {circuit.num_inputs} inputs, but {given} are given; set inputs.")
    if circuit.num_weights == 0 or not (weight is None or 0 <= weight < circuit.num_weights):
        raise CircuitError(f"the circuit has {circuit.num_weights} weights, and none of number {weight}.")
    if starts < 2:
        raise CircuitError(f"starts is {starts}; a variance needs 2 or more.")
    if weight is None:
        return range(circuit.num_inputs, circuit.num_parameters)
    return range(circuit.num_inputs + weight, circuit.num_inputs + weight + 1)
