"""QN-SPSA: the natural gradient from a constant number of evaluations, metric and slope both by random directions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor, nn

from qvae.circuits.gradients.metric import overlaps
from qvae.circuits.layer import CircuitLayer
from qvae.options import checked_options
from qvae.seeding import Seed
from qvae.training.optimizers.natural_gradient import Positive, other_parameters, require_circuits
from qvae.training.optimizers.perturbing import PerturbingOptimizer, is_frozen
from qvae.training.optimizers.solving import solved_by_magnitudes
from qvae.training.optimizers.watch import InputWatch


class QNSPSA(PerturbingOptimizer):
    """w <- w - lr (sqrt(F F) + damping)^-1 g, with g as in SPSA and F a running mean of rank-two estimates.

    An estimate of F takes four overlaps of states O(d) = |<psi(w)|psi(w + step d)>|^2, at random directions D and E:
    -[O(D + E) - O(D) - O(E - D) + O(-D)] / (8 step^2) (D E^T + E D^T), at the inputs that the circuit had in the evaluation of
    the loss. That makes six circuits a step, whatever W is, and one more for blocking: Gacon et al. 2021 (arXiv:2103.09232).
    Each circuit of a model has a metric of its own; that of all other parameters is the identity, which makes theirs a step
    of SPSA.

    Args:
        model: whose :class:`CircuitLayer` modules are found; parameters that are frozen now stay as they are.
        lr: of circuits, in units of the natural gradient.
        step: of the finite differences, radians.
        damping: added to the metric's diagonal.
        blocking: None, or how much a step may raise the loss before it is taken back.
        rows: inputs that the overlaps are averaged over, the first ones of a batch.
        classical_lr: of all other parameters.
        seed: of the directions; None draws one.

    Raises:
        ValueError: the model has no circuit, or an option is out of its range.
    """

    @checked_options
    def __init__(
        self,
        model: nn.Module,
        lr: Positive = 0.01,
        step: Positive = 0.01,
        damping: Positive = 1e-3,
        blocking: Annotated[float, Field(ge=0)] | None = None,
        rows: Annotated[int, Field(ge=1)] = 8,
        classical_lr: Positive = 1e-3,
        seed: Seed = None,
    ) -> None:
        self._watch = InputWatch(model, rows)
        require_circuits(self._watch)
        self._learning = [layers for layers in self._watch.circuits if not is_frozen(layers[0].weight)]
        weights = [layers[0].weight for layers in self._learning]
        groups: list[dict[str, Any]] = [{"params": [weight], "lr": lr, "damping": damping} for weight in weights]
        others = other_parameters(model, weights)
        if others:
            groups.append({"params": others, "lr": classical_lr})
        super().__init__(groups, {"step": step}, blocking, seed)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor]) -> Tensor:  # type: ignore[override]
        """One step; ``closure`` gives the loss, of the same data in each of its calls. Returns the mean of both losses.

        Raises:
            CircuitError, ExecutorError: the circuit can't be run for the metric.
        """
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        size = self.param_groups[0]["step"]
        directions = [self._signs(parameter) for parameter in parameters]
        with self._watch.watching():
            up = self._loss_at(closure, parameters, directions, size)
        down = self._loss_at(closure, parameters, directions, -size)
        slope, loss = (up - down) / (2 * size), (up + down) / 2
        metrics = [self._updated_metric(layers) for layers in self._learning]
        moves = [group["lr"] * slope * directions.pop(0) for group in self.param_groups for _ in group["params"]]
        with self._taken_back_if_worse(closure, parameters, loss):
            for group, metric, place in zip(self.param_groups, metrics, range(len(metrics)), strict=False):
                moves[place] = solved_by_magnitudes(metric, moves[place], group["damping"])
            torch._foreach_sub_(parameters, moves)
        return loss

    def _updated_metric(self, layers: list[CircuitLayer]) -> Tensor:
        """The running mean with one estimate more; the identity counts as the first, so that the first steps are plain."""
        weight = layers[0].weight
        used = self._watch.taken(layers)
        state = self.state[weight]
        metric = state.get("metric", torch.eye(len(weight)).to(weight))
        number = state.get("steps", 0) + 1
        if used:
            estimates = torch.stack([self.estimated_metric(layer, rows) for layer, rows in used])
            metric = metric.lerp(estimates.mean(0), 1 / (number + 1))
        state.update(steps=number, metric=metric)
        return metric

    def executions(self, batch: int) -> int:
        """See :meth:`PerturbingOptimizer.executions`; four overlaps at each row of the metric besides."""
        layers = [layer for group in self._learning for layer in group]
        return super().executions(batch) + 4 * sum(self._watch.rows_of(layer, batch) for layer in layers)

    @torch.no_grad()
    def estimated_metric(self, layer: CircuitLayer, inputs: Tensor) -> Tensor:
        """One estimate of a layer's Fubini-Study metric at inputs (R, I), (W, W), whose mean is the metric up to O(step^2)."""
        weight, size = layer.weight.detach(), self.param_groups[0]["step"]
        first, second = self._signs(weight), self._signs(weight)
        directions = torch.stack([first + second, first, second - first, -first])
        found = overlaps(layer.executor, layer.circuit, inputs, weight, weight + size * directions).mean(1)
        difference = found[0] - found[1] - found[2] + found[3]
        outer = torch.outer(first, second)
        return -difference / (8 * size**2) * (outer + outer.T)
