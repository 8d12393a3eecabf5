"""Rows of data on a stack of bits: bits-back with a model's posterior, likelihood and prior, and codes alone.

A row x takes -log2 p(x, z) / q(z|x) bits with z ~ q(z|x), on average minus the ELBO: z is popped from what is on the stack,
which gives -log2 q(z|x) bits back; then x is pushed given z, and z under the prior (Townsend et al. 2019, arXiv:1901.04866).
"""

from __future__ import annotations

import copy
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.coding.annealed import TEMPERATURES, AnnealedCoder
from qvae.coding.probabilities import SHIFTS, OnTheFence, rounded
from qvae.coding.stack import Stack
from qvae.coding.symbols import answered, questions
from qvae.errors import CapabilityError
from qvae.models.autoencoder import Autoencoder
from qvae.models.qvae import QVAE

_TOGETHER = 128  # rows whose bits are pushed together
_SHARE = 4  # choosing a code may take as many times the bits that a row leaves on the stack
MOST_ROWS, _MOST_LOGITS = 4096, 2**22  # of a block: with more, some logit is on the fence more often than not


@dataclass(frozen=True)
class Block:
    """Some rows, as they stand in a file.

    Attributes:
        words: the stack, uint32.
        shift: of the grid on which logits were rounded.
        checksum: CRC-32 of the rows.
    """

    words: np.ndarray
    shift: int
    checksum: int


@dataclass
class Bits:
    """What rows have taken, in bits.

    Attributes:
        data: for x given z; 0 where codes alone are kept.
        ideal: -log2 p(x|z), of which ``data`` is a little more; likewise.
        prior: for z.
        posterior: that choosing z gave back; likewise.
        start: that were on the stack before the first row.
    """

    data: int = 0
    ideal: float = 0.0
    prior: int = 0
    posterior: int = 0
    start: int = 0

    def __add__(self, other: Bits) -> Bits:
        return Bits(
            self.data + other.data,
            self.ideal + other.ideal,
            self.prior + other.prior,
            self.posterior + other.posterior,
            self.start + other.start,
        )


class Changed(ValueError):
    """Decoded rows aren't those that were encoded, by their checksum."""


class Coder(ABC):
    """Rows (N, D) of whole numbers, int32, or of 0 and 1, int8, to blocks and back.

    Args:
        model: with a Boltzmann prior; it is copied, in float64, to the CPU.
        temperatures: of the prior's chain.

    Raises:
        CapabilityError: the model has other latents, or a transverse field.
    """

    def __init__(self, model: Autoencoder, temperatures: int = TEMPERATURES) -> None:
        if not isinstance(model, QVAE):
            raise CapabilityError("only the latent bits of a qvae, with its Boltzmann prior, can be coded; train one.")
        self._model = copy.deepcopy(model).cpu().double().eval()
        Stack(np.empty(0, np.uint32))  # raises before anything is read, if constriction is missing
        self._prior = AnnealedCoder(model.prior.frozen(), temperatures)
        self.num_latents, self.temperatures = model.prior.num_spins, temperatures

    @property
    @abstractmethod
    def width(self) -> int:
        """Bits that are pushed for a row, beside its code's, at most."""

    @property
    def block_rows(self) -> int:
        """How many are coded on one stack: all but the last block have as many."""
        return max(1, min(MOST_ROWS, _MOST_LOGITS // (self.width + self.num_latents)))

    @torch.no_grad()
    def encode(self, rows: np.ndarray, count: Callable[[int], None] = lambda rows: None) -> tuple[Block, Bits, np.ndarray]:
        """A block of rows, what they have taken, and their codes (N, n), int8; ``count`` is told of rows that are done.

        Raises:
            CapabilityError: logits are on the fence whatever the grid, or in float32.
        """
        for shift in range(SHIFTS):
            try:
                return self._encoded(rows, shift, count)
            except OnTheFence:
                continue
        raise CapabilityError("this model's rows can't be coded: some of its logits can't be rounded alike on all machines.")

    @torch.no_grad()
    def decode(self, block: Block, num_rows: int, count: Callable[[int], None] = lambda rows: None) -> np.ndarray:
        """The rows of a block; ``count`` is told of those that are done.

        Raises:
            Changed: they aren't what was encoded.
        """
        stack, parts = Stack(block.words), []
        for part in reversed(list(_parts(num_rows))):
            parts.append(self._pop(stack, part.stop - part.start, block.shift))
            count(len(parts[-1]))
        rows = np.concatenate(parts[::-1])
        if not np.array_equal(stack.words(), self._start()) or _checksum(rows) != block.checksum:
            raise Changed
        return rows

    def _encoded(self, rows: np.ndarray, shift: int, count: Callable[[int], None]) -> tuple[Block, Bits, np.ndarray]:
        stack, codes = Stack(self._start()), []
        bits = Bits(start=stack.num_bits)
        for part in _parts(len(rows)):
            taken, found = self._push(stack, rows[part], shift)
            bits += taken
            codes.append(found)
            count(len(found))
        return Block(stack.words(), shift, _checksum(rows)), bits, np.concatenate(codes)

    def _start(self) -> np.ndarray:
        """The words from which the first row's code is chosen, as many as it has bits: the same for all files."""
        words = np.random.PCG64(np.random.SeedSequence(0)).random_raw(-(-self.num_latents // 32)).astype(np.uint32)
        words[-1] |= 2**31  # constriction's last word isn't 0
        return words

    @abstractmethod
    def _push(self, stack: Stack, rows: np.ndarray, shift: int) -> tuple[Bits, np.ndarray]:
        """Push a few rows; what they took, and their codes."""

    @abstractmethod
    def _pop(self, stack: Stack, count: int, shift: int) -> np.ndarray:
        """Take it back."""


class RowCoder(Coder):
    """Rows of bits, counts, categories or symbols of strings, without loss.

    Raises:
        CapabilityError: the model's data are real numbers, too.
    """

    def __init__(self, model: Autoencoder, temperatures: int = TEMPERATURES) -> None:
        super().__init__(model, temperatures)
        self._questions = questions(model.likelihood)

    @property
    def width(self) -> int:
        return self._questions

    def _push(self, stack: Stack, rows: np.ndarray, shift: int) -> tuple[Bits, np.ndarray]:
        heights = [stack.num_bits]
        codes = self._pop_codes(stack, rows, shift)
        heights.append(stack.num_bits)
        output, likelihood = self._output(codes), self._model.likelihood
        answers: list[tuple[np.ndarray, np.ndarray]] = []

        def answer(log_odds: Tensor, where: Any, threshold: Any) -> np.ndarray:
            answers.append((rows[where] >= threshold, _steps(log_odds, shift, is_coding=True)))
            return answers[-1][0]

        answered(likelihood, output, answer)
        for bits, steps in reversed(answers):
            stack.push(bits, steps)
        heights.append(stack.num_bits)
        self._prior.push(stack, codes)
        heights.append(stack.num_bits)
        posterior, data, prior = np.diff(heights).tolist()
        ideal = -float(likelihood.log_prob(output, _tensor(rows)).sum()) / math.log(2)
        return Bits(data, ideal, prior, -posterior), codes

    def _pop(self, stack: Stack, count: int, shift: int) -> np.ndarray:
        codes = self._prior.pop(stack, count)

        def answer(log_odds: Tensor, where: Any, threshold: Any) -> np.ndarray:
            return stack.pop(_steps(log_odds, shift, is_coding=False)).astype(bool)

        likelihood = self._model.likelihood
        rows = answered(likelihood, self._output(codes), answer)
        rows = rows.astype(np.int8 if likelihood.kind == "bits" else np.int32)
        self._push_codes(stack, rows, codes, shift)
        return rows

    def _output(self, codes: np.ndarray) -> Tensor:
        """Of the decoder, (B, outputs * D)."""
        return _in_double(self._model.decoder(_tensor(codes)).flatten(1))

    def _pop_codes(self, stack: Stack, rows: np.ndarray, shift: int) -> np.ndarray:
        """Codes z ~ q(z|x), level by level."""
        features, levels = self._features(rows), list[Tensor]()
        for depth in range(len(self._model.posterior.levels)):
            logits = self._model.posterior.level_logits(depth, features, levels)
            levels.append(_tensor(stack.pop(_steps(logits, shift, is_coding=True))))
        return torch.cat(levels, 1).numpy().astype(np.int8)

    def _push_codes(self, stack: Stack, rows: np.ndarray, codes: np.ndarray, shift: int) -> None:
        features, levels = self._features(rows), _tensor(codes).split(self._model.posterior.level_sizes, 1)
        for depth in reversed(range(len(levels))):
            logits = self._model.posterior.level_logits(depth, features, levels[:depth])
            stack.push(levels[depth].numpy(), _steps(logits, shift, is_coding=False))

    def _features(self, rows: np.ndarray) -> Tensor:
        return self._model.encoder(self._model.likelihood.features(_tensor(rows)))


class CodeCoder(Coder):
    """Codes alone, of rows that are then known by them only."""

    @property
    def width(self) -> int:
        return self.num_latents

    def _push(self, stack: Stack, rows: np.ndarray, shift: int) -> tuple[Bits, np.ndarray]:
        height = stack.num_bits
        self._prior.push(stack, rows)
        return Bits(prior=stack.num_bits - height), rows

    def _pop(self, stack: Stack, count: int, shift: int) -> np.ndarray:
        return self._prior.pop(stack, count)


def _parts(count: int) -> Iterator[slice]:
    """Rows that are pushed together: a quarter of those before, which left bits enough to choose codes by."""
    start = 0
    while start < count:
        stop = min(count, start + min(_TOGETHER, max(1, start // _SHARE)))
        yield slice(start, stop)
        start = stop


def _steps(logits: Tensor, shift: int, is_coding: bool) -> np.ndarray:
    return rounded(_in_double(logits).numpy(), shift, is_coding)


def _in_double(logits: Tensor) -> Tensor:
    if logits.dtype != torch.float64:
        raise CapabilityError(
            "this model's rows can't be coded: its networks compute in float32 also where all weights are float64, so that two "
            "machines differ; leave conversions such as .float() out of them."
        )
    return logits


def _tensor(rows: np.ndarray) -> Tensor:
    return torch.from_numpy(rows.astype(np.float64))


def _checksum(rows: np.ndarray) -> int:
    """Of bits, eight to a byte; of other numbers, four bytes each."""
    return zlib.crc32((np.packbits(rows.astype(bool)) if rows.dtype == np.int8 else rows.astype("<i4")).tobytes())
