"""<z|exp(-H)|z> against diagonalization."""

from __future__ import annotations

import math

import pytest
import torch
from trotter_products import GRAPHS, MIXED, SIGMAS, generator, trotter

from qvae.ising import diagonal_elements
from qvae.ising.diagonal_elements import log_diagonal_element
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, rbm
from qvae.ising.hamiltonian import IsingHamiltonian


@pytest.mark.parametrize("gamma", [0.1, 0.5, 1.0, 3.0, [*MIXED, 1.0, 0.5]], ids=str)
@pytest.mark.parametrize("graph", [rbm(3, 3), complete(6)], ids=["rbm", "complete"])
def test_diagonal_elements(graph: Graph, gamma: object, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(graph, gamma=gamma)
    exact = exact_distribution(hamiltonian)
    log_p = exact.probabilities.log() + exact.log_z
    states = torch.multinomial(exact.probabilities, 100, replacement=True, generator=generator())
    values, errors = log_diagonal_element(hamiltonian, exact.spins()[states], chains=50, temperatures=10)
    scores = (values - log_p[states]) / (errors + 1e-3)
    assert float(scores.square().mean().sqrt()) < 1.6
    assert float(scores.mean().abs()) < SIGMAS * 0.2
    assert float(errors.max()) < 0.5
    # All states, likely or not.
    values, errors = log_diagonal_element(hamiltonian, exact.spins(), chains=50, temperatures=10)
    assert float((values - log_p).abs().max()) < 1.0


def test_diagonal_elements_without_transverse_field_are_energies(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(5))
    spins = spin_states(5)
    values, errors = log_diagonal_element(hamiltonian, spins, chains=2)
    torch.testing.assert_close(values, -hamiltonian.energy(spins).double(), atol=1e-4, rtol=1e-5)
    assert float(errors.max()) < 1e-4


def test_seeds_decide() -> None:
    hamiltonian = IsingHamiltonian([0.5, -0.3, 0.2], complete(3), [1.0, -0.6, 0.8], 1.0)
    first, again, other = (log_diagonal_element(hamiltonian, spin_states(3), chains=2, seed=seed)[0] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert bool((first != other).any())


def test_diagonal_elements_in_strong_fields() -> None:
    free = IsingHamiltonian(torch.zeros(16), [], [], 1000.0)
    values, errors = log_diagonal_element(free, torch.ones(1, 16), chains=2, temperatures=2)
    assert float(values) == pytest.approx(16 * (1000 - math.log(2)), abs=1e-3 + SIGMAS * float(errors))  # log cosh
    coupled = IsingHamiltonian([20.0, -5.0, 0.0], complete(3), [10.0, -20.0, 5.0], 100.0)
    exact = exact_distribution(coupled)
    values, errors = log_diagonal_element(coupled, spin_states(3), chains=20, temperatures=10)
    scores = (values - exact.log_probabilities - exact.log_z) / (errors + 2e-3)
    assert float(scores.abs().max()) < SIGMAS


def test_the_trotter_error_of_few_slices_is_taken_off(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(3), coupling=1.0, gamma=2.0)
    expected = exact_distribution(hamiltonian)
    values, errors = log_diagonal_element(hamiltonian, spin_states(3), slices=4, chains=5000, temperatures=10)
    left = (values - expected.log_probabilities - expected.log_z).abs()
    exact = trotter(hamiltonian, 4)
    untouched = (exact.log_probabilities + exact.log_z - expected.log_probabilities - expected.log_z).abs()
    assert float(errors.max()) < 0.02
    assert float(left.max()) < 0.3 * float(untouched.max()) + SIGMAS * float(errors.max())


def test_spins_may_stand_in_another_order_than_that_of_their_colours(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(GRAPHS["ring"], gamma=[*MIXED[:1], 0.1, *MIXED[2:]])
    exact = exact_distribution(hamiltonian)
    values, errors = log_diagonal_element(hamiltonian, spin_states(4), chains=50, temperatures=5)
    assert float(((values - exact.log_probabilities - exact.log_z) / (errors + 1e-3)).abs().max()) < SIGMAS


def test_two_steps_of_annealing_are_as_unbiased_as_many() -> None:
    hamiltonian = IsingHamiltonian([0.5, -0.3, 0.2], complete(3), [1.0, -0.6, 0.8], 1.0)
    exact = exact_distribution(hamiltonian)
    values, errors = log_diagonal_element(hamiltonian, spin_states(3), chains=3000, temperatures=2)
    scores = (values - exact.log_probabilities - exact.log_z) / errors
    assert float(scores.mean().abs()) < SIGMAS / len(scores) ** 0.5


def test_diagonal_elements_in_parts(random_hamiltonian, monkeypatch) -> None:
    hamiltonian = random_hamiltonian(rbm(2, 2), gamma=1.0)
    spins = spin_states(4)
    monkeypatch.setattr(diagonal_elements, "_ROW_ELEMENTS", 4 * 12 * 20 * 3)
    exact = exact_distribution(hamiltonian)
    values, errors = log_diagonal_element(hamiltonian, spins, chains=20, temperatures=5)
    assert values.shape == errors.shape == (16,)
    scores = (values - exact.probabilities.log() - exact.log_z) / (errors + 1e-3)
    assert float(scores.abs().max()) < SIGMAS


def test_values_and_errors_of_two_numbers_of_slices_by_hand() -> None:
    """Of four slices and of the odd ones alone, three runs of each of two rows: the error is that of what is extrapolated."""
    draws = torch.randn(5, 6, generator=generator(), dtype=torch.float64)
    works, energies = draws[0].view(2, 3), draws[1:]
    limit, fine_base, coarse_base = torch.tensor([[0.5, -1.0], [0.3, -1.2], [0.1, -1.5]], dtype=torch.float64)
    values, errors = diagonal_elements._extrapolated((limit, fine_base, coarse_base), works, energies)
    for row in range(2):
        fine = [math.exp(float(works[row, run])) for run in range(3)]
        change = [sum((-1) ** (k + 1) * float(energies[k, 3 * row + run]) for k in range(4)) for run in range(3)]
        coarse = [weight * math.exp(step) for weight, step in zip(fine, change, strict=True)]
        means = sum(fine) / 3, sum(coarse) / 3
        coupled = math.log(means[0]), math.log(means[1]) + float(fine_base[row] - coarse_base[row])
        assert float(values[row]) == pytest.approx(float(limit[row]) + (4 * coupled[0] - coupled[1]) / 3)
        ratios = [(4 * a / means[0] - b / means[1]) / 3 for a, b in zip(fine, coarse, strict=True)]
        variance = sum((ratio - 1) ** 2 for ratio in ratios) / 2
        assert float(errors[row]) == pytest.approx(math.sqrt(variance / 3))


def test_too_few_chains_or_temperatures() -> None:
    hamiltonian = IsingHamiltonian([0.5], [], [], gamma=1.0)
    with pytest.raises(ValueError, match="chains is 1; it must be 2 or more"):
        log_diagonal_element(hamiltonian, torch.ones(1, 1), chains=1)
    with pytest.raises(ValueError, match="temperatures is 0; it must be 1 or more"):
        log_diagonal_element(hamiltonian, torch.ones(1, 1), temperatures=0)
