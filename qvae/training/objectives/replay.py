"""A step's forward and backward pass on CUDA, recorded once and played again: a few launches for some hundred."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from qvae.circuits.executor import Executor
from qvae.ising.recorded import Graphs, Recorder, record
from qvae.training.objectives.surrogate import Surrogate

_WATCHED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "watchers")
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
        self._recorder, self._weight = Recorder(), torch.zeros((), device=generator.device)

    def loss(self, rows: Tensor, weight: float) -> tuple[Surrogate, Tensor | ReplayedLoss]:
        """The parts of the loss, valid until the next call, and the loss, whose ``backward`` may be called once."""
        what = (rows.shape, rows.dtype, *((p.data_ptr(), p.requires_grad) for p in self._parameters))
        graphs = self._recorder.graphs(rows.device, what, lambda: self._record(rows))
        if graphs is None:
            terms = self._terms(rows)
            return terms, terms.loss(weight)
        self._rows.copy_(rows)
        self._weight.fill_(weight)
        forward, backward = graphs
        forward.replay()
        return self._found, ReplayedLoss(lambda: self._play_backward(backward))

    def _record(self, rows: Tensor) -> Graphs | None:
        self._rows = rows.clone()
        recorded: list[tuple[Surrogate, Tensor]] = []

        def forward() -> None:
            terms = self._terms(self._rows)
            recorded.append((terms, terms.loss(self._weight)))

        graphs = record([forward, lambda: recorded[0][1].backward()], self._generator)
        self._gradients = [parameter.grad for parameter in self._parameters]
        if graphs is None:  # the step is made by Python
            for parameter in self._parameters:
                parameter.grad = None
        else:
            terms = recorded[0][0]
            found = {name: value.detach() for name, value in vars(terms).items() if value is not None}
            self._found = replace(terms, **found)
        return graphs

    def _play_backward(self, graph: torch.cuda.CUDAGraph) -> None:
        graph.replay()
        for parameter, gradient in zip(self._parameters, self._gradients, strict=True):
            parameter.grad = gradient


def can_be_replayed(model: nn.Module, executor: Executor | None = None) -> bool:
    """Whether all of its parts are this package's or torch's: what others do in Python in every step would be lost."""
    watched = any(getattr(module, name, None) for module in model.modules() for name in _WATCHED)
    parts = [*model.modules(), *([] if executor is None else [executor])]
    return not watched and all(type(part).__module__.startswith(_KNOWN) for part in parts)
