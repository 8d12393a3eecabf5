"""What functions ask of a GPU, recorded as CUDA graphs: asked for again at once, where Python takes longer than the GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

import torch

from qvae.ising.compiled import are_switched_off

_log = logging.getLogger(__name__)
CALLS_BEFORE = 3
"""Calls that are made by Python: what they set up, such as tables on the device, isn't to be recorded."""

CALLS_BETWEEN = 30
"""Calls from one recording to the next, which takes as long as some of them."""

T = TypeVar("T")
Graphs = list[torch.cuda.CUDAGraph]


def records(device: torch.device) -> bool:
    """Whether graphs are recorded there; ``QVAE_KERNELS=torch`` switches them off, too."""
    return device.type == "cuda" and not are_switched_off()


def record(works: Sequence[Callable[[], object]], generator: torch.Generator) -> Graphs | None:
    """Graphs of works that follow each other, of which nothing is done; None where they can't be recorded.

    That is where the device is waited for, or numbers come from the processor. Tensors that a graph reads or writes must stay
    where they are. What is drawn from ``generator``, or from torch's own one of the device, goes on with every replay as it
    would without one.
    """
    generators = [generator, torch.cuda.default_generators[generator.device.index or 0]]
    before = [each.clone_state() for each in generators]
    graphs, pool = [torch.cuda.CUDAGraph() for _ in works], torch.cuda.graph_pool_handle()
    try:
        for graph, work in zip(graphs, works, strict=True):
            graph.register_generator_state(generator)
            with torch.cuda.device(generator.device), torch.cuda.graph(graph, pool=pool):
                work()
    except Exception as error:
        for each, state in zip(generators, before, strict=True):
            each.graphsafe_set_state(state)  # they would wait for the recording's end
        why = str(error).splitlines()[0]
        _log.info("a CUDA graph can't be recorded (%s); its work is asked for piece by piece, which takes longer", why)
        return None
    return graphs


class Recorder(Generic[T]):
    """Has calls recorded once they have been the same for a while."""

    def __init__(self) -> None:
        self._what, self._calls, self._is_tried = tuple[object, ...](), 0, False
        self._recorded: T | None = None
        self._since = CALLS_BETWEEN

    def recorded(self, what: tuple[object, ...], make: Callable[[], T | None]) -> T | None:
        """What ``make`` recorded of calls that depend on this; None where the call is to be made by Python."""
        if what != self._what:
            self._what, self._calls, self._is_tried, self._recorded = what, 0, False, None
        self._calls += 1
        self._since += 1
        if not self._is_tried and self._calls > CALLS_BEFORE and self._since > CALLS_BETWEEN:
            self._since = 0
            self._recorded = make()
            self._is_tried = True
        return self._recorded
