"""Sweeps of block Gibbs by compiled passes, the chains shared out over threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from types import ModuleType

import numpy as np
import torch
from torch import Tensor

from qvae.ising.compiled import random_words
from qvae.ising.graphs import by_row
from qvae.ising.products import Block, Factors
from qvae.ising.sharing import share

_GATHERED, _MULTIPLIED = 128, 512  # chains that one thread updates together, about: with fewer, rows are too short
_ROWS = 40  # of a dense block, on average: from here on its products are quicker than gathering
_VECTOR = 16  # numbers, of the widest processors
_AT_ONCE = 4  # couplings that a pass takes


@dataclass(frozen=True)
class Entries:
    """Where the couplings of every row stand, ``_AT_ONCE`` by ``_AT_ONCE``: the last ones may be 0, of the row with itself.

    Attributes:
        starts: where each row begins, and the end, (n + 1,), int32.
        columns: (entries,), int32.
        places: of the couplings in both directions of every edge, after which a 0 stands, (entries,).
    """

    starts: np.ndarray
    columns: np.ndarray
    places: Tensor

    @classmethod
    def of(cls, rows: Tensor, columns: Tensor, num_rows: int) -> Entries:
        """From the ends (2m,) of both directions of every edge."""
        missing = -torch.bincount(rows, minlength=num_rows) % _AT_ONCE
        padding = torch.arange(num_rows).repeat_interleave(missing)
        own, order, starts = by_row(torch.cat([rows, padding]), torch.cat([columns, padding]), num_rows)
        return cls(starts.int().numpy(), own.int().numpy(), order.clamp(max=len(rows)))


class FusedSweeps:
    """Heat-bath updates, block by block, of one Hamiltonian's values.

    Bits are in int8. Blocks that are large and dense are updated by torch's products, followed by a pass that draws; all others
    in one pass. A call takes two random words from its generator, and every chain's stream starts from these and from the
    chain's number. So what is drawn doesn't depend on the number of threads, and there is no other random state to keep.

    Args:
        fused: :mod:`qvae.ising.fused`.
        blocks: of the rows.
        entries: of the couplings.
        couplings: of both directions of every edge, (2m,).
        bias: of each row, (n, 1).
        weights: of each block, (size, high - low), where the graph is dense.

    Attributes:
        level: ``bias``, (n,).
        factors: None where blocks are updated by one pass for everything.
        tables: for that: where rows of couplings begin, their columns and their values.
    """

    def __init__(
        self,
        fused: ModuleType,
        blocks: Sequence[Block],
        entries: Entries,
        couplings: Tensor,
        bias: Tensor,
        weights: Sequence[Tensor] | None,
    ) -> None:
        self._fused, self._nothing = fused, np.zeros(len(bias), np.float32)
        self.blocks, self.level = blocks, bias.flatten().numpy()
        self.factors: Factors | None = None
        if weights is not None and len(bias) >= _ROWS * max(1, len(blocks)):
            self.factors = Factors(fused, blocks, weights)
        else:
            values = torch.cat([-4.0 * couplings, bias.new_zeros(1)])[entries.places]
            self.tables = entries.starts, entries.columns, values.numpy()

    def sweep(
        self,
        state: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor,
        base: Tensor | None,
        order: Sequence[int],
    ) -> None:
        """As :meth:`qvae.ising.block_gibbs.BlockGibbs.sweep`; of a contiguous state in int8."""
        keys, chains = random_words(generator), state.shape[1]
        betas = np.empty(chains, np.float32)
        betas[:] = beta.numpy() if isinstance(beta, Tensor) else beta
        bases = self._nothing if base is None else base.flatten().float().numpy()
        factors = self.factors
        step = even_parts(chains, _GATHERED if factors is None else _MULTIPLIED)

        def multiply(own: slice) -> None:
            assert factors is not None
            self._multiply(factors, state, own, keys, num_sweeps, betas[own], bases, order)

        def gather(own: slice) -> None:
            tables = (rows, *self.tables, self.level, bases, betas)
            self._fused.sweep(state.numpy(), own.start, own.stop, *keys, num_sweeps, *tables)

        rows = self.rows(order)
        work = gather if factors is None else multiply
        share(lambda part: work(slice(part * step, min(chains, (part + 1) * step))), -(-chains // step))

    def raised(self, state: Tensor, shares: Sequence[float]) -> Tensor:
        """sum_i z_i (a_i + c_i sum_j w_ij z_j) of every chain of a state in int8, (chains,), c_i that of the row's block."""
        chains = state.shape[1]
        step = even_parts(chains, _GATHERED)
        share_of_row = np.repeat(np.array(shares, np.float32), [b.stop - b.start for b in self.blocks])
        found = np.empty(chains, np.float32)

        def work(part: int) -> None:
            first, stop = part * step, min(chains, (part + 1) * step)
            self._fused.raised(state.numpy(), first, stop, *self.tables, self.level, share_of_row, found)

        share(work, -(-chains // step))
        return torch.from_numpy(found)

    def rows(self, order: Sequence[int]) -> np.ndarray:
        """The rows in the order of their updates, int32."""
        blocks = [self.blocks[number] for number in order]
        return np.concatenate([np.arange(b.start, b.stop, dtype=np.int32) for b in blocks] or [np.empty(0, np.int32)])

    def _multiply(
        self,
        factors: Factors,
        state: Tensor,
        own: slice,
        keys: tuple[int, int],
        num_sweeps: int,
        beta: np.ndarray,
        base: np.ndarray,
        order: Sequence[int],
    ) -> None:
        """Sweep some chains by products."""
        width = whole_vectors(len(beta))
        # Threads aren't in torch's inference mode, where the state may be from: they write to it by numpy.
        bits, streams = np.zeros((len(state), width), np.int8), np.empty((4, width), np.uint32)
        betas = np.ones(width, np.float32)
        bits[:, : len(beta)] = state.numpy()[:, own]
        self._fused.seed(streams, *keys, own.start)
        betas[: len(beta)] = beta
        products = factors.times(torch.from_numpy(bits))
        updates = []
        for number in order:
            rows = slice(self.blocks[number].start, self.blocks[number].stop)
            updates.append((products[number], (self.level[rows] - base[rows], base[rows], betas, streams, bits[rows])))
        for _ in range(num_sweeps):
            for product, values in updates:
                self._fused.draw(*product(), *values)
        state.numpy()[:, own] = bits[:, : len(beta)]


def whole_vectors(chains: int) -> int:
    """So many, and as many more as fill the processor's vectors: what is left over would be done one by one."""
    return -(-chains // _VECTOR) * _VECTOR


def even_parts(chains: int, size: int) -> int:
    """Chains in each of several about equal parts, of about this size."""
    return whole_vectors(-(-chains // max(1, round(chains / size))))
