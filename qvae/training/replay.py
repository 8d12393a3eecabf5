"""A step's forward and backward pass on CUDA, recorded once and played again: a few launches for some hundred."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from qvae.ising.compiled import SWITCH
from qvae.training.objectives.surrogate import Surrogate

_log = logging.getLogger(__name__)
_STEPS_BEFORE = 3  # that are made by Python: what they set up, such as tables of circuits, isn't to be recorded
_KNOWN = ("qvae.", "qvae_backends.", "torch.nn.")  # whose modules do in every step what they have done in the first


class ReplayedLoss:
    """Stands for a loss whose gradients are played again."""

    def __init__(self, backward: Callable[[], None]) -> None:
        self.backward = backward


class Replay:
    """Plays again what the loss of rows and its gradients ask of the device, as two CUDA graphs, with draws that go on.

    On a GPU a step of small networks takes as long as Python needs to ask for it, ten times as long as the work itself. A graph
    is asked for at once. It holds the addresses of weights, rows and gradients: where these are others than at the recording,
    or the rows have another shape, it is recorded anew.

    Args:
        model: whose parameters have gradients.
        generator: of the draws, on the device.
        terms: the parts of the loss of prepared rows (B, D).
    """

    def __init__(self, model: nn.Module, generator: torch.Generator, terms: Callable[[Tensor], Surrogate]) -> None:
        self._parameters, self._generator, self._terms = list(model.parameters()), generator, terms
        self._steps, self._has_failed = 0, False
        self._recorded_of: tuple[object, ...] = ()
        self._device = generator.device
        self._weight = torch.zeros((), device=self._device)

    def loss(self, rows: Tensor, weight: float) -> tuple[Surrogate, Tensor | ReplayedLoss]:
        """The parts of the loss, valid until the next call, and the loss, whose ``backward`` may be called once."""
        if not self._serves(rows):
            terms = self._terms(rows)
            return terms, terms.loss(weight)
        self._rows.copy_(rows)
        self._weight.fill_(weight)
        self._forward.replay()
        return self._found, ReplayedLoss(self._play_backward)

    def _serves(self, rows: Tensor) -> bool:
        """Whether a recording fits; makes one once steps have been the same for a while."""
        what = (rows.shape, rows.dtype, *((p.data_ptr(), p.requires_grad) for p in self._parameters))
        if self._has_failed or os.environ.get(SWITCH) == "torch":
            return False
        if what != self._recorded_of:
            self._recorded_of, self._steps = what, 0
        self._steps += 1
        if self._steps == _STEPS_BEFORE + 1:
            self._try_to_record(rows)
        return self._steps > _STEPS_BEFORE and not self._has_failed

    def _try_to_record(self, rows: Tensor) -> None:
        generators = [self._generator, torch.cuda.default_generators[self._device.index]]
        before = [generator.clone_state() for generator in generators]
        try:
            self._record(rows)
        except Exception as error:  # nothing of it was done: the step can be made by Python
            self._has_failed = True
            for generator, state in zip(generators, before, strict=True):
                generator.graphsafe_set_state(state)  # they would wait for the recording's end
            why = str(error).splitlines()[0]
            _log.warning("steps can't be recorded as a CUDA graph (%s); they are made one by one, which takes longer", why)

    def _record(self, rows: Tensor) -> None:
        self._rows = rows.clone()
        self._forward, self._backward = torch.cuda.CUDAGraph(), torch.cuda.CUDAGraph()
        for graph in (self._forward, self._backward):
            graph.register_generator_state(self._generator)
        pool = torch.cuda.graph_pool_handle()
        with torch.cuda.graph(self._forward, pool=pool):
            terms = self._terms(self._rows)
            loss = terms.loss(self._weight)
        with torch.cuda.graph(self._backward, pool=pool):
            loss.backward()
        self._gradients = [parameter.grad for parameter in self._parameters]
        found = {name: value.detach() for name, value in vars(terms).items() if value is not None}
        self._found = replace(terms, **found)

    def _play_backward(self) -> None:
        self._backward.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient


def can_be_replayed(model: nn.Module) -> bool:
    """Whether all of its parts are this package's or torch's: what others do in Python between two steps would be lost."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return all(
        type(module).__module__.startswith(_KNOWN) and not any(getattr(module, name) for name in hooks)
        for module in model.modules()
    )
