"""Simultaneous perturbation: gradients from two executions a row, however many parameters there are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.gradients.estimator import GradientEstimator
from qvae.options import checked_options
from qvae.seeding import Seed, Seeded


class SPSA(Seeded, GradientEstimator):
    """All parameters are moved at once by +-step, at random: Spall 1992 (IEEE Transactions on Automatic Control 37, 332).

    (f(theta + c D) - f(theta - c D)) / (2 c) * D, with D of +1 and -1, has the gradient as its mean up to an error of order
    c squared, and a variance that grows with the number of parameters. Rows have directions of their own, so that the
    gradient in weights, which sums over rows, is that of many.

    Args:
        repetitions: directions for each row, over which is averaged; two executions each.
        step: c, radians where parameters are angles.
        seed: of the directions; their generator's state is in ``state_dict``.

    Raises:
        ValueError: an option is out of its range.
    """

    @checked_options
    def __init__(
        self,
        repetitions: Annotated[int, Field(ge=1)] = 1,
        step: Annotated[float, Field(gt=0)] = 0.1,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        self.repetitions = repetitions
        self.step = step

    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """See :meth:`GradientEstimator.gradients`; parameters that aren't wanted stay where they are."""
        shape = (self.repetitions, len(values), len(wanted))
        directions = random_signs(shape, values, self.generator(values.device))
        moves = torch.zeros(*shape[:2], values.shape[1]).to(values)
        moves[:, :, wanted.start : wanted.stop] = self.step * directions
        rows = torch.stack([values + moves, values - moves])
        measured = executor.expectations(circuit, rows.flatten(0, 2), observables).unflatten(0, rows.shape[:3])
        slopes = ((measured[0] - measured[1]) * dual).sum(2, keepdim=True) / (2 * self.step)
        return (slopes * directions).mean(0)

    def executions(self, circuit: Circuit, wanted: range) -> int:
        """See :meth:`GradientEstimator.executions`."""
        return 2 * self.repetitions if wanted else 0


def random_signs(shape: Sequence[int], like: Tensor, generator: torch.Generator) -> Tensor:
    """+1 and -1, each with probability 1/2, in the type and on the device of ``like``."""
    return (2 * torch.randint(2, tuple(shape), generator=generator, device=like.device) - 1).to(like)
