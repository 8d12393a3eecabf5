"""Graphs: their sizes, their colourings, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qvae.ising.graphs import Graph, chimera, complete, edge_list, edge_order, pegasus, rbm, zephyr


def degrees(graph: Graph) -> torch.Tensor:
    return torch.bincount(graph.edges.reshape(-1), minlength=graph.num_spins)


def assert_proper(graph: Graph) -> None:
    colours = graph.colouring
    assert colours.shape == (graph.num_spins,)
    assert bool((colours[graph.edges[:, 0]] != colours[graph.edges[:, 1]]).all())
    # No colour is left out: each is one block of updates.
    assert bool((torch.bincount(colours) > 0).all())


@pytest.mark.parametrize(
    ("graph", "spins", "edges", "degree", "colours"),
    [
        (rbm(3, 5), 8, 15, 5, 2),
        (rbm(5, 3), 8, 15, 5, 2),
        (complete(6), 6, 15, 5, 6),
        (chimera(3), 72, 192, 6, 2),
        (chimera(1, 3, 2), 12, 16, 4, 2),
        (pegasus(4), 264, 1604, 15, 4),
        (zephyr(3), 336, 2808, 20, 4),
        (zephyr(3, 1), 84, 270, 8, 4),
        (edge_list([(0, 1), (1, 2), (2, 0)]), 3, 3, 2, 3),
        (edge_list([(1, 0), (2, 3)], 6), 6, 2, 1, 2),
        (edge_list([], 4), 4, 0, 0, 1),
        (edge_list([]), 0, 0, 0, 0),
        (complete(1), 1, 0, 0, 1),
    ],
)
def test_sizes_degrees_and_colours(graph: Graph, spins: int, edges: int, degree: int, colours: int) -> None:
    assert (graph.num_spins, graph.num_edges) == (spins, edges)
    assert max(degrees(graph).tolist(), default=0) == degree
    assert_proper(graph)
    assert len(graph.colouring.unique()) == colours


def test_published_sizes_of_annealers() -> None:
    # Advantage (P16), Advantage2 (Z12) and 2000Q (C16), all qubits working.
    sizes = [(g.num_spins, g.num_edges) for g in (pegasus(16), zephyr(12), chimera(16))]
    assert sizes == [(5640, 40484), (4800, 45864), (2048, 6016)]


def test_colouring_of_ten_thousand_random_spins() -> None:
    pairs = np.sort(np.random.default_rng(0).integers(0, 10_000, (30_000, 2)), axis=1)
    graph = edge_list(np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0), 10_000)
    assert_proper(graph)
    # Greedy colouring never needs more than the largest degree and one; DSATUR does far better on sparse graphs.
    assert len(graph.colouring.unique()) <= 5 < int(degrees(graph).max())


def test_an_odd_cycle_needs_three_colours_and_an_even_one_two() -> None:
    for n in (8, 9):
        cycle = edge_list([(i, (i + 1) % n) for i in range(n)])
        assert_proper(cycle)
        assert len(cycle.colouring.unique()) == 2 + n % 2


def test_the_smallest_spin_of_each_component_has_colour_zero() -> None:
    assert edge_list([(0, 3), (1, 2), (2, 4)]).colouring.tolist() == [0, 0, 1, 1, 0]
    assert rbm(4, 2).colouring.tolist() == [0, 0, 0, 0, 1, 1]


@pytest.mark.parametrize("given", [list, np.array, torch.tensor], ids=["list", "array", "tensor"])
def test_edges_are_kept_in_ascending_order_and_their_order_is_told(given) -> None:
    pairs = [[3, 1], [0, 2], [2, 1], [4, 0], [0, 1]]
    graph = Graph(5, given(pairs))
    assert graph.edges.tolist() == [[0, 1], [0, 2], [0, 4], [1, 2], [1, 3]]
    assert edge_order(given(pairs)).tolist() == [4, 1, 3, 2, 0]
    assert torch.equal(edge_list(given(pairs)).edges, graph.edges)
    assert edge_order(graph.edges).tolist() == [0, 1, 2, 3, 4]
    assert edge_order([]).tolist() == []


def test_edges_are_a_copy() -> None:
    for given in (np.array([[0, 1], [1, 2]]), torch.tensor([[0, 1], [1, 2]])):
        graph = Graph(3, given)
        given += 5
        assert graph.edges.tolist() == [[0, 1], [1, 2]]


def test_named_graphs_keep_the_order_that_saved_couplings_are_in() -> None:
    from dwave import graphs as hardware

    assert rbm(2, 2).edges.tolist() == [[0, 2], [0, 3], [1, 2], [1, 3]]
    assert complete(3).edges.tolist() == [[0, 1], [0, 2], [1, 2]]
    for graph, native in (
        (chimera(2), hardware.chimera_graph(2)),
        (pegasus(2), hardware.pegasus_graph(2)),
        (zephyr(1), hardware.zephyr_graph(1)),
    ):
        index = {label: i for i, label in enumerate(sorted(native.nodes))}
        assert graph.edges.tolist() == sorted(sorted((index[u], index[v])) for u, v in native.edges)


def test_bipartite_sizes_only_for_a_full_rbm() -> None:
    assert rbm(2, 3).bipartite_sizes == (2, 3)
    assert rbm(1, 1).bipartite_sizes == (1, 1)
    assert Graph(5, rbm(2, 3).edges.flip(0, 1)).bipartite_sizes == (2, 3)
    assert Graph(5, [(4, 0), (4, 1), (2, 0), (2, 1), (3, 0), (3, 1)]).bipartite_sizes == (2, 3)
    assert Graph(4, [(0, 1), (2, 1), (0, 3), (2, 3)]).bipartite_sizes is None
    assert Graph(5, rbm(2, 3).edges[:-1]).bipartite_sizes is None
    assert Graph(6, rbm(2, 3).edges).bipartite_sizes is None
    assert chimera(2).bipartite_sizes is None
    assert complete(4).bipartite_sizes is None
    assert edge_list([], 3).bipartite_sizes is None


def test_moving_keeps_what_was_derived() -> None:
    graph = zephyr(1)
    assert graph.to("cpu") is graph
    moved = graph.to("meta")
    assert torch.equal(moved.colouring, graph.colouring)
    assert moved.bipartite_sizes is None


@pytest.mark.parametrize(
    ("spins", "edges", "message"),
    [
        (2, [(0, 2)], r"edge \(0, 2\) names a spin outside 0..1"),
        (2, [(-1, 0)], r"edge \(-1, 0\) names a spin"),
        (2, [(1, 1)], r"edge \(1, 1\) joins a spin to itself"),
        (3, [(0, 1), (1, 2), (1, 0)], r"edge \(0, 1\) stands there twice"),
        (-1, [], "num_spins is -1"),
        (7, torch.zeros(2, 6, dtype=torch.int64), r"shape \(m, 2\), but have shape \(2, 6\)"),
        (2, [0, 1], r"have shape \(2,\)"),
        (2, [(0.0, 1.5)], "must be integers"),
    ],
)
def test_bad_edges(spins: int, edges: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Graph(spins, edges)  # type: ignore[arg-type]


def test_pegasus_without_spins() -> None:
    with pytest.raises(ValueError, match="2 or more"):
        pegasus(1)
