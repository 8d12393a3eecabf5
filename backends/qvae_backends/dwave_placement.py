"""Spins on qubits: which stand for which, fields and couplings spread over them, and reads gathered again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from qvae.errors import CapabilityError
from qvae.ising.graphs import Graph

_EMBEDDINGS: dict[tuple[str, int, bytes], list[list[int]]] = {}  # found in this process: a large one takes ten seconds


class Placement:
    """A chain of qubits for each spin; on the solver's own graph each chain is one qubit.

    A spin's field is shared equally by its chain, a coupling by all couplers between the two chains, so that a state without
    broken chains has the energy of its spins, less a constant.

    Attributes:
        chains: qubits of each spin.
        qubits: all of them, spin by spin, (k,).
        couplers: pairs of qubits, (e, 2): those of the graph's edges first, then those within chains.
    """

    def __init__(self, graph: Graph, chains: Sequence[Sequence[int]], edges: Sequence[tuple[int, int]]) -> None:
        self.chains = [list(chain) for chain in chains]
        lengths = np.array([len(chain) for chain in self.chains])
        self.qubits = np.concatenate([np.asarray(chain, dtype=np.int64) for chain in self.chains])
        self._lengths = lengths
        self._starts = np.concatenate([[0], lengths.cumsum()[:-1]])
        self._ends = graph.edges.numpy().T
        spin = dict(zip(self.qubits.tolist(), np.repeat(np.arange(len(lengths)), lengths).tolist(), strict=True))
        edge = {(int(i), int(j)): index for index, (i, j) in enumerate(self._ends.T)}
        between: list[tuple[int, int]] = []
        edge_of: list[int] = []
        within: list[tuple[int, int]] = []
        for u, v in edges:
            if u not in spin or v not in spin:
                continue
            i, j = spin[u], spin[v]
            if i == j:
                within.append((u, v))
            elif (i, j) in edge or (j, i) in edge:
                between.append((u, v))
                edge_of.append(edge.get((i, j), edge.get((j, i), -1)))
        self._edge_of = np.array(edge_of, dtype=np.int64)
        self._counts = np.bincount(self._edge_of, minlength=graph.num_edges)
        self._num_within = len(within)
        self.couplers = np.array(between + within, dtype=np.int64).reshape(-1, 2)

    @classmethod
    def on(cls, structure: Any, graph: Graph, chains: Sequence[Sequence[int]]) -> Placement | None:
        """The placement, if the solver still has these qubits, connected, and a coupler for every edge; else None."""
        used = [qubit for chain in chains for qubit in chain]
        if len(chains) != graph.num_spins or len(set(used)) < len(used) or not set(used) <= set(structure.nodes):
            return None
        placement = cls(graph, chains, sorted((u, v) for u, v in structure.edges if u < v))
        return placement if bool((placement._counts > 0).all()) and placement._chains_hold() else None

    @property
    def longest_chain(self) -> int:
        """Qubits of the longest chain."""
        return int(self._lengths.max())

    def _chains_hold(self) -> bool:
        import networkx as nx

        within = nx.Graph(self.couplers[len(self.couplers) - self._num_within :].tolist())
        return all(len(c) == 1 or (set(c) <= set(within) and nx.is_connected(within.subgraph(c))) for c in self.chains)

    def clip_fields(self, fields: np.ndarray, limits: Sequence[float]) -> np.ndarray:
        """Fields (n,) that the chains can hold between them."""
        return np.clip(fields, limits[0] * self._lengths, limits[1] * self._lengths)

    def clip_couplings(self, couplings: np.ndarray, limits: Sequence[float]) -> np.ndarray:
        """Couplings (m,) that their couplers can hold, whatever signs a spin reversal gives them."""
        most = min(-limits[0], limits[1]) * self._counts
        return np.clip(couplings, -most, most)

    def edge_signs(self, flips: np.ndarray) -> np.ndarray:
        """What flipped spins (n,) make of the signs of couplings, (m,)."""
        return flips[self._ends[0]] * flips[self._ends[1]]

    def on_qubits(self, values: np.ndarray) -> np.ndarray:
        """A value for each spin (n,) as one for each qubit, (k,)."""
        return np.repeat(values, self._lengths)

    def spread(self, fields: np.ndarray, couplings: np.ndarray, strength: float) -> tuple[np.ndarray, np.ndarray]:
        """Values on the qubits (k,) and couplers (e,) from fields (n,), couplings (m,) and the strength within chains."""
        between = (couplings / self._counts)[self._edge_of]
        return self.on_qubits(fields / self._lengths), np.concatenate([between, np.full(self._num_within, -strength)])

    def gather(self, reads: np.ndarray, generator: torch.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Spins (reads, n), int8, from qubits (reads, k), and which reads have no broken chain, (reads,).

        A broken chain's spin is that of the majority, a tie's is drawn.
        """
        if self.longest_chain == 1:
            return reads, np.ones(len(reads), dtype=bool)
        sums = np.add.reduceat(reads.astype(np.int64), self._starts, axis=1)
        is_intact = (np.abs(sums) == self._lengths).all(1)
        ties = np.nonzero(sums == 0)
        if len(ties[0]):
            sums[ties] = 2 * torch.randint(2, (len(ties[0]),), generator=generator).numpy() - 1
        return np.sign(sums).astype(np.int8), is_intact


def native_qubits(structure: Any, num_spins: int) -> list[int]:
    """So many working qubits around the one in the middle of the graph, ascending.

    Raises:
        CapabilityError: the solver has fewer that hang together.
    """
    import networkx as nx

    graph = nx.Graph(sorted((u, v) for u, v in structure.edges if u < v))
    largest = max(nx.connected_components(graph), key=len)
    if num_spins > len(largest):
        raise CapabilityError(
            f"solver {structure.name} has {len(largest)} qubits that hang together, but {num_spins} spins were asked for; "
            "lower model.latent.sizes."
        )
    ordered = sorted(largest)
    # By distance from the middle, ties by how many of those chosen they touch, so that the graph is dense.
    chosen = {ordered[len(ordered) // 2]}
    touching: dict[int, int] = dict.fromkeys(graph[next(iter(chosen))], 1)
    while len(chosen) < num_spins:
        qubit = max(touching, key=lambda q: (touching[q], -q))
        del touching[qubit]
        chosen.add(qubit)
        for other in graph[qubit]:
            if other not in chosen:
                touching[other] = touching.get(other, 0) + 1
    return sorted(chosen)


def native_graph(structure: Any, num_spins: int) -> Graph:
    """The couplers among so many working qubits, which become the spins in ascending order."""
    spin = {qubit: index for index, qubit in enumerate(native_qubits(structure, num_spins))}
    pairs = [(spin[u], spin[v]) for u, v in structure.edges if u < v and u in spin and v in spin]
    return Graph(num_spins, sorted(tuple(sorted(pair)) for pair in pairs))


def place(structure: Any, graph: Graph, chains: list[list[int]] | None) -> Placement:
    """Qubits for the spins: those of ``chains``, which a run folder names, where it does; else the native ones or an embedding.

    Raises:
        CapabilityError: the graph doesn't fit on the solver.
    """
    found = Placement.on(structure, graph, chains) if chains is not None else None
    if found is None:
        found = embed(structure, graph)
    if found is not None:
        return found
    remedy = (
        "some of its qubits or couplers have gone since; go on with another sampler, as --sampler gibbs"
        if chains is not None
        else "take fewer spins, the solver's own graph (model.latent.graph: native) or another sampler, as gibbs"
    )
    raise CapabilityError(
        f"{graph.num_spins} spins with {graph.num_edges} couplings don't fit on solver {structure.name} "
        f"({len(structure.nodes)} qubits): {remedy}."
    )


def embed(structure: Any, graph: Graph) -> Placement | None:
    """A placement: native where the graph is the solver's own, else by structure, else by search; None if none is found."""
    if graph.num_spins > len(structure.nodes) or 2 * graph.num_edges > len(structure.edges):
        return None
    key = (str(structure.identity), graph.num_spins, graph.edges.numpy().tobytes())
    if key not in _EMBEDDINGS:
        is_complete = graph.num_edges == graph.num_spins * (graph.num_spins - 1) // 2
        find = _structured_chains if is_complete or graph.bipartite_sizes is not None else _searched_chains
        chains = _native_chains(structure, graph) or find(structure, graph)
        if chains is None:
            return None
        _EMBEDDINGS[key] = chains
    return Placement.on(structure, graph, _EMBEDDINGS[key])


def _native_chains(structure: Any, graph: Graph) -> list[list[int]] | None:
    """One qubit each, where the graph is that of the same number of native qubits."""
    chains = [[qubit] for qubit in native_qubits(structure, graph.num_spins)]
    return chains if Placement.on(structure, graph, chains) is not None else None


def _structured_chains(structure: Any, graph: Graph) -> list[list[int]] | None:
    """Of an RBM or a complete graph, for which lines of qubits across the topology serve as chains."""
    from dwave.system.samplers.dwave_sampler import qpu_graph
    from minorminer.busclique import busgraph_cache

    topology = structure.properties.get("topology", {})
    n, layers = graph.num_spins, graph.bipartite_sizes
    try:
        hardware = qpu_graph(topology["type"], topology["shape"], sorted(structure.nodes), sorted(structure.edges))
        lines = busgraph_cache(hardware)
        found = lines.find_clique_embedding(n) if layers is None else lines.find_biclique_embedding(*layers)
    except (KeyError, ValueError):
        return None
    return [list(map(int, found[spin])) for spin in sorted(found)] if len(found) == n else None


def _searched_chains(structure: Any, graph: Graph) -> list[list[int]] | None:
    """By minorminer's heuristic, from a fixed seed."""
    import minorminer

    isolated = set(range(graph.num_spins)) - set(graph.edges.flatten().tolist())
    edges = [(int(i), int(j)) for i, j in graph.edges] + [(spin, spin) for spin in isolated]
    found = minorminer.find_embedding(edges, [(u, v) for u, v in structure.edges if u < v], random_seed=0, timeout=120)
    return [list(map(int, found[spin])) for spin in range(graph.num_spins)] if len(found) == graph.num_spins else None


def flux_biases(structure: Any, qubits: np.ndarray, fields: np.ndarray) -> list[float]:
    """What acts like fields (k,) on qubits, for all qubits that the solver counts, by the library's conversion.

    Its constants are those of one annealer.
    """
    from dwave.system.temperatures import h_to_fluxbias

    biases = np.zeros(int(structure.properties["num_qubits"]))
    biases[qubits] = h_to_fluxbias(fields)
    return biases.tolist()
