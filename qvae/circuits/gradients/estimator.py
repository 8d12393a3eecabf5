"""What an estimator of gradients is, and expectations that are differentiable by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor


class GradientEstimator(ABC):
    """Gradients in the parameters of a circuit from expectations alone."""

    @abstractmethod
    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """d/d theta_j of sum_k dual_k <O_k>, for every row and every wanted parameter j.

        Args:
            executor: that measures, in one call.
            circuit: of P parameters.
            values: of all parameters, (B, P).
            observables: K of them.
            dual: (B, K), the derivatives of a loss by the expectations.
            wanted: numbers of parameters.

        Returns:
            (B, len(wanted)), in the dtype of ``values``.
        """

    def check(self, circuit: Circuit) -> None:  # noqa: B027
        """Raise a CircuitError where this circuit is more than the estimator can take, before anything is run."""

    @abstractmethod
    def executions(self, circuit: Circuit, wanted: range) -> int:
        """How many circuits :meth:`gradients` runs for each row, in as many bases as the observables need."""

    def shots_in_words(self, executor: Executor) -> str:
        """How many shots these circuits have, as a clause."""
        return f"of {executor.shots:,} shots each"

    def state_dict(self) -> dict[str, Any]:
        """Random number generators and the like, as tensors and plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from there."""


def estimated_expectations(
    executor: Executor,
    estimator: GradientEstimator,
    circuit: Circuit,
    values: Tensor,
    observables: Sequence[Any],
    weights: Tensor,
) -> Tensor:
    """Expectations as :meth:`Executor.expectations`, differentiable once in inputs ``values`` (B, I) and ``weights`` (W,)."""
    found: Tensor = _Estimated.apply(values, weights, executor, estimator, circuit, observables)
    return found


class _Estimated(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        values: Tensor,
        weights: Tensor,
        executor: Executor,
        estimator: GradientEstimator,
        circuit: Circuit,
        observables: Sequence[Any],
    ) -> Tensor:
        ctx.save_for_backward(values, weights)
        ctx.settings = (executor, estimator, circuit, observables)
        return executor.expectations(circuit, values, observables, weights)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor | None, ...]:
        values, weights = ctx.saved_tensors
        executor, estimator, circuit, observables = ctx.settings
        inputs = values.shape[1]
        needs_values, needs_weights = ctx.needs_input_grad[:2]
        wanted = range(0 if needs_values else inputs, circuit.num_parameters if needs_weights else inputs)
        rows = torch.cat([values, weights.expand(len(values), -1)], dim=1)
        found = estimator.gradients(executor, circuit, rows, observables, dual, wanted)
        split = inputs - wanted.start
        by_values = found[:, :split] if needs_values else None
        by_weights = found[:, split:].sum(0) if needs_weights else None
        return by_values, by_weights, None, None, None, None
