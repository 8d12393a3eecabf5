"""The quantum natural gradient: steps measured by how far they move a circuit's states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from qvae.circuits.gradients.metric import fubini_study, levels
from qvae.circuits.layer import CircuitLayer


class QuantumNaturalGradient(torch.optim.Optimizer):
    """w <- w - lr (F + damping)^-1 dL/dw for the weights of circuits, and Adam for all other parameters.

    F is the Fubini-Study metric at some of the inputs that the circuit had since the last step: Stokes et al. 2020
    (arXiv:1909.02108). Training mode watches the inputs; a layer that is used more than once has the mean of its metrics.
    With momentum, steps are averaged after the metric (Borysenko et al. 2025, arXiv:2409.01978).

    Args:
        model: whose :class:`CircuitLayer` modules are found.
        lr: of circuits, in units of the natural gradient.
        metric: ``full``; ``block-diagonal``, between weights of one layer of gates alone; or ``diagonal``.
        damping: added to the metric's diagonal, which for a flat direction is 0.
        momentum: 0 to 1, of the natural gradient.
        rows: inputs that the metric is averaged over, the first ones of a batch.
        classical_lr: of Adam.

    Raises:
        ValueError: the model has no circuit, or a number is out of its range.
    """

    def __init__(
        self,
        model: nn.Module,
        lr: float = 0.05,
        metric: Literal["full", "block-diagonal", "diagonal"] = "full",
        damping: float = 1e-3,
        momentum: float = 0.0,
        rows: int = 8,
        classical_lr: float = 1e-3,
    ) -> None:
        layers = [module for module in model.modules() if isinstance(module, CircuitLayer)]
        _check(layers, metric, lr=lr, damping=damping, momentum=momentum, rows=rows, classical_lr=classical_lr)
        own = {id(layer.weight) for layer in layers}
        groups: list[dict[str, Any]] = [
            {"params": [layer.weight], "lr": lr, "damping": damping, "momentum": momentum} for layer in layers
        ]
        others = [parameter for parameter in model.parameters() if id(parameter) not in own]
        if others:
            groups.append({"params": others, "lr": classical_lr})
        super().__init__(groups, {})
        self._layers, self._metric = layers, metric
        self._inputs: list[list[Tensor]] = [[] for _ in layers]
        for layer, seen in zip(layers, self._inputs, strict=True):
            layer.register_forward_pre_hook(_Watch(seen, rows))

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step; ``closure`` evaluates the loss again, as for any optimizer.

        Raises:
            CircuitError, ExecutorError: a circuit can't be run for its metric.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group, layer, seen in zip(self.param_groups, self._layers, self._inputs, strict=False):
            if layer.weight.grad is not None and seen:
                self._move(layer, torch.cat(seen), group)
            seen.clear()
        if len(self.param_groups) > len(self._layers):
            self._adam(self.param_groups[-1])
        return loss

    def _move(self, layer: CircuitLayer, inputs: Tensor, group: dict[str, Any]) -> None:
        weight, gradient = layer.weight, layer.weight.grad
        assert gradient is not None
        if self._metric == "full":
            blocks = None
        else:
            blocks = levels(layer.circuit) if self._metric == "block-diagonal" else torch.arange(len(weight))
        metric = fubini_study(layer.executor, layer.circuit, inputs.to(weight.dtype), weight, blocks)
        step = _solved(metric, gradient, group["damping"], is_exact=layer.executor.capabilities.exact)
        state = self.state[weight]
        if group["momentum"]:
            step = state.setdefault("momentum", torch.zeros_like(weight)).mul_(group["momentum"]).add_(step).clone()
        weight.sub_(step, alpha=group["lr"])

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


@dataclass
class _Watch:
    """Keeps the first rows that a layer gets in training."""

    seen: list[Tensor]
    rows: int

    def __call__(self, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        if layer.training and torch.is_grad_enabled() and isinstance(arguments[0], Tensor) and len(arguments[0]):
            self.seen.append(arguments[0][: self.rows].detach())


def _solved(metric: Tensor, gradient: Tensor, damping: float, is_exact: bool) -> Tensor:
    """(F + damping)^-1 gradient; of a measured F, whose noise makes some eigenvalues negative, with their magnitudes."""
    if not is_exact:
        return solved_by_magnitudes(metric, gradient, damping)
    damped = metric + damping * torch.eye(len(metric)).to(metric)
    return torch.cholesky_solve(gradient.unsqueeze(1), torch.linalg.cholesky(damped)).squeeze(1)


def solved_by_magnitudes(metric: Tensor, gradient: Tensor, damping: float) -> Tensor:
    """(sqrt(F F) + damping)^-1 gradient, of a symmetric F (W, W)."""
    values, vectors = torch.linalg.eigh(metric)
    return vectors @ ((vectors.T @ gradient) / (values.abs() + damping))


def _check(layers: list[CircuitLayer], metric: str, **numbers: float) -> None:
    if not layers:
        raise ValueError("the model has no CircuitLayer, whose metric would be needed; take Adam for it")
    if metric not in ("full", "block-diagonal", "diagonal"):
        raise ValueError(f"metric is {metric!r}; it must be full, block-diagonal or diagonal")
    for name, number in numbers.items():
        if not (number >= 0 if name == "momentum" else number > 0):
            raise ValueError(f"{name} is {number}; it must be above 0")
