"""Latent graphs: which spins are coupled, and a colouring that says which can be updated together."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

EdgeList = Tensor | np.ndarray | Sequence[Sequence[int]]


class Graph:
    """An undirected graph of spins: ``num_spins`` and ``edges`` (m, 2), int64, each pair once, no loops.

    A graph lives on one device; what is derived from it (colouring, dense bipartite shape) is computed once.

    Raises:
        ValueError: an edge names a spin outside 0..num_spins-1, joins a spin to itself, or stands there twice.

    >>> Graph(3, [(0, 1), (1, 2)]).colouring.tolist()
    [1, 0, 1]
    """

    def __init__(self, num_spins: int, edges: EdgeList) -> None:
        pairs = torch.as_tensor(edges, dtype=torch.int64).reshape(-1, 2)
        if num_spins < 0:
            raise ValueError(f"num_spins is {num_spins}; it must be 0 or more")
        if len(pairs):
            if int(pairs.min()) < 0 or int(pairs.max()) >= num_spins:
                bad = pairs[((pairs < 0) | (pairs >= num_spins)).any(1)][0].tolist()
                raise ValueError(f"edge {tuple(bad)} names a spin outside 0..{num_spins - 1}")
            loops = pairs[:, 0] == pairs[:, 1]
            if bool(loops.any()):
                raise ValueError(f"edge {tuple(pairs[loops][0].tolist())} joins a spin to itself")
            low, high = pairs.min(1).values, pairs.max(1).values
            keys, counts = (low * num_spins + high).unique(return_counts=True)
            if len(keys) < len(pairs):
                twice = int(keys[counts > 1][0])
                raise ValueError(f"edge ({twice // num_spins}, {twice % num_spins}) stands there twice; add its couplings")
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
        return torch.from_numpy(_colour(self.num_spins, self.edges.cpu().numpy()))

    @cached_property
    def bipartite_sizes(self) -> tuple[int, int] | None:
        """(n1, n2) if the edges are a full RBM in row-major order, so that J is a matrix (n1, n2); else None."""
        if not self.num_edges:
            return None
        first = int((self.edges[:, 0] == self.edges[0, 0]).sum())
        n1, n2 = self.num_spins - first, first
        if n1 < 1 or n1 * n2 != self.num_edges or not torch.equal(self.edges.cpu(), _bipartite_edges(n1, n2)):
            return None
        return n1, n2


def _bipartite_edges(n1: int, n2: int) -> Tensor:
    return torch.cartesian_prod(torch.arange(n1), torch.arange(n1, n1 + n2)).reshape(-1, 2)


def _colour(num_spins: int, edges: np.ndarray) -> np.ndarray:
    import networkx as nx

    graph = nx.Graph()
    graph.add_nodes_from(range(num_spins))
    graph.add_edges_from(edges.tolist())
    if nx.is_bipartite(graph):
        colours = {}
        for part in nx.connected_components(graph):
            # Colour 0 holds the smallest spin of each component, so the first layer of an RBM comes first.
            two = nx.bipartite.color(graph.subgraph(part))
            flip = two[min(part)]
            colours |= {spin: colour ^ flip for spin, colour in two.items()}
    else:
        colours = nx.greedy_color(graph, strategy="DSATUR")
    return np.array([colours[spin] for spin in range(num_spins)], dtype=np.int64)


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
    """A graph from pairs of spin indices; ``num_spins`` defaults to the largest index + 1. No edges: independent spins."""
    pairs = torch.as_tensor(edges, dtype=torch.int64).reshape(-1, 2).sort(dim=1).values
    largest = int(pairs.max()) + 1 if len(pairs) else 0
    return Graph(largest if num_spins is None else num_spins, pairs)


def chimera(m: int, n: int | None = None, t: int = 4) -> Graph:
    """D-Wave's Chimera graph of m x n unit cells with 2t spins each (D-Wave 2000Q: m = 16)."""
    import dwave_networkx as dnx

    return _renumbered(dnx.chimera_graph(m, n, t))


def pegasus(m: int) -> Graph:
    """D-Wave's Pegasus graph P_m without its disconnected fabric (Advantage: m = 16)."""
    import dwave_networkx as dnx

    return _renumbered(dnx.pegasus_graph(m))


def zephyr(m: int, t: int = 4) -> Graph:
    """D-Wave's Zephyr graph Z_m with tile parameter t (Advantage2: m = 12)."""
    import dwave_networkx as dnx

    return _renumbered(dnx.zephyr_graph(m, t))


def _renumbered(graph: Any) -> Graph:
    """Qubit labels to 0..n-1 in ascending order."""
    index = {label: i for i, label in enumerate(sorted(graph.nodes))}
    return Graph(len(index), sorted(sorted((index[u], index[v])) for u, v in graph.edges))
