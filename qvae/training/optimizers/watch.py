"""Which inputs the circuits of a model have had: a metric is taken there."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qvae.circuits.layer import CircuitLayer

_USES = 16  # of a layer between two steps; of one that is used more often, its last ones


class InputWatch:
    """Keeps the first rows of each use of the circuits in a model.

    Args:
        model: whose :class:`CircuitLayer` modules are found; layers that share a weight count as one.
        rows: of each use, 1 or more.

    Attributes:
        circuits: the layers with each weight, one list for each.
    """

    def __init__(self, model: nn.Module, rows: int) -> None:
        by_weight: dict[int, list[CircuitLayer]] = {}
        for module in model.modules():
            if isinstance(module, CircuitLayer):
                by_weight.setdefault(id(module.weight), []).append(module)
        self.circuits = list(by_weight.values())
        self._rows = rows
        self._seen: dict[int, deque[Tensor]] = {}
        self._aside: dict[int, deque[Tensor]] = {}

    def __call__(self, layer: CircuitLayer, values: Tensor) -> None:
        """A watcher of layers that are trained by gradients."""
        if layer.training and torch.is_grad_enabled():
            self._keep(layer, values)

    def _keep(self, layer: CircuitLayer, values: Tensor) -> None:
        if len(values):
            self._seen.setdefault(id(layer), deque(maxlen=_USES)).append(values[: self._rows])

    def rows_of(self, layer: CircuitLayer, batch: int) -> int:
        """How many rows are kept of one use on so many."""
        return min(self._rows, batch) if layer.circuit.num_inputs else 1

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Look at every use of the circuits, without gradients, too."""
        layers = [layer for group in self.circuits for layer in group]
        for layer in layers:
            layer.watchers.append(self._keep)
        try:
            yield
        finally:
            for layer in layers:
                layer.watchers.remove(self._keep)

    def set_aside(self, layers: Sequence[CircuitLayer]) -> None:
        """Count what these layers had so far only if nothing follows: a loss may be made before gradients are cleared."""
        seen = self._taken_of(self._seen, layers)
        if seen:
            self._taken_of(self._aside, layers)
            self._aside |= seen

    def taken(self, layers: Sequence[CircuitLayer]) -> list[tuple[CircuitLayer, Tensor]]:
        """Each layer that was used with its rows of inputs (R, I), which are forgotten; of inputs without columns, one row."""
        seen, aside = self._taken_of(self._seen, layers), self._taken_of(self._aside, layers)
        used = seen or aside
        found = [(layer, torch.cat(list(used[id(layer)]))) for layer in layers if id(layer) in used]
        return [(layer, values if values.shape[1] else values[:1]) for layer, values in found]

    @staticmethod
    def _taken_of(kept: dict[int, deque[Tensor]], layers: Sequence[CircuitLayer]) -> dict[int, deque[Tensor]]:
        return {id(layer): kept.pop(id(layer)) for layer in layers if id(layer) in kept}
