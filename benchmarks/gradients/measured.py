"""Gradients that Jordan's algorithm measures, a few parameters in one circuit, with a count of what they took."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import qvae
from qvae.circuits.gradients.jordan import GradientEstimate, jordan_gradient
from qvae.errors import CircuitError


class Readings:
    """Readings of gradients, one measurement each.

    Attributes:
        evaluations: of the loss, by which the simulator learnt what its oracles do.
        calls: of oracles that write the loss, times a number, into a phase.
        phases: these numbers together: as many calls of exp(i loss) would a quantum computer need.
        circuits: that were run.
    """

    def __init__(self, seed: int, qubits: int) -> None:
        self._executor, self._qubits = qvae.load_executor("statevector", seed=seed), qubits
        self._steeper, self._more_curved = 1.0, 1.0
        self.evaluations, self.calls, self.phases, self.circuits = 0, 0, 0.0, 0

    def read(self, loss: Callable[[Tensor], Tensor], at: Tensor, bound: float, curvature: float) -> Tensor:
        """The gradient (d,) of a loss from points (rows, d) to values.

        Where the loss breaks a promise, that one is raised fourfold, and lowered again for the next reading: the simulator sees
        that in its table of phases, and a quantum computer would have to be told.
        """
        while True:
            try:
                found = self._read(loss, at, self._steeper * bound, self._more_curved * curvature)
            except CircuitError as error:
                if "raise bound" in str(error):
                    self._steeper *= 4
                elif "raise curvature" in str(error):
                    self._more_curved *= 4
                else:
                    raise
            else:
                self._steeper, self._more_curved = max(1.0, self._steeper / 2), max(1.0, self._more_curved / 2)
                return found.gradient

    def _read(self, loss: Callable[[Tensor], Tensor], at: Tensor, bound: float, curvature: float) -> GradientEstimate:
        def counted(points: Tensor) -> Tensor:
            self.evaluations += len(points)
            return loss(points)

        found = jordan_gradient(counted, at, bound, curvature, self._executor, self._qubits, repetitions=1)
        self.count(found)
        return found

    def count(self, found: GradientEstimate) -> None:
        """Of one circuit."""
        self.circuits += 1
        self.calls += found.oracle_calls
        self.phases += found.phase_scale

    def in_words(self, steps: int) -> str:
        """What a step took."""
        return (
            f"{self.circuits / steps:,.0f} circuits a step, {self.calls / steps:,.0f} oracle calls, each for "
            f"{self.phases / max(1, self.calls):,.0f} calls of exp(i loss)"
        )


def waves(values: Tensor) -> Tensor:
    """Coefficients (3, 3) of 1, cos and sin in two angles, of a loss at all pairs of 0, 2 pi/3 and 4 pi/3, (3, 3)."""
    turns = 2 * torch.pi / 3 * torch.arange(3, dtype=values.dtype)
    rows = torch.stack([torch.full_like(turns, 1 / 3), 2 / 3 * turns.cos(), 2 / 3 * turns.sin()])
    return rows @ values @ rows.T


def along(coefficients: Tensor, offsets: Tensor) -> Tensor:
    """That loss at offsets (rows, 2) of the angles."""
    first, second = (torch.stack([torch.ones_like(angle), angle.cos(), angle.sin()], 1) for angle in offsets.unbind(1))
    return ((first @ coefficients) * second).sum(1)
