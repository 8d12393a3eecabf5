"""Spins gathered from chains of qubits, by hand."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.ising.graphs import Graph

placement = pytest.importorskip("qvae_backends.dwave_placement")


@pytest.fixture
def chains():
    """Three spins on chains of 3, 1 and 2 qubits."""
    edges = [(10, 11), (11, 12), (12, 20), (20, 30), (30, 31)]
    return placement.Placement(Graph(3, [(0, 1), (1, 2)]), [[10, 11, 12], [20], [30, 31]], edges)


def test_the_majority_of_a_chain_is_its_spin(chains):
    reads = np.array([[1, -1, -1, 1, 1, 1], [-1, 1, 1, -1, -1, -1], [1, 1, -1, 1, -1, -1], [1, 1, 1, -1, 1, 1]], dtype=np.int8)
    spins, is_intact = chains.gather(reads, torch.Generator().manual_seed(0))
    assert spins.tolist() == [[-1, 1, 1], [1, -1, -1], [1, 1, -1], [1, -1, 1]]
    assert is_intact.tolist() == [False, False, False, True]


def test_a_tie_is_drawn(chains):
    reads = np.tile(np.array([[1, 1, 1, 1, 1, -1]], dtype=np.int8), (1000, 1))
    spins, is_intact = chains.gather(reads, torch.Generator().manual_seed(0))
    assert not is_intact.any()
    assert set(spins[:, 2].tolist()) == {-1, 1}
    assert abs(spins[:, 2].mean()) < 5 / 1000**0.5
    assert (spins[:, :2] == 1).all()


def test_couplings_are_clipped_to_what_either_sign_of_them_can_have(chains):
    """A spin reversal turns a coupling's sign after it was clipped; ranges reach further down than up."""
    for limits in ([-2.0, 1.0], [-1.0, 2.0]):
        assert chains.clip_couplings(np.array([-1.7, 1.7]), limits).tolist() == [-1.0, 1.0]
    assert chains.clip_fields(np.array([-20.0, 20.0, 9.0]), [-4.0, 4.0]).tolist() == [-12.0, 4.0, 8.0]


def test_fields_and_couplings_are_shared_out_over_qubits_and_couplers():
    edges = [(10, 11), (10, 20), (11, 20)]  # two couplers join the chains
    chains = placement.Placement(Graph(2, [(0, 1)]), [[10, 11], [20]], edges)
    assert chains.clip_couplings(np.array([2.5]), [-1.0, 1.0]).tolist() == [2.0]
    fields, couplings = chains.spread(np.array([0.6, -0.2]), np.array([0.8]), 1.5)
    assert fields.tolist() == [0.3, 0.3, -0.2]
    assert dict(zip(map(tuple, chains.couplers.tolist()), couplings.tolist(), strict=True)) == {
        (10, 20): 0.4,
        (11, 20): 0.4,
        (10, 11): -1.5,
    }


@pytest.mark.parametrize(
    ("chains", "fits"),
    [
        ([[10, 11], [20]], True),
        ([[11, 10], [20]], True),
        ([[10], [20]], True),
        ([[10, 11], [11, 20]], False),  # a qubit in two chains
        ([[10, 10], [20]], False),  # and twice in one
        ([[10, 20], [11]], True),
        ([[10, 30], [20]], False),  # a chain of two pieces
        ([[10, 11, 30, 31], [20]], False),  # each of which hangs together
        ([[30], [20]], False),  # no coupler
        ([[10, 99], [20]], False),  # a qubit that is gone
        ([[10, 11]], False),
        ([[10], [11], [20]], False),
    ],
)
def test_chains_on_a_solver_are_taken_as_far_as_they_hold(chains, fits):
    """Whose qubits 30 and 31 are apart from the others."""
    structure = SimpleNamespace(nodes={10, 11, 20, 30, 31}, edges={(10, 11), (10, 20), (11, 20), (30, 31)})
    found = placement.Placement.on(structure, Graph(2, [(0, 1)]), chains)
    assert (found is not None) == fits


def test_spins_without_a_coupling_have_qubits_of_their_own():
    structure = SimpleNamespace(nodes={10, 11}, edges=set())
    assert placement.Placement.on(structure, Graph(2, []), [[10], [11]]) is not None
    assert placement.Placement.on(structure, Graph(2, []), [[10], [10]]) is None
