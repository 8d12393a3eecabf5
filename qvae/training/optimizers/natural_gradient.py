"""The quantum natural gradient: steps measured by how far they move a circuit's states."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from qvae.circuits.gradients.metric import fubini_study, levels, num_overlaps, tangents
from qvae.circuits.layer import CircuitLayer
from qvae.errors import CircuitError
from qvae.options import checked_options
from qvae.training.optimizers.solving import conjugate_gradients, solved_by_cholesky, solved_by_magnitudes
from qvae.training.optimizers.watch import InputWatch

Positive = Annotated[float, Field(gt=0)]


class QuantumNaturalGradient(torch.optim.Optimizer):
    """w <- w - lr (F + damping)^-1 dL/dw for the weights of circuits, and Adam for all other parameters.

    F is the Fubini-Study metric at some of the inputs that the circuit had since the last step: Stokes et al. 2020
    (arXiv:1909.02108). Training mode watches the inputs; a layer that is used more than once has the mean of its metrics, and
    layers that share a weight the mean of theirs. With momentum, steps are averaged after the metric (Borysenko et al. 2025,
    arXiv:2409.01978).

    Args:
        model: whose :class:`CircuitLayer` modules are found.
        lr: of circuits, in units of the natural gradient.
        metric: ``full``; ``block-diagonal``, between weights of one layer of gates alone; or ``diagonal``.
        damping: added to the metric's diagonal, which for a flat direction is 0.
        momentum: 0 to 1, of the natural gradient.
        rows: inputs that the metric is averaged over, the first ones of a batch.
        solver: ``cholesky``, or ``cg``, conjugate gradients, which for a full metric from amplitudes never forms the matrix.
        source: of the metric: ``amplitudes``, exact; ``overlaps``, measured in the executor's shots; ``auto`` takes
            amplitudes where the executor has them. Measured metrics are solved by the magnitudes of their eigenvalues,
            whatever the solver, since noise makes some of them negative.
        classical_lr: of Adam.

    Raises:
        ValueError: the model has no circuit, or an option is out of its range.
    """

    @checked_options
    def __init__(
        self,
        model: nn.Module,
        lr: Positive = 0.05,
        metric: Literal["full", "block-diagonal", "diagonal"] = "full",
        damping: Positive = 1e-3,
        momentum: Annotated[float, Field(ge=0, lt=1)] = 0.0,
        rows: Annotated[int, Field(ge=1)] = 8,
        solver: Literal["cholesky", "cg"] = "cholesky",
        source: Literal["auto", "amplitudes", "overlaps"] = "auto",
        classical_lr: Positive = 1e-3,
    ) -> None:
        self._watch = InputWatch(model, rows)
        require_circuits(self._watch)
        weights = [layers[0].weight for layers in self._watch.circuits]
        groups: list[dict[str, Any]] = [
            {"params": [weight], "lr": lr, "damping": damping, "momentum": momentum} for weight in weights
        ]
        others = other_parameters(model, weights)
        if others:
            groups.append({"params": others, "lr": classical_lr})
        super().__init__(groups, {})
        self._metric, self._solver, self._source = metric, solver, source
        for layers in self._watch.circuits:
            for layer in layers:
                layer.watchers.append(self._watch)

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step; ``closure`` evaluates the loss again, as for any optimizer.

        Raises:
            CircuitError: a circuit has a gradient, but had no inputs in training mode since the last step.
            CircuitError, ExecutorError: a circuit can't be run for its metric.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, layers in zip(self.param_groups, self._watch.circuits, strict=False):
            used, gradient = self._watch.taken(layers), layers[0].weight.grad
            if gradient is not None and used:
                self._move(used, group)
            elif gradient is not None and gradient.any():
                raise CircuitError(
                    "a circuit has a gradient, but no inputs since the last step at which its metric could be taken; "
                    "run it in training mode, as model.train() sets it."
                )
        for group in self.param_groups[len(self._watch.circuits) :]:
            self._adam(group)
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Forget gradients, and the inputs that they came from once there are others."""
        super().zero_grad(set_to_none)
        for layers in self._watch.circuits:
            self._watch.set_aside(layers)

    def _move(self, used: Sequence[tuple[CircuitLayer, Tensor]], group: dict[str, Any]) -> None:
        weight = group["params"][0]
        step = self._natural(used, weight.grad, group["damping"])
        state = self.state[weight]
        if group["momentum"]:
            step = state.setdefault("momentum", torch.zeros_like(weight)).mul_(group["momentum"]).add_(step).clone()
        weight.sub_(step, alpha=group["lr"])

    def _natural(self, used: Sequence[tuple[CircuitLayer, Tensor]], gradient: Tensor, damping: float) -> Tensor:
        """(F + damping)^-1 gradient, with the mean of the metrics of all rows."""
        measured = [self._is_measured(layer) for layer, _ in used]
        if self._solver == "cg" and self._metric == "full" and not any(measured):
            parts = [tangents(each.executor, each.circuit, rows, each.weight) * len(rows) ** 0.5 for each, rows in used]
            across = torch.cat(parts) / sum(len(rows) for _, rows in used) ** 0.5
            return conjugate_gradients(lambda vector: across.T @ (across @ vector) + damping * vector, gradient)
        metric = self._mean_metric(used)
        if any(measured):
            return solved_by_magnitudes(metric, gradient, damping)
        if self._solver == "cg":
            return conjugate_gradients(lambda vector: metric @ vector + damping * vector, gradient)
        return solved_by_cholesky(metric, gradient, damping)

    def _mean_metric(self, used: Sequence[tuple[CircuitLayer, Tensor]]) -> Tensor:
        metrics, numbers = [], []
        for layer, rows in used:
            blocks, measured = self._blocks(layer), self._is_measured(layer)
            metrics.append(fubini_study(layer.executor, layer.circuit, rows, layer.weight, blocks, measured) * len(rows))
            numbers.append(len(rows))
        return torch.stack(metrics).sum(0) / sum(numbers)

    def executions(self, batch: int) -> int:
        """Circuits that a step runs for measured metrics, where each layer is used once on so many rows."""
        measured = [layer for layers in self._watch.circuits for layer in layers if self._is_measured(layer)]
        return sum(self._watch.rows_of(layer, batch) * num_overlaps(layer.circuit, self._blocks(layer)) for layer in measured)

    def _blocks(self, layer: CircuitLayer) -> Tensor | None:
        if self._metric == "full":
            return None
        return levels(layer.circuit) if self._metric == "block-diagonal" else torch.arange(len(layer.weight))

    def _is_measured(self, layer: CircuitLayer) -> bool:
        return self._source == "overlaps" or (self._source == "auto" and not layer.executor.capabilities.exact)

    def _adam(self, group: dict[str, Any], beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8) -> None:
        """Kingma and Ba 2015 (arXiv:1412.6980), algorithm 1."""
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            state = self.state[parameter]
            if not state:
                zeros = torch.zeros_like(parameter)
                state.update(step=torch.zeros(()), mean=zeros, square=zeros.clone())
            state["step"] += 1
            state["mean"].lerp_(parameter.grad, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(parameter.grad, parameter.grad, value=1 - beta2)
            mean, square = state["mean"] / (1 - beta1 ** state["step"]), state["square"] / (1 - beta2 ** state["step"])
            parameter.sub_(mean / (square.sqrt() + eps), alpha=group["lr"])


def require_circuits(watch: InputWatch) -> None:
    """Raise a ValueError where a model has no circuit, whose metric would be needed."""
    if not watch.circuits:
        raise ValueError("the model has no CircuitLayer, whose metric would be needed; take Adam for it")


def other_parameters(model: nn.Module, weights: Sequence[Tensor]) -> list[nn.Parameter]:
    """Those of a model that are no weights of circuits."""
    own = {id(weight) for weight in weights}
    return [parameter for parameter in model.parameters() if id(parameter) not in own]
