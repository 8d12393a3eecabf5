"""Latent graphs: which spins are coupled, and a colouring that says which can be updated together."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from functools import cached_property
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

EdgeList = Tensor | np.ndarray | Sequence[Sequence[int]]


class Graph:
    """An undirected graph of spins: ``num_spins`` and ``edges`` (m, 2), int64, each pair once, no loops.

    Edges are kept as (low, high) in ascending order, whatever they are given in, and couplings on a graph are in the order of
    its ``edges``: those in the order of what was given are ``J[edge_order(given)]``. A graph lives on one device; what is
    derived from it (colouring, dense bipartite shape) is computed once.

    Raises:
        ValueError: edges aren't pairs of integers, or one names a spin outside 0..num_spins-1, joins a spin to itself,
            or stands there twice.

    >>> graph = Graph(3, [(2, 1), (0, 1)])
    >>> graph.edges.tolist(), graph.colouring.tolist()
    ([[0, 1], [1, 2]], [0, 1, 0])
    """

    def __init__(self, num_spins: int, edges: EdgeList) -> None:
        pairs = _pairs(edges)
        if num_spins < 0:
            raise ValueError(f"num_spins is {num_spins}; it must be 0 or more")
        if len(pairs):
            if int(pairs.min()) < 0 or int(pairs.max()) >= num_spins:
                bad = pairs[((pairs < 0) | (pairs >= num_spins)).any(1)][0].tolist()
                raise ValueError(f"edge {tuple(bad)} names a spin outside 0..{num_spins - 1}")
            loops = pairs[:, 0] == pairs[:, 1]
            if bool(loops.any()):
                raise ValueError(f"edge {tuple(pairs[loops][0].tolist())} joins a spin to itself")
            pairs = pairs.sort(dim=1).values[edge_order(pairs)]
            twice = (pairs[1:] == pairs[:-1]).all(1)
            if bool(twice.any()):
                raise ValueError(f"edge {tuple(pairs[1:][twice][0].tolist())} stands there twice; add its couplings")
        self.num_spins = num_spins
        self.edges = pairs

    @property
    def num_edges(self) -> int:
        """Number of edges m."""
        return len(self.edges)

    def __repr__(self) -> str:
        return f"Graph(num_spins={self.num_spins}, num_edges={self.num_edges})"

    def to(self, device: torch.device | str) -> Graph:
        """This graph with its tensors on ``device`` (itself where they are there already)."""
        if self.edges.device == torch.device(device):
            return self
        moved = object.__new__(Graph)
        moved.num_spins, moved.edges = self.num_spins, self.edges.to(device)
        moved.__dict__["colouring"] = self.colouring
        moved.__dict__["bipartite_sizes"] = self.bipartite_sizes
        return moved

    @cached_property
    def colouring(self) -> Tensor:
        """Colour of each spin, (n,) int64 on the CPU: no edge joins equal colours; two colours where two suffice."""
        if self.bipartite_sizes is not None:
            return torch.repeat_interleave(torch.tensor(self.bipartite_sizes))
        neighbours = _neighbour_lists(self.num_spins, self.edges.cpu().numpy())
        return torch.tensor(_two_colours(neighbours) or _dsatur(neighbours), dtype=torch.int64)

    @cached_property
    def neighbours(self) -> tuple[Tensor, Tensor, Tensor]:
        """Each spin's neighbours, one spin after the other, (2m,); the edges to them, (2m,); where each begins, (n + 1,)."""
        rows, columns = torch.cat([self.edges, self.edges.flip(1)]).T
        columns, entries, starts = by_row(rows, columns, self.num_spins)
        return columns, entries % max(1, self.num_edges), starts

    @cached_property
    def forward_neighbours(self) -> tuple[Tensor, Tensor]:
        """The higher neighbours of each spin, one spin after the other as in ``edges``, (m,); where each begins, (n + 1,)."""
        columns, _, starts = by_row(self.edges[:, 0], self.edges[:, 1], self.num_spins)
        return columns, starts

    @cached_property
    def bipartite_sizes(self) -> tuple[int, int] | None:
        """(n1, n2) if the edges are a full RBM of spins 0..n1-1 and the others, so that J is a matrix (n1, n2); else None."""
        if not self.num_edges:
            return None
        first = int((self.edges[:, 0] == self.edges[0, 0]).sum())
        n1, n2 = self.num_spins - first, first
        if n1 < 1 or n1 * n2 != self.num_edges or not torch.equal(self.edges.cpu(), _bipartite_edges(n1, n2)):
            return None
        return n1, n2


def _bipartite_edges(n1: int, n2: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(n1), torch.arange(n1, n1 + n2)).reshape(-1, 2)


def edge_order(edges: EdgeList) -> Tensor:
    """Which of ``edges``, pairs in any order and direction, a :class:`Graph` has first, second, ...; (m,), int64.

    Raises:
        ValueError: they aren't pairs of integers.

    >>> edge_order([(2, 0), (1, 2), (1, 0)]).tolist()
    [2, 0, 1]
    """
    low, high = _pairs(edges).sort(dim=1).values.T
    by_high = torch.argsort(high)
    return by_high[torch.argsort(low[by_high], stable=True)]


def by_row(rows: Tensor, columns: Tensor, num_rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Entries of a matrix in compressed rows: their columns, their places in what was given, and where each row begins."""
    order = torch.argsort(rows * num_rows + columns)
    counts = torch.bincount(rows, minlength=num_rows)
    return columns[order], order, torch.cat([counts.new_zeros(1), counts.cumsum(0)])


def _pairs(edges: EdgeList) -> Tensor:
    # A copy: torch takes no array that runs backwards.
    pairs = torch.as_tensor(edges.copy() if isinstance(edges, np.ndarray) else edges)
    if pairs.numel() == 0:
        return torch.zeros(0, 2, dtype=torch.int64, device=pairs.device)
    # A (2, m) array would pass a reshape unnoticed and couple the wrong spins.
    if pairs.ndim != 2 or pairs.shape[1] != 2:
        raise ValueError(f"edges must be pairs of spins, of shape (m, 2), but have shape {tuple(pairs.shape)}")
    if pairs.is_floating_point() or pairs.is_complex() or pairs.dtype == torch.bool:
        raise ValueError(f"edges must be integers, but are {pairs.dtype}")
    return pairs.to(torch.int64)


def _neighbour_lists(num_spins: int, edges: np.ndarray) -> list[list[int]]:
    """The neighbours of each spin, ascending."""
    ends = np.concatenate([edges, edges[:, ::-1]])
    ends = ends[np.lexsort((ends[:, 1], ends[:, 0]))]
    starts = np.searchsorted(ends[:, 0], np.arange(1, num_spins))
    return [part.tolist() for part in np.split(ends[:, 1], starts)][:num_spins]


def _two_colours(neighbours: list[list[int]]) -> list[int] | None:
    """Colours 0 and 1, the smallest spin of each component in 0; None if two won't do."""
    colours = [-1] * len(neighbours)
    for first in range(len(neighbours)):
        if colours[first] >= 0:
            continue
        colours[first], reached = 0, [first]
        while reached:
            spin = reached.pop()
            for other in neighbours[spin]:
                if colours[other] < 0:
                    colours[other] = 1 - colours[spin]
                    reached.append(other)
                elif colours[other] == colours[spin]:
                    return None
    return colours


def _dsatur(neighbours: list[list[int]]) -> list[int]:
    """Greedy colours, the spin with the most neighbouring colours next, ties by degree (Brelaz 1979), in O(m log m)."""
    colours = [-1] * len(neighbours)
    taken: list[set[int]] = [set() for _ in neighbours]
    queue = [(0, -len(others), spin) for spin, others in enumerate(neighbours)]
    heapq.heapify(queue)
    while queue:
        _, _, spin = heapq.heappop(queue)
        # A spin is queued again whenever it gains a colour to avoid; the entries behind the first are stale.
        if colours[spin] >= 0:
            continue
        colours[spin] = next(colour for colour in count() if colour not in taken[spin])
        for other in neighbours[spin]:
            if colours[other] < 0 and colours[spin] not in taken[other]:
                taken[other].add(colours[spin])
                heapq.heappush(queue, (-len(taken[other]), -len(neighbours[other]), other))
    return colours


def rbm(n1: int, n2: int) -> Graph:
    """A restricted Boltzmann machine: every spin of 0..n1-1 joined to every spin of n1..n1+n2-1.

    >>> rbm(1, 2).edges.tolist()
    [[0, 1], [0, 2]]
    """
    return Graph(n1 + n2, _bipartite_edges(n1, n2))


def complete(n: int) -> Graph:
    """Every pair of ``n`` spins joined: a general Boltzmann machine."""
    return Graph(n, torch.triu_indices(n, n, offset=1).T)


def edge_list(edges: EdgeList, num_spins: int | None = None) -> Graph:
    """A graph from pairs of spin indices; ``num_spins`` defaults to the largest index + 1.

    No edges at all make independent spins.
    """
    pairs = _pairs(edges)
    largest = int(pairs.max()) + 1 if len(pairs) else 0
    return Graph(largest if num_spins is None else num_spins, pairs)


def chimera(m: int, n: int | None = None, t: int = 4) -> Graph:
    """D-Wave's Chimera graph of m x n unit cells with 2t spins each (D-Wave 2000Q: m = 16)."""
    from dwave import graphs as hardware

    return _renumbered(hardware.chimera_graph(m, n, t))


def pegasus(m: int) -> Graph:
    """D-Wave's Pegasus graph P_m without its disconnected fabric (Advantage: m = 16).

    Raises:
        ValueError: m is below 2.
    """
    from dwave import graphs as hardware

    if m < 2:
        raise ValueError(f"pegasus has m = {m}, which leaves no spins; it must be 2 or more")
    return _renumbered(hardware.pegasus_graph(m))


def zephyr(m: int, t: int = 4) -> Graph:
    """D-Wave's Zephyr graph Z_m with tile parameter t (Advantage2: m = 12)."""
    from dwave import graphs as hardware

    graph = _renumbered(hardware.zephyr_graph(m, t))
    # Greedy colouring needs five; the topology's own four are a fifth fewer updates in a sweep.
    qubits = hardware.zephyr_coordinates(m, t).iter_linear_to_zephyr(range(graph.num_spins))
    graph.__dict__["colouring"] = torch.tensor([hardware.zephyr_four_color(qubit) for qubit in qubits])
    return graph


def _renumbered(graph: Any) -> Graph:
    """Qubit labels to 0..n-1 in ascending order."""
    index = {label: i for i, label in enumerate(sorted(graph.nodes))}
    return Graph(len(index), [(index[u], index[v]) for u, v in graph.edges])
