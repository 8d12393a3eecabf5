"""The estimate of the Trotter error against products of matrices, and the slices chosen by it."""

from __future__ import annotations

import pytest
import torch
from trotter_products import GRAPHS, MIXED, trotter

from qvae.ising.exact import exact_distribution
from qvae.ising.graphs import complete
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.quantum_partition import path_integral_log_partition
from qvae.ising.trotter import choose_slices, estimate_trotter_error, slices_to_extrapolate
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
    with pytest.raises(ValueError, match="field of 3 needs more than 1024 slices .* of 1e-09, where 1024 leave 3e-06; take"):
        choose_slices(random_hamiltonian(complete(4), gamma=3.0), 1e-9)
    assert choose_slices(random_hamiltonian(complete(4))) == 1
    assert estimate_trotter_error(random_hamiltonian(complete(4)), 1) == 0.0


def test_slices_grow_with_the_field_where_they_are_extrapolated() -> None:
    free = [IsingHamiltonian(torch.zeros(3), [], [], gamma) for gamma in (0.0, 1.0, 100.0, 1000.0, 2048.0)]
    assert [slices_to_extrapolate(hamiltonian) for hamiltonian in free] == [8, 8, 64, 512, 1024]
    assert slices_to_extrapolate(free[2], 50) == 50
    with pytest.raises(ValueError, match="slices is 48, but a transverse field of 100 takes 50 or more"):
        slices_to_extrapolate(free[2], 48)
    with pytest.raises(ValueError, match="field of 5000 needs 2500 slices of imaginary time, but no more than 1024 are"):
        slices_to_extrapolate(IsingHamiltonian(torch.zeros(3), [], [], 5000.0))


@pytest.mark.parametrize("slices", [0, 1, 3, 4.0, True, "many"])
def test_a_wrong_number_of_slices(slices: object) -> None:
    hamiltonian = IsingHamiltonian([0.5], [], [], gamma=1.0)
    message = "slices is .*; it must be an even whole number, 2 or more"
    for function in (WorldLines, lambda h, p: path_integral_log_partition(h, slices=p)):
        with pytest.raises(ValueError, match=message):
            function(hamiltonian, slices)  # type: ignore[arg-type]


def test_the_estimate_does_not_depend_on_how_spins_are_numbered() -> None:
    first = IsingHamiltonian(torch.zeros(4), [(0, 1), (0, 2), (0, 3)], [0.6] * 3, 1.0)
    last = IsingHamiltonian(torch.zeros(4), [(0, 3), (1, 3), (2, 3)], [0.6] * 3, 1.0)
    assert estimate_trotter_error(first, 8) == pytest.approx(estimate_trotter_error(last, 8))
    pair = IsingHamiltonian(torch.zeros(2), [(0, 1)], [0.6], 1.0)
    assert estimate_trotter_error(first, 8) > 1.1 * estimate_trotter_error(pair, 8)
