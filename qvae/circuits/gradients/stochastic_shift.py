"""The stochastic parameter-shift rule: of all shifts of a parameter, a few drawn at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.gradients.estimator import GradientEstimator
from qvae.circuits.gradients.parameter_shift import FreedCircuit, Term, free_angles
from qvae.options import checked_options
from qvae.seeding import Seed, Seeded


class StochasticShift(Seeded, GradientEstimator):
    """Two executions a draw for each parameter, in however many gates it acts.

    The evolution exp(-i (theta A + B)) has no rule of a few shifts where A and B don't commute; its derivative is an integral
    over the place s in which a shift by A splits the evolution, and a random s an unbiased draw of it: Banchi and Crooks 2021
    (arXiv:2005.10299). A machine of gates runs the evolution in slices (:func:`~qvae.circuits.library.evolution`), and s is
    the slice: of all angles that follow a parameter one is drawn, in proportion to its coefficient in the parameter-shift
    rule, and shifted both ways. A parameter of a single rotation has but one such pair, and is exact.

    Args:
        repetitions: draws for each parameter and row, over which is averaged.
        seed: of the draws; their generator's state is in ``state_dict``.

    Raises:
        ValueError: an option is out of its range.
    """

    @checked_options
    def __init__(self, repetitions: Annotated[int, Field(ge=1)] = 1, seed: Seed = None) -> None:
        super().__init__(seed)
        self.repetitions = repetitions

    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """See :meth:`GradientEstimator.gradients`; rows have draws of their own, and all are one call."""
        freed = free_angles(circuit)
        found = values.new_zeros(len(values), circuit.num_parameters)
        pairs = _pairs(freed, wanted)
        if not pairs or not len(values):
            return found[:, wanted.start : wanted.stop]
        drawn, totals = self._drawn(pairs, len(values), values.device)  # (F, R, B), (F,)
        columns, shifts, signs = (
            torch.tensor([getattr(pair, name) for own in pairs.values() for pair in own], device=values.device)[drawn]
            for name in ("column", "shift", "coefficient")
        )
        moves = torch.zeros(*drawn.shape, len(freed.angles)).to(values)
        moves.scatter_(3, columns.unsqueeze(3), shifts.to(values).unsqueeze(3))
        angles = freed.values(values)
        rows = torch.stack([angles + moves, angles - moves])
        measured = executor.expectations(freed.circuit, rows.flatten(0, 3), observables).unflatten(0, rows.shape[:4])
        slopes = ((measured[0] - measured[1]) * dual).sum(3) * signs.sign().to(values)
        found[:, list(pairs)] = (slopes.mean(1) * totals.to(values).unsqueeze(1)).T
        return found[:, wanted.start : wanted.stop]

    def _drawn(self, pairs: dict[int, list[Term]], rows: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Numbers of drawn pairs, counted through all parameters, (F, R, B), and sums of the pairs' sizes, (F,)."""
        widest = max(map(len, pairs.values()))
        sizes = torch.zeros(len(pairs), widest, dtype=torch.float64, device=device)
        first = []
        for place, own in enumerate(pairs.values()):
            first.append(sum(map(len, list(pairs.values())[:place])))
            sizes[place, : len(own)] = torch.tensor([abs(pair.coefficient) for pair in own], dtype=torch.float64)
        drawn = torch.multinomial(sizes, self.repetitions * rows, replacement=True, generator=self.generator(device))
        numbers = drawn + torch.tensor(first, device=device).unsqueeze(1)
        return numbers.view(len(pairs), self.repetitions, rows), sizes.sum(1)

    def executions(self, circuit: Circuit, wanted: range) -> int:
        """See :meth:`GradientEstimator.executions`."""
        return 2 * self.repetitions * len(_pairs(free_angles(circuit), wanted))


def _pairs(freed: FreedCircuit, wanted: range) -> dict[int, list[Term]]:
    """By the wanted parameters that gates follow, coefficient * (f(angle + shift) - f(angle - shift)), where it isn't 0."""
    found: dict[int, list[Term]] = {}
    for term in freed.terms(wanted):
        if term.coefficient and term.shift > 0:
            found.setdefault(term.parameter, []).append(term)
    return found
