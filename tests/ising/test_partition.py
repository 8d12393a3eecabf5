"""The best method is chosen for a Hamiltonian, and what none can do is refused."""

from __future__ import annotations

import pytest

from qvae.ising import partition
from qvae.ising.graphs import Graph, chimera, complete, edge_list, rbm
from qvae.ising.partition import log_partition


@pytest.mark.parametrize(
    ("graph", "method"),
    [
        (edge_list([], 500), "closed form"),
        (complete(10), "enumeration of 2^10 states"),
        (rbm(40, 5), "enumeration of a layer's 2^5 states"),
        (rbm(21, 21), "AIS forward + reverse (BAR), 20 chains x 10 temperatures"),
        (chimera(2), "AIS forward"),
    ],
)
def test_the_best_method_is_chosen(graph: Graph, method: str, random_hamiltonian) -> None:
    found = log_partition(random_hamiltonian(graph, 0.1), chains=20, temperatures=10)
    assert found.method.startswith(method)


def test_bad_input(random_hamiltonian) -> None:
    with pytest.raises(ValueError, match=r"use exact_distribution\(hamiltonian\).log_z, for at most 14 spins"):
        log_partition(random_hamiltonian(rbm(2, 2), gamma=1.0))
    with pytest.raises(ValueError, match="chains is 1"):
        log_partition(random_hamiltonian(rbm(2, 2)), chains=1)
    with pytest.raises(ValueError, match="temperatures is 1"):
        log_partition(random_hamiltonian(rbm(2, 2)), temperatures=1)
    with pytest.raises(ValueError, match="chains is 1"):
        log_partition(random_hamiltonian(rbm(2, 2)), chains=3, parts=2)


def test_options_are_handed_on(random_hamiltonian, monkeypatch) -> None:
    monkeypatch.setattr(partition, "bidirectional_annealing", lambda hamiltonian, **options: options)
    options = {"chains": 9, "temperatures": 7, "seed": 5, "parts": 3, "spread": map}
    assert log_partition(random_hamiltonian(rbm(21, 21)), **options) == options
