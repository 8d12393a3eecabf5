"""The estimate of the Trotter error against products of matrices, and the slices chosen by it."""

from __future__ import annotations

import pytest
from trotter_products import GRAPHS, MIXED, trotter

from qvae.ising.exact import exact_distribution
from qvae.ising.graphs import complete
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.quantum_partition import path_integral_log_partition
from qvae.ising.trotter import choose_slices, estimate_trotter_error
from qvae.ising.world_lines import WorldLines


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("coupling", [0.3, 1.0, 2.0])
@pytest.mark.parametrize("name", ["rbm", "complete", "ring"])
def test_the_estimate_is_above_the_trotter_error_and_not_by_much(name, coupling, gamma, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(GRAPHS[name], coupling=coupling, gamma=gamma)
    exact, slices = exact_distribution(hamiltonian), 12
    pairs = zip(trotter(hamiltonian, slices).moments(), exact.moments(), strict=True)
    error = max(float((mine - true).abs().max()) for mine, true in pairs)
    assert error < estimate_trotter_error(hamiltonian, slices) < 6 * error


def test_slices_are_as_many_as_the_error_asks_for(random_hamiltonian) -> None:
    for gamma in (0.1, 1.0, 3.0, MIXED):
        hamiltonian = random_hamiltonian(complete(4), gamma=gamma)
        chosen = choose_slices(hamiltonian, 0.001)
        assert chosen % 2 == 0
        assert estimate_trotter_error(hamiltonian, chosen) <= 0.001
        assert chosen == 2 or estimate_trotter_error(hamiltonian, chosen // 2) > 0.001
    assert choose_slices(random_hamiltonian(complete(4), gamma=3.0), 1e-9) == 1024
    assert choose_slices(random_hamiltonian(complete(4))) == 1
    assert estimate_trotter_error(random_hamiltonian(complete(4)), 1) == 0.0


@pytest.mark.parametrize("slices", [0, 1, 3, 4.0, True, "many"])
def test_a_wrong_number_of_slices(slices: object) -> None:
    hamiltonian = IsingHamiltonian([0.5], [], [], gamma=1.0)
    message = "slices is .*; it must be an even whole number, 2 or more"
    for function in (WorldLines, lambda h, p: path_integral_log_partition(h, slices=p)):
        with pytest.raises(ValueError, match=message):
            function(hamiltonian, slices)  # type: ignore[arg-type]
