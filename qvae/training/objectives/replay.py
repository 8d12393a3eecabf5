"""A step's forward and backward pass, recorded once and played again: without what Python takes to ask for it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from qvae.ising import compiled, recorded
from qvae.ising.recorded import Recorder
from qvae.ising.tape import record
from qvae.training.objectives.parts import Parts
from qvae.training.objectives.surrogate import Surrogate
from qvae.training.objectives.undo import Undo

_log = logging.getLogger(__name__)


class ReplayedLoss:
    """Stands for a loss whose gradients are played again."""

    def __init__(self, backward: Callable[[], None]) -> None:
        self.backward = backward


class Replay:
    """Plays again what the loss of rows and its gradients ask of the device, with draws that go on.

    A step of small networks takes as long as Python and autograd need to ask for it: on a GPU ten times as long as the work
    itself. There it becomes two CUDA graphs, each asked for at once; on a CPU two lists of calls (:mod:`qvae.ising.tape`), kept
    if they give bit by bit what Python gives. Both hold the addresses of weights, rows and gradients. Where these are others
    than at the recording, where the rows have another shape, or a part of the model is set to something else, it is recorded
    anew. Steps that someone watches, and those of parts that others have written, are made by Python.

    Gradients and the parts of the loss are written again in each step: whoever keeps them takes a clone.

    Args:
        model: whose parameters have gradients, or what stands in for them when :meth:`loss` is called.
        generator: of the draws, on the device.
    """

    def __init__(self, model: nn.Module, generator: torch.Generator) -> None:
        self._model, self._generator, self._parts = model, generator, Parts()
        self._weight = torch.zeros((), device=generator.device)
        self._last = torch.empty(0)  # rows
        self.forget()

    def forget(self) -> None:
        """Give memory back; whoever goes on is recorded anew."""
        self._recorder = Recorder[_Played]()

    def __getstate__(self) -> tuple[Any, ...]:
        """What is recorded is neither copied nor pickled."""
        return self._model, self._generator

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        Replay.__init__(self, *state)

    def loss(
        self, make: Callable[[Tensor], Surrogate], rows: Tensor, weight: float, others: Sequence[object] = ()
    ) -> tuple[Surrogate, Tensor | ReplayedLoss]:
        """The parts of the loss, valid until the next call, and the loss, whose ``backward`` may be called once.

        Args:
            make: the parts of the loss of prepared rows, the same function in every call.
            rows: (B, D).
            weight: of the KL part.
            others: what has a part in it, besides the model: functions, or objects and what they hold.
        """
        played = self._played(make, rows, others)
        self._last = rows
        if played is None:
            terms = make(rows)
            return terms, terms.loss(weight)
        played.rows.copy_(rows)
        self._weight.fill_(weight)
        played.forward.replay()
        return played.found.terms, ReplayedLoss(played.play_backward)

    def _played(self, make: Callable[[Tensor], Surrogate], rows: Tensor, others: Sequence[object]) -> _Played | None:
        """A step that can be played again; None where Python is to make it."""
        if compiled.are_switched_off() or self._parts.is_watched or torch.is_anomaly_enabled():
            return None
        if torch.is_autocast_enabled(rows.device.type) or not torch.is_grad_enabled():
            return None
        self._parts.look(self._model, *others)
        if not self._parts.are_known:
            return None
        places = ((x.data_ptr(), x.requires_grad) for x in self._parts.tensors)
        what = rows.shape, rows.dtype, torch.get_num_threads(), self._parts.version, *places
        return self._recorder.recorded(what, lambda: self._record(make, rows))

    def _record(self, make: Callable[[Tensor], Surrogate], rows: Tensor) -> _Played | None:
        """Nothing is done."""
        own, learning = rows.clone(), [x for x in self._parts.tensors if x.requires_grad]
        step = _Step(lambda: make(own), self._weight, learning)
        if rows.is_cuda:
            graphs = recorded.record(step.parts, self._generator)
            played = None if graphs is None else _Played(graphs[0], graphs[1], own, step.found())
        else:
            played = self._taped(step, own, rows)
        step.clear()
        return played

    def _taped(self, step: _Step, own: Tensor, rows: Tensor) -> _Played | None:
        """Of the rows before, and of other draws and another weight than what is compared with Python."""
        with self._undone():
            torch.rand(1, generator=self._generator)
            own.copy_(self._last)
            self._weight.fill_(0.5)
            tapes = record(step.parts, self._model.buffers())
        if tapes is None:
            return None
        played = _Played(tapes[0], tapes[1], own, step.found())
        own.copy_(rows)
        self._weight.fill_(0.75)
        if self._is_right(played, step):
            return played
        _log.info("a step that is recorded isn't the one that Python makes; each is made by Python, which takes longer")
        return None

    def _is_right(self, played: _Played, step: _Step) -> bool:
        """Whether it does what Python does, bit by bit."""
        try:
            with self._undone():
                for part in step.parts:
                    part()
                expected = [x.clone() for x in self._numbers(step.found())]
            with self._undone():
                played.forward.replay()
                played.backward.replay()
                found = self._numbers(played.found)
                return len(found) == len(expected) and all(map(torch.equal, found, expected))
        except Exception:  # of the step, which will be made by Python, or of an operation that can't write where it has written
            return False

    def _undone(self) -> AbstractContextManager[None]:
        """All that the block draws and moves is taken back."""
        return Undo(self._generator, self._model).always()

    def _numbers(self, found: _Found) -> list[Tensor]:
        """All that a step has found, moved and drawn, as it is now."""
        state = [*self._model.buffers(), self._generator.get_state()]
        gradients = [gradient for _, gradient in found.gradients]
        return [x for x in (*vars(found.terms).values(), *gradients, *state) if x is not None]


@dataclass(frozen=True)
class _Found:
    """What a step finds, in its place: gradients with their parameters."""

    terms: Surrogate
    gradients: list[tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class _Played:
    """Two CUDA graphs or tapes, the rows that they read, and what they find."""

    forward: Any
    backward: Any
    rows: Tensor
    found: _Found

    def play_backward(self) -> None:
        """To gradients in parameters."""
        self.backward.replay()
        for parameter, gradient in self.found.gradients:
            parameter.grad = gradient


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
        return _Found(replace(self._terms, **values), [(parameter, parameter.grad) for parameter in self._parameters])

    def clear(self) -> None:
        """Take gradients away from parameters."""
        for parameter in self._parameters:
            parameter.grad = None
