"""QN-SPSA: the natural gradient from a constant number of evaluations, metric and slope both by random directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qvae.circuits.gradients.metric import overlap
from qvae.circuits.layer import CircuitLayer
from qvae.seeding import Seed
from qvae.training.optimizers.natural_gradient import solved_by_magnitudes
from qvae.training.optimizers.perturbing import PerturbingOptimizer


class QNSPSA(PerturbingOptimizer):
    """w <- w - lr (sqrt(F F) + damping)^-1 g, with g as in SPSA and F a running mean of rank-two estimates.

    An estimate of F takes four overlaps of states O(d) = |<psi(w)|psi(w + step d)>|^2, at random directions D and E:
    -[O(D + E) - O(D) - O(E - D) + O(-D)] / (8 step^2) (D E^T + E D^T). That makes six circuits a step, whatever W is, and one
    more for blocking: Gacon et al. 2021 (arXiv:2103.09232).

    Args:
        layer: whose weights are optimised.
        inputs: (B, I), at which the metric is taken; None for a circuit without inputs.
        lr: in units of the natural gradient.
        step: of the finite differences, radians.
        damping: added to the metric's diagonal.
        blocking: None, or how much a step may raise the loss before it is taken back.
        seed: of the directions; None draws one.

    Raises:
        ValueError: a number is out of its range.
    """

    def __init__(
        self,
        layer: CircuitLayer,
        inputs: Tensor | None = None,
        lr: float = 0.01,
        step: float = 0.01,
        damping: float = 1e-3,
        blocking: float | None = None,
        seed: Seed = None,
    ) -> None:
        if not (lr > 0 and step > 0 and damping > 0):
            raise ValueError(f"lr is {lr}, step {step}, damping {damping}; they must be above 0")
        super().__init__([layer.weight], {"lr": lr, "step": step, "damping": damping}, blocking, seed)
        self._layer = layer
        self._inputs = layer.weight.new_zeros(1, 0) if inputs is None else inputs

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One step; ``closure`` gives the loss, of the same data in each of its calls. Returns the mean of both losses.

        Raises:
            CircuitError, ExecutorError: the circuit can't be run for the metric.
        """
        group, weight = self.param_groups[0], self._layer.weight
        state = self.state[weight]
        if not state:
            state.update(steps=0, metric=torch.eye(len(weight)).to(weight))
        direction = self._signs(weight)
        up, down = self._losses(closure, [weight], [direction], group["step"])
        gradient, loss = (up - down) / (2 * group["step"]) * direction, (up + down) / 2
        state["steps"] += 1
        # The identity counts as the first estimate, so that the first steps are plain ones.
        state["metric"].lerp_(self.estimated_metric(), 1 / (state["steps"] + 1))
        natural = solved_by_magnitudes(state["metric"], gradient, group["damping"])
        with self._taken_back_if_worse(closure, [weight], loss):
            weight.sub_(natural, alpha=group["lr"])
        return loss

    @torch.no_grad()
    def estimated_metric(self) -> Tensor:
        """One estimate of the Fubini-Study metric at the weights, (W, W), whose mean is the metric up to O(step^2)."""
        weight, size = self._layer.weight.detach(), self.param_groups[0]["step"]
        first, second = self._signs(weight), self._signs(weight)
        signs = ((first + second, 1), (first, -1), (second - first, -1), (-first, 1))
        layer = self._layer
        difference = sum(
            sign * overlap(layer.executor, layer.circuit, self._inputs, weight, weight + size * direction).mean()
            for direction, sign in signs
        )
        outer = torch.outer(first, second)
        return -difference / (8 * size**2) * (outer + outer.T)
