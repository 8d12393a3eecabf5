"""Block Gibbs updates: all spins of one colour at once, for many chains, on any graph."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian

_DENSE_SPINS = 512  # below this a dense matrix is always quicker than a sparse one


@dataclass(frozen=True)
class _Block:
    """Spins of one colour, at rows start:stop of the state; all their neighbours are in rows low:high."""

    start: int
    stop: int
    low: int
    high: int


def sparse_matrix(rows: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    """A sparse CSR matrix from its entries, sorted by row and then by column."""
    counts = torch.bincount(rows, minlength=shape[0])
    starts = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    with warnings.catch_warnings():
        # torch tells every user once that CSR is in beta; we use its matrix product alone.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        return torch.sparse_csr_tensor(starts, columns, values, shape, check_invariants=False)


class BlockGibbs:
    """Heat-bath updates of the spins of ``hamiltonian``, colour by colour, on a state of bits (n, chains).

    The state holds bits z = (1+s)/2 as floats, one row a spin, rows sorted by colour: one block is a contiguous slice,
    and its update one matrix product, p(z_c = 1 | rest) = sigmoid(-4 beta J_c z + beta (2 sum_j J_cj - 2 h_c)).
    For an RBM the rows keep their order and the product is with the other layer alone.

    Args:
        hamiltonian: the distribution at beta = 1; its ``h`` and ``J`` are read now, see :meth:`update`.
    """

    def __init__(self, hamiltonian: IsingHamiltonian) -> None:
        graph = hamiltonian.graph
        self.graph = graph
        device = hamiltonian.h.device
        colouring = graph.colouring
        self.order = torch.argsort(colouring, stable=True).to(device)
        position = torch.argsort(self.order)
        self._is_sorted = bool((self.order == torch.arange(graph.num_spins, device=device)).all())
        # Both directions of every edge, by the row that is updated; `_sources` find the coupling again.
        ends = position[graph.edges]
        self._rows = torch.cat([ends[:, 0], ends[:, 1]])
        self._columns = torch.cat([ends[:, 1], ends[:, 0]])
        self._dense = graph.num_spins <= _DENSE_SPINS or graph.num_edges * 8 >= graph.num_spins**2
        self._blocks = self._find_blocks(colouring)
        if not self._dense:
            keys = self._rows * graph.num_spins + self._columns
            inside = [(self._rows >= b.start) & (self._rows < b.stop) for b in self._blocks]
            sources = [torch.nonzero(mask).squeeze(1) for mask in inside]
            self._sources = [source[torch.argsort(keys[source])] for source in sources]
        self.update(hamiltonian)

    def _find_blocks(self, colouring: Tensor) -> list[_Block]:
        blocks, start = [], 0
        for size in torch.bincount(colouring).tolist():
            stop = start + size
            neighbours = self._columns[(self._rows >= start) & (self._rows < stop)]
            low, high = (int(neighbours.min()), int(neighbours.max()) + 1) if len(neighbours) else (0, 0)
            blocks.append(_Block(start, stop, low, high))
            start = stop
        return blocks

    def update(self, hamiltonian: IsingHamiltonian) -> None:
        """Take over new fields and couplings on the same graph."""
        h, J = hamiltonian.h.detach().float(), hamiltonian.J.detach().float()
        doubled = torch.cat([J, J])
        n = self.graph.num_spins
        sums = torch.zeros(n, device=h.device).index_add_(0, self._rows, doubled)
        self._bias = (2.0 * sums - 2.0 * h[self.order]).unsqueeze(1)
        if self.graph.bipartite_sizes is not None and self._is_sorted:
            matrix = -4.0 * J.view(self.graph.bipartite_sizes)
            self._weights = [matrix, matrix.T]
        elif self._dense:
            full = torch.zeros(n, n, device=h.device).index_put_((self._rows, self._columns), -4.0 * doubled)
            self._weights = [full[b.start : b.stop, b.low : b.high].contiguous() for b in self._blocks]
        else:
            doubled = -4.0 * doubled
            self._weights = [self._csr(b, s, doubled[s]) for b, s in zip(self._blocks, self._sources, strict=True)]

    def _csr(self, block: _Block, source: Tensor, values: Tensor) -> Tensor:
        shape = (block.stop - block.start, block.high - block.low)
        return sparse_matrix(self._rows[source] - block.start, self._columns[source] - block.low, values, shape)

    @property
    def num_blocks(self) -> int:
        """Number of colours."""
        return len(self._blocks)

    def rows(self, block: int) -> slice:
        """The rows of the state that hold one colour's spins."""
        return slice(self._blocks[block].start, self._blocks[block].stop)

    def random_state(self, chains: int, generator: torch.Generator) -> Tensor:
        """Independent uniform bits, (n, chains)."""
        shape = (self.graph.num_spins, chains)
        return torch.randint(0, 2, shape, generator=generator, device=self.order.device).float()

    def from_spins(self, spins: Tensor) -> Tensor:
        """A state (n, chains) from spins (chains, n)."""
        return ((1 + spins[:, self.order]) / 2).float().T.contiguous()

    def to_spins(self, state: Tensor) -> Tensor:
        """Spins (chains, n), int8, from a state (n, chains)."""
        spins = torch.empty(state.shape[1], state.shape[0], dtype=torch.int8, device=state.device)
        signs = (2 * state - 1).to(torch.int8).T
        if self._is_sorted:
            return spins.copy_(signs)
        spins[:, self.order] = signs
        return spins

    def logits(self, state: Tensor, block: int, beta: float | Tensor = 1.0, base: Tensor | None = None) -> Tensor:
        """log p(z=1|rest) - log p(z=0|rest) of one block's spins, (size, chains), at ``beta``, a number or (chains,).

        With ``base`` (n, 1), logits of independent bits in row order, beta leads from those to the Hamiltonian: the
        distribution is then proportional to base^(1-beta) exp(-beta E).
        """
        b = self._blocks[block]
        bias = self._bias[b.start : b.stop]
        if b.low == b.high:
            field = bias.expand(-1, state.shape[1])
        elif self._dense:
            field = torch.addmm(bias, self._weights[block], state[b.low : b.high])
        else:
            field = self._weights[block] @ state[b.low : b.high] + bias
        if base is not None:
            return torch.lerp(base[b.start : b.stop], field, beta)
        return field if isinstance(beta, float) and beta == 1.0 else field * beta

    def sweep(
        self,
        state: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor = 1.0,
        base: Tensor | None = None,
        order: Sequence[int] | None = None,
    ) -> Tensor:
        """Update every block ``num_sweeps`` times in place at inverse temperature ``beta``; returns ``state``.

        ``base`` is that of :meth:`logits`; ``order`` names the blocks in the order of their updates, else ascending.
        """
        uniform = torch.empty_like(state)
        for _ in range(num_sweeps):
            torch.rand(state.shape, generator=generator, out=uniform)
            for index in range(self.num_blocks) if order is None else order:
                b = self._blocks[index]
                p = torch.sigmoid(self.logits(state, index, beta, base))
                torch.lt(uniform[b.start : b.stop], p, out=state[b.start : b.stop])
        return state

    def means(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Conditional spin means given the other blocks, (n, chains) in row order, and the rows' spins likewise.

        Replacing one factor of a product by its conditional mean leaves expectations as they are and lowers the
        variance (Rao-Blackwell).
        """
        spins = 2 * state - 1
        conditional = torch.empty_like(state)
        for index, b in enumerate(self._blocks):
            # tanh(x/2), which torch computes several times as fast this way.
            conditional[b.start : b.stop] = torch.sigmoid(self.logits(state, index)).mul_(2).sub_(1)
        return conditional, spins
