"""Weights averaged over a training, and batch-norm statistics that fit them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn

_SAMPLES = 250  # of weights in a window: a thousand steps' weights, every fourth of them, average as well as all


class WeightAverage:
    """An exponential moving average of parameters, whose window grows to its full length with the steps.

    In a long window not every step's weights are taken in: neighbours hardly differ, and reading them takes time.

    Args:
        parameters: by their names in the model.
        decay: of a step, below 1; 0 keeps the last weights.
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        self._names, self._decay = list(parameters), decay
        self._parameters: list[Tensor] = list(parameters.values())
        self.values = [parameter.detach().clone() for parameter in self._parameters]

    @torch.no_grad()
    def update(self, step: int, moved: int | None = None) -> None:
        """Take in the weights after ``step`` steps, of which the last ``moved`` have moved them; None is all."""
        moved = step if moved is None else moved
        # Early weights are far from good ones; where they begin to move late, a plain mean at first soon forgets the first.
        decay = min(self._decay, step / (step + 10), moved / (moved + 1))
        apart = max(1, round(1 / (1 - decay)) // _SAMPLES)
        if step % apart == 0:
            torch._foreach_lerp_(self.values, self._parameters, 1 - decay**apart)

    @torch.no_grad()
    def averaged(self, model: nn.Module, values: list[Tensor] | None = None) -> nn.Module:
        """A copy of the model with averaged weights, or with ``values`` that they once had."""
        model = copy.deepcopy(model)
        named = dict(model.named_parameters())
        for name, value in zip(self._names, self.values if values is None else values, strict=True):
            named[name].copy_(value)
        return model

    def load(self, values: list[Tensor]) -> None:
        """Go on from saved :attr:`values`."""
        for mine, saved in zip(self.values, values, strict=True):
            mine.copy_(saved)


@torch.no_grad()
def retake_batch_norm(model: nn.Module, batches: Iterable[Tensor], run: Callable[[Tensor], object]) -> None:
    """Take batch-norm statistics anew, as plain averages over what ``run`` sends through the model; then evaluation mode.

    Those of a training belong to other weights. Batches of one row, which have no variance, are left out.
    """
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # a plain average over the batches
    model.train()
    for batch in batches if norms else ():
        if len(batch) > 1:
            run(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    model.eval()
