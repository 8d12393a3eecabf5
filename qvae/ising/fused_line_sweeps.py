"""Cluster updates of world lines by compiled passes, the chains shared out over threads."""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from qvae.ising.compiled import random_words
from qvae.ising.fused_sweeps import FusedSweeps, even_parts, whole_vectors
from qvae.ising.sharing import share

_BITS = 2**19  # of the chains that one thread updates together, about: of fewer, passes over short rows cost more


class FusedLines:
    """Updates of all world lines, colour by colour, of one Hamiltonian's values.

    Streams of random numbers are as in :class:`~qvae.ising.fused_sweeps.FusedSweeps`.

    Args:
        fused: :mod:`qvae.ising.fused_lines`.
        sweeps: of one slice.
        cut: exp(-2K) of each row, (n,).
    """

    def __init__(self, fused: ModuleType, sweeps: FusedSweeps, cut: Tensor) -> None:
        self._fused, self._sweeps, self._cut = fused, sweeps, cut.numpy()

    def sweep(
        self,
        bits: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor,
        base: Tensor | None,
        order: Sequence[int],
        pinned: Tensor | None,
    ) -> None:
        """As :meth:`qvae.ising.world_lines.WorldLines.sweep`; of bits in int8, and ``pinned`` are logits of slice 0."""
        n, slices, chains = bits.shape
        step = even_parts(chains, max(1, _BITS // max(1, n * slices)))
        keys, whole = random_words(generator), bits.numpy()

        def work(part: int) -> None:
            own = slice(part * step, min(chains, (part + 1) * step))
            number = own.stop - own.start
            width = whole_vectors(number)
            lines, streams = np.zeros((n, slices, width), np.int8), np.empty((4, width), np.uint32)
            lines[:, :, :number] = whole[:, :, own]
            self._fused.seed(streams, *keys, own.start)
            bases, betas = np.zeros((n, width), np.float32), np.ones(width, np.float32)
            if base is not None:
                bases[:, :number] = base.numpy() if base.shape[1] == 1 else base[:, own].numpy()
            betas[:number] = beta[own].numpy() if isinstance(beta, Tensor) and beta.ndim else float(beta)
            pins = np.zeros((n, 0 if pinned is None else width), np.float32)
            if pinned is not None:
                pins[:, :number] = pinned[:, own].numpy()
            self._turn(lines, num_sweeps, streams, bases, betas, pins, order)
            whole[:, :, own] = lines[:, :, :number]

        share(work, -(-chains // step))

    def _turn(
        self,
        lines: np.ndarray,
        num_sweeps: int,
        streams: np.ndarray,
        base: np.ndarray,
        beta: np.ndarray,
        pinned: np.ndarray,
        order: Sequence[int],
    ) -> None:
        """Sweep some chains, (n, P, chains)."""
        sweeps = self._sweeps
        if sweeps.factors is None:
            tables = (sweeps.rows(order), *sweeps.tables, sweeps.level, self._cut, base, beta, pinned)
            self._fused.sweep_lines(lines, num_sweeps, streams, *tables)
            return
        products = sweeps.factors.times(torch.from_numpy(lines).view(len(lines), -1))
        for _ in range(num_sweeps):
            for number in order:
                rows = slice(sweeps.blocks[number].start, sweeps.blocks[number].stop)
                values = (sweeps.level[rows], self._cut[rows], base[rows], beta, pinned[rows])
                self._fused.turn(*products[number](), *values, streams, lines[rows])
