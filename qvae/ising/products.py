"""Products of couplings with a state of bits, block by block, exact or in bfloat16."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

REFRESH = 8  # sweeps after which the mean error of rounded couplings is measured again


@dataclass(frozen=True)
class Block:
    """Spins of one colour, at rows start:stop of the state; all their neighbours are in rows low:high."""

    start: int
    stop: int
    low: int
    high: int


class Products:
    """Products of the couplings of dense blocks with a state, for one call's sweeps; with ``biases``, logits at beta = 1.

    Attributes:
        rooms: where each block's product is put, (size, chains); blocks share the memory.
    """

    def __init__(self, blocks: Sequence[Block], weights: Sequence[Tensor], biases: Sequence[Tensor], state: Tensor) -> None:
        self.biases, self._blocks = biases, blocks
        self._weights = [matrix.to(state.dtype) for matrix in weights]
        room = torch.empty_like(state)  # asking for memory in every update costs time
        self.rooms = [room[: b.stop - b.start] for b in blocks]
        self._neighbours = [state[b.low : b.high] for b in blocks]

    def refresh(self) -> None:
        """Look at the chains as they are now, where products are rounded."""

    def of(self, block: int) -> Tensor:
        """Fill the block's room, and return it; valid until the next call."""
        return torch.mm(self._weights[block], self._neighbours[block], out=self.rooms[block])


class RoundedProducts(Products):
    """Those in bfloat16, of a state in bfloat16."""

    def __init__(self, blocks: Sequence[Block], weights: Sequence[Tensor], biases: Sequence[Tensor], state: Tensor) -> None:
        super().__init__(blocks, weights, biases, state)
        self._exact_biases, self._state = biases, state
        self._rest = [exact - rounded for exact, rounded in zip(weights, self._weights, strict=True)]
        self._logits = torch.empty_like(state, dtype=torch.float32)

    def refresh(self) -> None:
        """Take off what rounding the couplings does to the logits, on average over the chains as they are now."""
        means = self._state.sum(1, keepdim=True, dtype=torch.float32) / self._state.shape[1]
        parts = zip(self._blocks, self._exact_biases, self._rest, strict=True)
        self.biases = [bias + rest @ means[b.low : b.high] for b, bias, rest in parts]

    def logits(self, block: int) -> Tensor:
        """At beta = 1, (size, chains), float32, valid until the next call."""
        return torch.add(self.of(block), self.biases[block], out=self._logits[: len(self.rooms[block])])
