"""Weights in bfloat16 beside those in float32: what products take, and where their gradients come."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn

from qvae.ising.compiled import kernels
from qvae.models.networks import Decoder, Encoder
from qvae.models.posterior import Posterior

_LARGE = 2**14  # numbers of a weight whose casts take longer than what is asked of it here
_APART = 4099  # numbers of a weight between two that are looked at: prime, so that they lie in many rows and columns


class Half:
    """A copy in bfloat16 of the weight of a dense layer, and their numbers as a compiled pass takes them.

    Attributes:
        weight: the layer's.
        copy: to which the gradient comes while it stands in for the weight.
    """

    def __init__(self, layer: nn.Linear) -> None:
        self._layer, self.weight = layer, layer.weight
        self._copied: tuple[int, int, bytes] | None
        self.copy = nn.Parameter(layer.weight.detach().bfloat16())
        self._agree()

    def __getstate__(self) -> nn.Linear:
        """Arrays wouldn't be those of the tensors any more."""
        return self._layer

    def __setstate__(self, layer: nn.Linear) -> None:
        Half.__init__(self, layer)

    def _agree(self) -> None:
        self.arrays = self.weight.detach().numpy(), _words(self.copy.detach())
        self.moved()

    def moved(self) -> None:
        """Say that the copy is that of the weight as it is now."""
        self._copied = self._marks()

    def _marks(self) -> tuple[int, int, bytes]:
        """What changes with the weight: how often it was written to, where it lies, and some of its numbers.

        torch doesn't count what its fused optimizers write, nor what goes through ``data``.
        """
        return self.weight._version, self.weight.data_ptr(), self.arrays[0].ravel()[::_APART].tobytes()

    @property
    def may_stand_in(self) -> bool:
        """Whether the weight learns, and nobody wants to know when its gradient comes."""
        return self.weight.requires_grad and not (self.weight._backward_hooks or self.weight._post_accumulate_grad_hooks)

    def stand_in(self) -> None:
        """Have the layer take the copy, which is made again if someone has changed the weight."""
        if self._copied != self._marks():
            self.copy.data.copy_(self.weight.data)
            self._agree()
        self._layer._parameters["weight"] = self.copy

    def withdraw(self) -> None:
        """Have the layer take its weight again."""
        self._layer._parameters["weight"] = self.weight  # type: ignore[assignment]

    @property
    def is_reached(self) -> bool:
        """Whether a gradient has come to the copy, and none to the weight."""
        return self.copy.grad is not None and self.weight.grad is None

    def gradient(self) -> np.ndarray:
        """Words of the one that has come to the copy, which forgets it."""
        assert self.copy.grad is not None
        found, self.copy.grad = self.copy.grad.contiguous(), None
        return _words(found)

    def hand_over(self) -> None:
        """Add the copy's gradient, if it has one, to that of the weight, which someone else is to move."""
        self._copied = None
        if self.copy.grad is not None:
            gradient, self.copy.grad = self.copy.grad.float(), None
            self.weight.grad = gradient if self.weight.grad is None else self.weight.grad + gradient


def halves_of(model: nn.Module, device: torch.device) -> Halves | None:
    """Those of a model where they save time: on one thread of a CPU, with compiled passes; torch's own share out among more."""
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    return Halves(model) if is_alone and _load() is not None else None


class Halves:
    """Copies in bfloat16 that stand in for weights of a model in a ``with`` block, so that autocast has nothing to cast.

    Gradients come to the copies, in bfloat16 as products give them, and :class:`~qvae.training.optimizers.adamw.AdamWSteps`
    move weights and copies in one pass. What anybody else has written to is copied again. All weights stay in their places
    where one of them learns nothing, where hooks watch a gradient, and where compiled passes are switched off.

    Args:
        model: on a CPU, called under autocast; copied are weights of large dense layers in its networks.

    Attributes:
        of: some weights, theirs.
        update: the compiled passes that served when a block was entered last.
    """

    def __init__(self, model: nn.Module) -> None:
        layers = [layer for layer in _dense(model) if layer.weight.numel() >= _LARGE]
        self.of: dict[Tensor, Half] = {layer.weight: Half(layer) for layer in layers}
        self.update = _load()

    def __getstate__(self) -> dict[Tensor, Half]:
        return self.of

    def __setstate__(self, of: dict[Tensor, Half]) -> None:
        self.of, self.update = of, _load()

    def __enter__(self) -> None:
        self.update = _load()
        stand_in = self.update is not None and all(half.may_stand_in for half in self.of.values())
        for half in self.of.values():
            half.copy.grad = None  # of a step that failed
            if stand_in:
                half.stand_in()

    def __exit__(self, *error: object) -> None:
        for half in self.of.values():
            half.withdraw()

    def hand_over(self) -> None:
        """Give gradients that have come to copies to the weights, which someone else is to move."""
        for half in self.of.values():
            half.hand_over()


def _load() -> ModuleType | None:
    """:mod:`qvae.training.optimizers.fused`, whose first import takes time, or None where torch's update serves."""
    return kernels(torch.device("cpu"), "training.optimizers.fused")


def _words(x: Tensor) -> np.ndarray:
    """Of numbers in bfloat16, which numpy doesn't know."""
    return x.view(torch.uint16).numpy()


def _dense(model: nn.Module) -> Iterator[nn.Linear]:
    """Layers of networks that run under autocast as a whole."""
    for part in model.modules():
        if type(part) in (Encoder, Posterior, Decoder):
            yield from (layer for layer in part.modules() if type(layer) is nn.Linear)
