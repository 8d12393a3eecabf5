"""Block Gibbs updates: all spins of one colour at once, for many chains, on any graph."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from qvae.ising.compiled import kernels
from qvae.ising.fused_sweeps import Entries, FusedSweeps
from qvae.ising.graphs import by_row
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.products import REFRESH, Block, RoundedProducts, in_parts
from qvae.ising.uniforms import Uniforms

if TYPE_CHECKING:
    from qvae.ising.triton_sweeps import Layout, TritonSweeps

_DENSE_SPINS = 64  # up to here a dense matrix is as quick as a sparse one, whatever the graph
_ROUNDED_SPINS = 96  # of a colour, on average: from here on products in bfloat16 are quicker
_CPU_BITS, _GPU_BITS = 2**18, 2**28  # of the chains that are updated together: a processor's cache holds them
_TRITON_ROWS = 1024  # of a dense block, at most: torch's products of larger ones are quicker than those of one kernel a call
_FEWEST_CHAINS = 64  # below it, rows are too short for the processor's vectors


def sparse_matrix(starts: Tensor, columns: Tensor, values: Tensor) -> Tensor:
    """A square sparse matrix of compressed rows (CSR): its entries by row and column, and where each row begins."""
    size = len(starts) - 1
    with warnings.catch_warnings():
        # torch tells every user once that CSR is in beta, of which we use the matrix product alone; some versions tell, too,
        # that indices go unchecked, as we ask for.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta state")
        warnings.filterwarnings("ignore", message="Sparse invariant checks are implicitly disabled")
        return torch.sparse_csr_tensor(starts, columns, values, (size, size), check_invariants=False)


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether the machine multiplies bfloat16 natively."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    return bool(supported())


class BlockGibbs:
    """Heat-bath updates of the spins of ``hamiltonian``, colour by colour, on a state of bits (n, chains).

    The state holds bits z = (1+s)/2 as floats, one row a spin, rows sorted by colour: one block is a contiguous slice,
    and its update one matrix product, p(z_c = 1 | rest) = sigmoid(-4 beta J_c z + beta (2 sum_j J_cj - 2 h_c)).
    For an RBM the rows keep their order and the product is with the other layer alone.

    Torch's kernels sweep a state in bfloat16, which holds bits exactly, with products in bfloat16. What rounding the couplings
    W to W' does to the mean of a logit is taken off, (W - W') <z>, with the mean over the chains at hand; what is left is noise
    below a hundredth of a logit, and shifts of means of about 1e-4 on a trained RBM.

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
        # Both directions of every edge, by the row that is updated.
        ends = position[graph.edges]
        self._rows = torch.cat([ends[:, 0], ends[:, 1]])
        self._columns = torch.cat([ends[:, 1], ends[:, 0]])
        self._dense = graph.num_spins <= _DENSE_SPINS or graph.num_edges * 8 >= graph.num_spins**2
        self._blocks = self._find_blocks(colouring)
        self._largest = max((b.stop - b.start for b in self._blocks), default=0)
        if not self._dense:
            self._find_bags()
        self.update(hamiltonian)

    def _find_blocks(self, colouring: Tensor) -> list[Block]:
        blocks, start = [], 0
        for size in torch.bincount(colouring).tolist():
            stop = start + size
            neighbours = self._columns[(self._rows >= start) & (self._rows < stop)]
            low, high = (int(neighbours.min()), int(neighbours.max()) + 1) if len(neighbours) else (0, 0)
            blocks.append(Block(start, stop, low, high))
            start = stop
        return blocks

    def _find_bags(self) -> None:
        """Entries of each block's sparse matrix by row: the edges they come from, and their columns and where rows begin."""
        columns, places, starts = by_row(self._rows, self._columns, self.graph.num_spins)
        edges = places % max(1, self.graph.num_edges)
        self._edges, self._bags = [], []
        for b in self._blocks:
            entries = slice(int(starts[b.start]), int(starts[b.stop]))
            self._edges.append(edges[entries])
            self._bags.append((columns[entries] - b.low, starts[b.start : b.stop + 1] - starts[b.start]))

    def update(self, hamiltonian: IsingHamiltonian) -> None:
        """Take over new fields and couplings on the same graph."""
        h, J = hamiltonian.h.detach().float(), hamiltonian.J.detach().float()
        doubled = torch.cat([J, J])
        n, sizes = self.graph.num_spins, self.graph.bipartite_sizes if self._is_sorted else None
        if sizes is not None:
            sums = torch.cat([J.view(sizes).sum(1), J.view(sizes).sum(0)])  # many times as quick as by the ends of edges
        else:
            sums = doubled.new_zeros(n).index_add_(0, self._rows, doubled)
        bias = sums.sub_(h if self._is_sorted else h[self.order]).mul_(2.0).unsqueeze(1)
        self._biases = [bias[b.start : b.stop] for b in self._blocks]
        self._bias, self._couplings = bias, doubled
        self._swept: FusedSweeps | TritonSweeps | None = None
        self._all_down = J.sum() - h.sum()
        if sizes is not None:
            matrix = -4.0 * J.view(sizes)
            self._weights = [matrix, matrix.T]
        elif self._dense:
            full = doubled.new_zeros(n, n).index_put_((self._rows, self._columns), -4.0 * doubled)
            self._weights = [full[b.start : b.stop, b.low : b.high].contiguous() for b in self._blocks]
        else:
            self._weights = [-4.0 * J[edges] for edges in self._edges]

    @property
    def quickest(self) -> torch.dtype:
        """The type of state that is swept quickest: int8 by compiled passes.

        By torch's kernels, bfloat16 for large dense blocks where it is multiplied natively, else float32.
        """
        if self.fused is not None:
            return torch.int8
        large = self._dense and self.graph.num_spins >= _ROUNDED_SPINS * self.num_blocks
        return torch.bfloat16 if large and multiplies_bfloat16(self.order.device) else torch.float32

    @property
    def fused(self) -> FusedSweeps | TritonSweeps | None:
        """Sweeps by compiled passes where these serve, for the values that were read last."""
        on_cuda = self.order.device.type == "cuda"
        fused = None if on_cuda and self._dense and self._largest > _TRITON_ROWS else kernels(self.order.device)
        if fused is None:
            return None
        if self._swept is None and not on_cuda:
            dense = self._weights if self._dense else None
            self._swept = FusedSweeps(fused, self._blocks, self._entries, self._couplings, self._bias, dense)
        elif self._swept is None:
            self._swept = fused.TritonSweeps(self._layout, self._couplings, self._bias, self._weights)
        return self._swept

    @functools.cached_property
    def _layout(self) -> Layout:
        """Where couplings stand for kernels on CUDA."""
        from qvae.ising.triton_sweeps import Layout

        if self._dense:
            return Layout.dense(self._blocks, self.order.device)
        return Layout.sparse(self._blocks, self._rows, self._columns)

    @functools.cached_property
    def _entries(self) -> Entries:
        """Where couplings stand by row, for compiled passes."""
        return Entries.of(self._rows, self._columns, self.graph.num_spins)

    @property
    def couplings(self) -> tuple[list[Block], list[Tensor], list[tuple[Tensor, Tensor]] | None, Tensor]:
        """Blocks, the weights of each, columns and starts of rows of each where the graph is sparse, and the bias (n, 1)."""
        return self._blocks, self._weights, None if self._dense else self._bags, self._bias

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

    def by_spin(self, rows: Tensor) -> Tensor:
        """Rows (n, ...) in the order of the spins, which may be a view of them."""
        return rows if self._is_sorted else torch.empty_like(rows).index_copy_(0, self.order, rows)

    def logits(self, state: Tensor, block: int, beta: float | Tensor = 1.0, base: Tensor | None = None) -> Tensor:
        """log p(z=1|rest) - log p(z=0|rest) of one block's spins, (size, chains), at ``beta``, a number or (chains,).

        With ``base`` (n, 1), logits of independent bits in row order, beta leads from those to the Hamiltonian: the
        distribution is then proportional to base^(1-beta) exp(-beta E).
        """
        return self._between(self._field(self._neighbours(state, block), block), block, beta, base)

    def _neighbours(self, state: Tensor, block: int) -> Tensor:
        b = self._blocks[block]
        return state[b.low : b.high]

    def _field(self, neighbours: Tensor, block: int) -> Tensor:
        bias = self._biases[block]
        if self._blocks[block].low == self._blocks[block].high:
            return bias.repeat(1, neighbours.shape[1])
        if self._dense:
            return torch.addmm(bias, self._weights[block], neighbours)
        # Sums of weighted rows, gathered without a copy: two to three times as quick as torch's product with a CSR matrix.
        columns, starts = self._bags[block]
        weights = self._weights[block]
        sums = F.embedding_bag(columns, neighbours, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)
        return sums.add_(bias)

    def energies(self, state: Tensor) -> Tensor:
        """E(s) of every chain of a state (n, chains), (chains,), float32, from the logits x_i.

        E(s) = E(all down) - sum_i z_i (a_i + c_i (x_i - a_i)), where a_i is x_i with all neighbours down. Each coupling is seen
        from both its ends, c_i = 1/2; of two colours, one sees them all.
        """
        shares = [1.0, 0.0] if self.num_blocks == 2 else [0.5] * self.num_blocks
        if isinstance(fused := self.fused, FusedSweeps) and fused.factors is None:
            return self._all_down - fused.raised(state.to(torch.int8).contiguous(), shares)
        state = state.float()
        energies = self._all_down.repeat(state.shape[1])
        for block, share in enumerate(shares):
            bias, rows = self._biases[block], state[self.rows(block)]
            seen = torch.lerp(bias, self._field(self._neighbours(state, block), block), share) if share else bias
            energies.sub_((seen * rows).sum(0))
        return energies

    def _between(self, field: Tensor, block: int, beta: float | Tensor, base: Tensor | None) -> Tensor:
        if base is not None:
            return torch.lerp(base[self.rows(block)], field, beta)
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

        ``base`` is that of :meth:`logits`; ``order`` names the blocks in the order of their updates, else ascending. The state
        is in float32, in :attr:`quickest`, or, for dense blocks, in bfloat16.
        """
        blocks = range(self.num_blocks) if order is None else order
        fused = self.fused
        if fused is not None:
            swept = state.to(torch.int8).contiguous()
            fused.sweep(swept, num_sweeps, generator, beta, base, blocks)
            return state if swept is state else state.copy_(swept)
        bits = _CPU_BITS if state.device.type == "cpu" else _GPU_BITS
        size = max(_FEWEST_CHAINS, bits // max(1, self.graph.num_spins))
        if state.shape[1] <= size:
            self._sweep(state, num_sweeps, generator, beta, base, blocks)
            return state
        # Parts of equal size: a last one of a few chains would take as long as the others.
        parts = state.shape[1] // size
        for own, own_beta in in_parts(state, beta, parts):
            self._sweep(own, num_sweeps, generator, own_beta, base, blocks)
        return state

    def _sweep(
        self,
        state: Tensor,
        num_sweeps: int,
        generator: torch.Generator,
        beta: float | Tensor,
        base: Tensor | None,
        blocks: Sequence[int],
    ) -> None:
        uniforms = Uniforms(state.shape[0], state.shape[1], generator, state.device)
        rounded = RoundedProducts(self._blocks, self._weights, self._biases, state) if state.dtype == torch.bfloat16 else None
        # Views are made once: in every update they would cost as much as the comparison of a small block.
        drawn = uniforms.place
        views = [(block, state[self.rows(block)], self._neighbours(state, block), drawn[self.rows(block)]) for block in blocks]
        for number in range(num_sweeps):
            if rounded is not None and number % REFRESH == 0:
                rounded.refresh()
            uniforms.draw()
            for block, own, neighbours, uniform in views:
                field = self._field(neighbours, block) if rounded is None else rounded.logits(block)
                p = self._between(field, block, beta, base).sigmoid_()
                if rounded is None:
                    torch.lt(uniform, p, out=own)
                else:
                    # Comparing into another type is slower than comparing and converting.
                    own.copy_(torch.lt(uniform, p, out=p))

    def means(self, state: Tensor) -> tuple[Tensor, Tensor]:
        """Conditional spin means given the other blocks, (n, chains) in row order, and the rows' spins likewise.

        Replacing one factor of a product by its conditional mean leaves expectations as they are and lowers the
        variance (Rao-Blackwell).
        """
        spins = 2 * state - 1
        conditional = torch.empty_like(state)
        for block in range(self.num_blocks):
            torch.sigmoid(self.logits(state, block), out=conditional[self.rows(block)])
        # tanh(x/2), which torch computes several times as fast this way.
        return conditional.mul_(2).sub_(1), spins
