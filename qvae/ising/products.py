"""Products of couplings with a state of bits, block by block: in float32, in bfloat16, or of two digits in int8."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
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

    def firsts(self, size: int) -> range:
        """The first rows of its tiles, each of so many rows."""
        return range(self.start, self.stop, size)


def in_parts(state: Tensor, beta: float | Tensor, parts: int) -> Iterator[tuple[Tensor, float | Tensor]]:
    """Chains of a state (n, chains) in about equal parts, contiguous, each with its inverse temperatures, to be written to."""
    betas = beta.tensor_split(parts) if isinstance(beta, Tensor) and beta.ndim else [beta] * parts
    for some, own_beta in zip(state.tensor_split(parts, dim=1), betas, strict=True):
        own = some.contiguous()
        yield own, own_beta
        some.copy_(own)


class RoundedProducts:
    """Those in bfloat16 of dense blocks with a state in bfloat16, for one call's sweeps; with ``biases``, logits at beta = 1.

    Args:
        blocks: of the rows.
        weights: of each block, (size, high - low), float32.
        biases: of each block, (size, 1).
        state: (n, chains), whose changes are followed.
    """

    def __init__(self, blocks: Sequence[Block], weights: Sequence[Tensor], biases: Sequence[Tensor], state: Tensor) -> None:
        self.biases, self._exact_biases, self._blocks, self._state = biases, biases, blocks, state
        self._weights = [matrix.to(state.dtype) for matrix in weights]
        self._rest = [exact - rounded for exact, rounded in zip(weights, self._weights, strict=True)]
        room, logits = torch.empty_like(state), torch.empty_like(state, dtype=torch.float32)
        # Memory and views that are asked for in every update cost time.
        self._rooms = [(room[: b.stop - b.start], logits[: b.stop - b.start]) for b in blocks]
        self._neighbours = [state[b.low : b.high] for b in blocks]

    def refresh(self) -> None:
        """Take off what rounding the couplings does to the logits, on average over the chains as they are now."""
        means = self._state.sum(1, keepdim=True, dtype=torch.float32) / self._state.shape[1]
        parts = zip(self._blocks, self._exact_biases, self._rest, strict=True)
        self.biases = [bias + rest @ means[b.low : b.high] for b, bias, rest in parts]

    def logits(self, block: int) -> Tensor:
        """At beta = 1, (size, chains), float32, valid until the next call."""
        room, logits = self._rooms[block]
        return torch.add(torch.mm(self._weights[block], self._neighbours[block], out=room), self.biases[block], out=logits)


class Factors:
    """The couplings of dense blocks, to be multiplied with bits in int8 for compiled passes.

    Where the machine has an instruction for it, weights are cut into two digits of 8 bits, which are multiplied as whole
    numbers: twice as quick as in float32, and right to a 64,000th of each row's largest weight.

    Args:
        fused: :mod:`qvae.ising.fused`.
        blocks: of the rows.
        weights: of each block, (size, high - low), float32.
    """

    def __init__(self, fused: ModuleType, blocks: Sequence[Block], weights: Sequence[Tensor]) -> None:
        self._blocks, self._of_digits = blocks, multiplies_int8()
        self._matrices, self._scales = [], []
        for matrix in weights:
            scale = np.ones(len(matrix), np.float32)
            if self._of_digits:
                digits = np.empty((2 * len(matrix), matrix.shape[1]), np.int8)
                fused.split(np.ascontiguousarray(matrix.numpy()), digits, scale)
                matrix = torch.from_numpy(digits)
            self._matrices.append(matrix)
            self._scales.append(scale)

    def times(self, bits: Tensor) -> list[Callable[[], tuple[np.ndarray, np.ndarray]]]:
        """For each block, what multiplies it with ``bits`` (n, chains) as they are then.

        It returns a product and its scale, as :func:`qvae.ising.fused.read_row` takes them, valid until the next call.
        """
        most = max(len(matrix) for matrix in self._matrices)
        room = torch.empty(most, bits.shape[1], dtype=torch.int32 if self._of_digits else torch.float32)
        floats = torch.empty(0 if self._of_digits else len(bits), bits.shape[1])
        return [self._product(number, bits, room, floats) for number in range(len(self._blocks))]

    def _product(self, number: int, bits: Tensor, room: Tensor, floats: Tensor) -> Callable[[], tuple[np.ndarray, np.ndarray]]:
        # Views are made once, since each costs a microsecond.
        block, matrix, scale = self._blocks[number], self._matrices[number], self._scales[number]
        neighbours, place = bits[block.low : block.high], room[: len(matrix)]
        found = place.numpy(), scale

        def of_digits() -> tuple[np.ndarray, np.ndarray]:
            torch._int_mm(matrix, neighbours, out=place)
            return found

        def of_floats() -> tuple[np.ndarray, np.ndarray]:
            torch.mm(matrix, floats[: len(neighbours)].copy_(neighbours), out=place)
            return found

        return of_digits if self._of_digits else of_floats


def multiplies_int8() -> bool:
    """Whether the processor multiplies and adds whole numbers of 8 bits in one instruction."""
    return bool(getattr(torch.cpu, "_is_vnni_supported", lambda: False)())
