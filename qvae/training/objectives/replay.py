"""A step's forward and backward pass, recorded once and played again: without what Python takes to ask for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from qvae.circuits.executor import Executor
from qvae.ising import recorded
from qvae.ising.recorded import Recorder
from qvae.ising.tape import Tape, record
from qvae.training.objectives.surrogate import Surrogate
from qvae.training.objectives.undo import Undo

_log = logging.getLogger(__name__)
_WATCHED = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks", "watchers")
_KNOWN = ("qvae.", "qvae_backends.", "torch.nn.")  # whose modules do in every step what they have done in the first


class ReplayedLoss:
    """Stands for a loss whose gradients are played again."""

    def __init__(self, backward: Callable[[], None]) -> None:
        self.backward = backward


class Replay:
    """Plays again what the loss of rows and its gradients ask of the device, with draws that go on.

    A step of small networks takes as long as Python and autograd need to ask for it: on a GPU ten times as long as the work
    itself. There it becomes two CUDA graphs, each asked for at once; on a CPU two lists of calls (:mod:`qvae.ising.tape`), kept
    if they give bit by bit what Python gives. Both hold the addresses of weights, rows and gradients: where these are others
    than at the recording, or the rows have another shape, it is recorded anew. Steps that someone watches are made by Python.

    Args:
        model: whose parameters have gradients, or what stands in for them when :meth:`loss` is called.
        generator: of the draws, on the device.
        terms: the parts of the loss of prepared rows (B, D).
    """

    def __init__(self, model: nn.Module, generator: torch.Generator, terms: Callable[[Tensor], Surrogate]) -> None:
        self._model, self._generator, self._terms = model, generator, terms
        self._modules = list(model.modules())
        self._places = [(module._parameters, name) for module in self._modules for name in module._parameters]
        self._hooks = [getattr(module, name) for module in self._modules for name in _WATCHED if hasattr(module, name)]
        self._recorder = Recorder[Sequence[Any]]()
        self._weight = torch.zeros((), device=generator.device)
        self._last: Tensor  # rows

    def loss(self, rows: Tensor, weight: float) -> tuple[Surrogate, Tensor | ReplayedLoss]:
        """The parts of the loss, valid until the next call, and the loss, whose ``backward`` may be called once."""
        parameters = [parameter for held, name in self._places if (parameter := held[name]) is not None]
        if self._is_watched(parameters):
            played = None
        else:
            what = self._circumstances(rows, parameters)
            played = self._recorder.recorded(what, lambda: self._record(rows, parameters))
        self._last = rows
        if played is None:
            terms = self._terms(rows)
            return terms, terms.loss(weight)
        self._rows.copy_(rows)
        self._weight.fill_(weight)
        forward, backward = played
        forward.replay()
        return self._found.terms, ReplayedLoss(lambda: self._play_backward(backward, parameters))

    def _is_watched(self, parameters: Sequence[Tensor]) -> bool:
        """Whether someone wants to know what happens, or kernels are switched off."""
        hooks = (hooks for x in parameters for hooks in (x._backward_hooks, x._post_accumulate_grad_hooks))
        return any(self._hooks) or any(hooks) or torch.is_anomaly_enabled() or recorded.are_switched_off()

    def _circumstances(self, rows: Tensor, parameters: Sequence[Tensor]) -> tuple[object, ...]:
        """What decides which calls are made, and where they read and write."""
        modes = [module.training for module in self._modules]
        return rows.shape, rows.dtype, torch.get_num_threads(), *modes, *((p.data_ptr(), p.requires_grad) for p in parameters)

    def _record(self, rows: Tensor, parameters: Sequence[Tensor]) -> Sequence[Any] | None:
        """A forward and a backward pass that can be replayed; nothing is done."""
        self._rows = rows.clone()
        step = _Step(lambda: self._terms(self._rows), self._weight, parameters)
        played = self._graphs(step) if rows.is_cuda else self._tapes(rows, step)
        step.clear()
        return played

    def _graphs(self, step: _Step) -> Sequence[Any] | None:
        graphs = recorded.record(step.parts, self._generator)
        if graphs is not None:
            self._found = step.found()
        return graphs

    def _tapes(self, rows: Tensor, step: _Step) -> Sequence[Any] | None:
        with self._undone():
            torch.rand(1), torch.rand(1, generator=self._generator)  # other draws than those that are compared
            self._rows.copy_(self._last)
            self._weight.fill_(0.5)
            tapes = record(step.parts, self._model.buffers())
        if tapes is None:
            return None
        self._found = step.found()
        if self._are_right(tapes, rows, step):
            return tapes
        _log.info("a step that is recorded isn't the one that Python makes; each is made by Python, which takes longer")
        return None

    def _are_right(self, tapes: Sequence[Tape], rows: Tensor, step: _Step) -> bool:
        """Whether tapes do what Python does, bit by bit, with other rows, weight and draws than they were recorded with."""
        self._rows.copy_(rows)
        self._weight.fill_(0.75)
        try:
            with self._undone():
                for part in step.parts:
                    part()
                expected = [x.clone() for x in self._numbers(step.found())]
            with self._undone():
                for tape in tapes:
                    tape.replay()
                found = self._numbers(self._found)
                return len(found) == len(expected) and all(map(torch.equal, found, expected))
        except Exception:  # of the step, which will be made by Python, or of an operation that can't write where it has written
            return False

    @contextmanager
    def _undone(self) -> Iterator[None]:
        """All that the block draws and moves is taken back."""
        with torch.random.fork_rng(devices=[]), Undo(self._generator, self._model).always():
            yield

    def _numbers(self, found: _Found) -> list[Tensor]:
        """All that a step has found, moved and drawn, as it is now."""
        state = [*self._model.buffers(), self._generator.get_state(), torch.get_rng_state()]
        return [x for x in (*vars(found.terms).values(), *found.gradients, *state) if x is not None]

    def _play_backward(self, backward: Any, parameters: Sequence[Tensor]) -> None:
        backward.replay()
        for parameter, gradient in zip(parameters, self._found.gradients, strict=True):
            parameter.grad = gradient


@dataclass(frozen=True)
class _Found:
    """What a step finds, in its place."""

    terms: Surrogate
    gradients: list[Tensor | None]


class _Step:
    """Forward and backward pass, which are its ``parts``."""

    def __init__(self, terms: Callable[[], Surrogate], weight: Tensor, parameters: Sequence[Tensor]) -> None:
        self._make, self._weight, self._parameters = terms, weight, parameters
        self.parts = self._forward, self._backward

    def _forward(self) -> None:
        self.clear()
        self._terms = self._make()
        self._loss = self._terms.loss(self._weight)

    def _backward(self) -> None:
        self._loss.backward()

    def found(self) -> _Found:
        """The parts of the loss, and gradients."""
        values = {name: value.detach() for name, value in vars(self._terms).items() if value is not None}
        return _Found(replace(self._terms, **values), [parameter.grad for parameter in self._parameters])

    def clear(self) -> None:
        """Take gradients away from parameters."""
        for parameter in self._parameters:
            parameter.grad = None


def can_be_replayed(model: nn.Module, executor: Executor | None = None) -> bool:
    """Whether all of its parts are this package's or torch's: what others do in Python in every step would be lost."""
    parts = [*model.modules(), *([] if executor is None else [executor])]
    return all(type(part).__module__.startswith(_KNOWN) for part in parts)
