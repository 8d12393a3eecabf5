"""The parameter-shift rule: exact derivatives from expectations at a few angles far away."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from math import pi, sin
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor
from qvae.circuits.gradients.estimator import GradientEstimator

_CIRCUITS = 16  # with freed angles, that are kept

_FREQUENCIES: dict[tuple[str, int], tuple[float, int]] = {
    **{(name, 0): (0.5, 2) for name in ("crx", "cry", "crz", "cu", "cu3", "xx_plus_yy", "xx_minus_yy")},
    **{(name, 1): (1.0, 2) for name in ("r", "xx_plus_yy", "xx_minus_yy")},
}
"""Of a gate's angle: w and R, where expectations have the frequencies w, 2 w, ..., R w in it.

They are the differences of the exponents with which the angle enters the gate's matrix. All that aren't named have the
frequency 1 alone: Pauli rotations, phases with or without control, and the angles of ``u``.
"""


class Shift(NamedTuple):
    """One term of a rule: coefficient * f(angle + shift)."""

    shift: float
    coefficient: float


def shift_rule(gate: str, angle: int) -> list[Shift]:
    """Terms that add up to the derivative of an expectation by one angle of a gate: two, or four where it needs them.

    Wierichs et al. 2022 (arXiv:2107.12390), equation 27, whose case R = 1 is that of Schuld et al. 2019 (arXiv:1811.11184).

    >>> len(shift_rule("rx", 0)), len(shift_rule("crx", 0))
    (2, 4)
    """
    frequency, number = _FREQUENCIES.get((gate, angle), (1.0, 1))
    terms = []
    for index in range(number):
        turn = (2 * index + 1) * pi / (2 * number)
        coefficient = (-1) ** index * frequency / (4 * number * sin(turn / 2) ** 2)
        terms += [Shift(turn / frequency, coefficient), Shift(-turn / frequency, -coefficient)]
    return terms


class ParameterShift(GradientEstimator):
    """Each angle of each gate is shifted by itself, and the chain rule leads on to the parameters.

    All rows and shifts are one call of the executor: 2 to 4 executions for each angle that follows a wanted parameter.
    """

    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """See :meth:`GradientEstimator.gradients`; exact up to the executor's own errors."""
        freed = free_angles(circuit)
        found = values.new_zeros(len(values), circuit.num_parameters)
        terms = freed.terms(wanted)
        if terms and len(values):
            columns, shifts, coefficients, parameters = (list(part) for part in zip(*terms, strict=True))
            rows = freed.values(values).repeat(len(terms), 1, 1)
            rows[torch.arange(len(terms)), :, columns] += values.new_tensor(shifts).unsqueeze(1)
            measured = executor.expectations(freed.circuit, rows.flatten(0, 1), observables).unflatten(0, rows.shape[:2])
            slopes = (measured * dual).sum(2) * values.new_tensor(coefficients).unsqueeze(1)
            found.index_add_(1, torch.tensor(parameters, device=values.device), slopes.T)
        return found[:, wanted.start : wanted.stop]

    def executions(self, circuit: Circuit, wanted: range) -> int:
        """See :meth:`GradientEstimator.executions`."""
        return len(free_angles(circuit).terms(wanted))


class Term(NamedTuple):
    """A part of the derivative in a parameter: coefficient * f(angle in a column + shift)."""

    column: int
    shift: float
    coefficient: float
    parameter: int


class FreedCircuit(NamedTuple):
    """A circuit in which each angle that follows a parameter is one itself.

    Attributes:
        circuit: of so many parameters.
        angles: what they follow in the original.
        rules: for their derivatives.
    """

    circuit: Circuit
    angles: list[Affine]
    rules: list[list[Shift]]

    def values(self, parameters: Tensor) -> Tensor:
        """Of the circuit's parameters at those of the original, (B, P), one for each angle, (B, A)."""
        return torch.stack([parameters[:, angle.index] * angle.scale + angle.offset for angle in self.angles], dim=1)

    def terms(self, wanted: range) -> list[Term]:
        """Whose sums are the derivatives in the wanted parameters."""
        return [
            Term(column, shift, coefficient * angle.scale, angle.index)
            for column, (angle, rule) in enumerate(zip(self.angles, self.rules, strict=True))
            if angle.index in wanted
            for shift, coefficient in rule
        ]


@lru_cache(_CIRCUITS)
def free_angles(circuit: Circuit) -> FreedCircuit:
    """The circuit with a parameter of its own for each angle that follows one."""
    gates: list[Gate] = []
    followed: list[Affine] = []
    rules: list[list[Shift]] = []
    for gate in circuit.gates:
        angles: list[float | Affine] = []
        for position, angle in enumerate(gate.angles):
            if isinstance(angle, Affine):
                angles.append(Affine(len(followed)))
                followed.append(angle)
                rules.append(shift_rule(gate.name, position))
            else:
                angles.append(angle)
        gates.append(gate._replace(angles=tuple(angles)))
    return FreedCircuit(Circuit(circuit.num_qubits, gates, num_parameters=len(followed)), followed, rules)
