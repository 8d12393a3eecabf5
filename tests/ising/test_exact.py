"""Exact distributions against a plain loop over states and against a matrix exponential of Kronecker products."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from qvae.ising import exact as exact_module
from qvae.ising.exact import MAX_ENUMERATION_SPINS, MAX_QUANTUM_SPINS, ExactDistribution, exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


PAULI_X = torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()
PAULI_Z = torch.tensor([[-1.0, 0.0], [0.0, 1.0]]).double()


def operator(num_spins: int, factors: dict[int, Tensor]) -> Tensor:
    """A Kronecker product of the identity but at some spins; its last factor is spin 0, and bit 1 is spin +1."""
    return functools.reduce(torch.kron, [factors.get(i, torch.eye(2).double()) for i in reversed(range(num_spins))])


def matrix(hamiltonian: IsingHamiltonian) -> Tensor:
    """H from Pauli matrices."""
    n = hamiltonian.num_spins
    total = torch.zeros(2**n, 2**n).double()
    for i in range(n):
        total += float(hamiltonian.h[i]) * operator(n, {i: PAULI_Z})
        total -= float(hamiltonian.gamma[i]) * operator(n, {i: PAULI_X})
    for (i, j), coupling in zip(hamiltonian.edges.tolist(), hamiltonian.J.tolist(), strict=True):
        total += coupling * operator(n, {i: PAULI_Z, j: PAULI_Z})
    return total


def density_matrix(hamiltonian: IsingHamiltonian) -> Tensor:
    """exp(-H), not normalized, by a power series."""
    return torch.linalg.matrix_exp(-matrix(hamiltonian))


def assert_agrees_with_diagonalization(found: ExactDistribution, hamiltonian: IsingHamiltonian, allowed: float) -> None:
    """Probabilities in total variation, log Z and <sigma^x> against numpy's eigh of a matrix of Kronecker products."""
    levels, vectors = np.linalg.eigh(matrix(hamiltonian).numpy())
    weights = np.exp(levels[0] - levels)
    log_z = float(np.log(weights.sum()) - levels[0])
    rho = torch.from_numpy((vectors * (weights / weights.sum())) @ vectors.T)
    assert float((found.probabilities - rho.diagonal()).abs().sum()) / 2 <= allowed
    assert found.log_z == pytest.approx(log_z, abs=allowed)
    n = hamiltonian.num_spins
    expected = [float((rho * operator(n, {i: PAULI_X})).sum()) for i in range(min(n, 3))]
    # <sigma^x> converges more slowly with the number of slices: it sees other states than those that are likely.
    assert found.transverse[:3].tolist() == pytest.approx(expected, abs=10 * allowed)


@pytest.mark.parametrize("graph", [complete(5), rbm(2, 3), Graph(6, [(4, 1), (0, 1), (5, 3), (3, 2)]), edge_list([], 3)])
def test_enumeration(graph: Graph, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(graph, seed=4)
    exact = exact_distribution(hamiltonian)
    weights = []
    for bits in itertools.product((0, 1), repeat=graph.num_spins):
        spins = torch.tensor(bits[::-1]) * 2 - 1  # product counts with its last place running fastest
        weights.append(math.exp(-float(hamiltonian.to(dtype=torch.float64).energy(spins))))
    expected = torch.tensor(weights).double()
    torch.testing.assert_close(exact.probabilities, expected / expected.sum())
    assert exact.log_z == pytest.approx(math.log(sum(weights)), abs=1e-12)
    assert exact.method == f"enumeration of 2^{graph.num_spins} states"
    assert exact.transverse.tolist() == [0.0] * graph.num_spins
    assert exact.error == 0.0


@pytest.mark.parametrize("gamma", [1.0, [0.3, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1e-9]])
def test_exponential(gamma: object, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(4), gamma=gamma)
    exact = exact_distribution(hamiltonian)
    rho = density_matrix(hamiltonian)
    torch.testing.assert_close(exact.probabilities, rho.diagonal() / rho.trace())
    assert exact.log_z == pytest.approx(math.log(float(rho.trace())), abs=1e-9)
    assert exact.method == "exp(-H) in 2^4 states, scaled and squared"


def test_a_single_spin_in_a_transverse_field() -> None:
    # <sigma^z> = -(h / e) tanh e, <sigma^x> = (gamma / e) tanh e and Z = 2 cosh e with e^2 = h^2 + gamma^2.
    exact = exact_distribution(IsingHamiltonian([0.8], [], [], gamma=0.6))
    assert float(exact.transverse) == pytest.approx(0.6 * math.tanh(1.0), abs=1e-7)
    assert exact.log_z == pytest.approx(math.log(2 * math.cosh(1.0)), abs=1e-7)
    assert float(exact.moments()[0]) == pytest.approx(-0.8 * math.tanh(1.0), abs=1e-7)


# With a transverse field of its own at every spin; several random couplings, whose standard deviation is about 1.
GAMMAS = {"weak": 0.1, "one": 1.0, "strong": 3.0, "mixed, with zeros": [3.0, 0.0, 0.5, 1.0, 0.0, 2.0, 0.1, 1.5, 1.0]}


@pytest.mark.parametrize("gamma", GAMMAS.values(), ids=GAMMAS.keys())
@pytest.mark.parametrize("graph", [complete(9), rbm(4, 5)], ids=["complete", "rbm"])
@pytest.mark.parametrize("method", ["exp(-H)", "Trotter products"])
def test_both_methods(method: str, graph: Graph, gamma: object, random_hamiltonian, monkeypatch) -> None:
    if method != "exp(-H)":
        monkeypatch.setattr(exact_module, "MAX_EXPONENTIAL_SPINS", 0)
    hamiltonian = random_hamiltonian(graph, coupling=1.0, gamma=gamma)
    exact = exact_distribution(hamiltonian)
    assert exact.method.startswith(method)
    assert exact.error <= 1e-6
    # The stated error is that of the extrapolation before the last one; the last is far better.
    assert_agrees_with_diagonalization(exact, hamiltonian, max(exact.error / 10, 1e-9))


def test_eleven_spins_are_taken_through_trotter_products(random_hamiltonian) -> None:
    # Two systems that know nothing of each other, each small enough to be diagonalized.
    five, six = random_hamiltonian(complete(5), gamma=0.5), random_hamiltonian(complete(6), gamma=2.0, seed=1)
    both = IsingHamiltonian(
        torch.cat([five.h, six.h]),
        torch.cat([five.edges, six.edges + 5]),
        torch.cat([five.J, six.J]),
        torch.cat([five.gamma, six.gamma]),
    )
    found, parts = exact_distribution(both), [exact_distribution(part) for part in (five, six)]
    assert found.method.startswith("Trotter products of 4 to ")
    expected = torch.outer(parts[1].probabilities, parts[0].probabilities).flatten()
    assert float((found.probabilities - expected).abs().sum()) / 2 <= found.error <= 1e-6
    assert found.log_z == pytest.approx(parts[0].log_z + parts[1].log_z, abs=found.error)
    transverse = torch.cat([part.transverse for part in parts])
    torch.testing.assert_close(found.transverse, transverse, atol=found.error, rtol=0)


@pytest.mark.parametrize(("scale", "gamma"), [(20.0, 1.0), (100.0, 1.0), (1.0, 60.0)])
def test_the_error_of_trotter_products_is_stated_where_it_is_large(scale, gamma, random_hamiltonian, monkeypatch) -> None:
    monkeypatch.setattr(exact_module, "MAX_EXPONENTIAL_SPINS", 0)
    hamiltonian = random_hamiltonian(complete(7), coupling=scale, field=scale, gamma=gamma)
    exact = exact_distribution(hamiltonian)
    assert 1e-6 < exact.error < 0.2
    assert bool((exact.probabilities >= 0).all())
    monkeypatch.undo()
    truth = exact_distribution(hamiltonian)
    assert float((exact.probabilities - truth.probabilities).abs().sum()) / 2 < exact.error
    assert abs(exact.log_z - truth.log_z) < exact.error


def test_a_very_strong_transverse_field_does_not_overflow(monkeypatch) -> None:
    monkeypatch.setattr(exact_module, "MAX_EXPONENTIAL_SPINS", 0)
    exact = exact_distribution(IsingHamiltonian(torch.zeros(9), [], [], 1000.0))
    assert exact.log_z == pytest.approx(9000.0)
    torch.testing.assert_close(exact.probabilities, torch.full((512,), 1 / 512).double())


def test_transverse_moments_survive_energies_far_apart(monkeypatch) -> None:
    """Columns that are divided by their largest entries get it back."""
    monkeypatch.setattr(exact_module, "_RANGE", 1.0)
    h, gamma = torch.linspace(-1.5, 1.5, 3).double(), torch.linspace(0.4, 1.0, 3).double()
    hamiltonian = IsingHamiltonian(h, [], [], gamma)
    found = exact_module._extrapolated(hamiltonian, exact_module.basis_energies(hamiltonian))
    omega = torch.hypot(h, gamma)
    torch.testing.assert_close(found.transverse, gamma / omega * omega.tanh(), atol=1e-6, rtol=0)


def test_no_spins() -> None:
    for gamma in (0.0, 1.0):
        exact = exact_distribution(IsingHamiltonian([], Graph(0, []), [], gamma))
        assert exact.probabilities.tolist() == [1.0]
        assert exact.log_z == 0.0
        assert exact.spins().shape == (1, 0)
        assert [m.shape for m in exact.moments()] == [(0,), (0,)]
        assert exact.sample(3, generator()).shape == (3, 0)
        assert exact.transverse.shape == (0,)


@pytest.mark.parametrize("gamma", [0.0, 0.7])
@pytest.mark.parametrize("graph", [complete(7), edge_list([(6, 0), (3, 2), (1, 5)], 7), edge_list([], 1)])
def test_moments(graph: Graph, gamma: float, random_hamiltonian) -> None:
    exact = exact_distribution(random_hamiltonian(graph, gamma=gamma))
    spins = exact.spins().double()
    means, pairs = exact.moments()
    i, j = graph.edges.T
    torch.testing.assert_close(means, exact.probabilities @ spins)
    torch.testing.assert_close(pairs, exact.probabilities @ (spins[:, i] * spins[:, j]))


def test_moments_are_minus_the_gradient_of_log_z(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(4), gamma=0.5).to(dtype=torch.float64)
    means, pairs = exact_distribution(hamiltonian).moments()
    step = 1e-5
    for index, (mean, values) in enumerate([(means, hamiltonian.h), (pairs, hamiltonian.J)]):
        for k in range(len(values)):
            shift = torch.zeros_like(values)
            shift[k] = step
            ends = [
                exact_distribution(
                    hamiltonian.replace(**{("h", "J")[index]: values + sign * shift})  # type: ignore[arg-type]
                ).log_z
                for sign in (1, -1)
            ]
            assert -(ends[0] - ends[1]) / (2 * step) == pytest.approx(float(mean[k]), abs=1e-8)


@pytest.mark.parametrize("gamma", [0.0, 0.7])
def test_samples(gamma: float, random_hamiltonian, excess) -> None:
    exact = exact_distribution(random_hamiltonian(complete(6), gamma=gamma))
    spins = exact.sample(50_000, generator())
    assert (spins.dtype, spins.shape) == (torch.int8, (50_000, 6))
    assert excess(spins, exact) < 5
    assert torch.equal(spins, exact.sample(50_000, generator()))


@pytest.mark.parametrize("gamma", [0.0, 0.5])
def test_strong_couplings_neither_overflow_nor_vanish(gamma: float) -> None:
    exact = exact_distribution(IsingHamiltonian([0.0, 0.0], [(0, 1)], [-2000.0], gamma))
    assert exact.log_z == pytest.approx(2000 + math.log(2), abs=1e-3)
    torch.testing.assert_close(exact.probabilities, torch.tensor([0.5, 0.0, 0.0, 0.5]).double(), atol=1e-6, rtol=0)


def test_the_largest_enumeration(random_hamiltonian) -> None:
    exact = exact_distribution(random_hamiltonian(rbm(10, MAX_ENUMERATION_SPINS - 10)))
    assert float(exact.probabilities.sum()) == pytest.approx(1, abs=1e-10)
    assert exact.sample(10, generator()).shape == (10, MAX_ENUMERATION_SPINS)


@pytest.mark.parametrize("gamma", [0.0, 1.0])
def test_limits(gamma: float) -> None:
    n = (MAX_QUANTUM_SPINS if gamma else MAX_ENUMERATION_SPINS) + 1
    kind, module = (" with a transverse field", "path_integral") if gamma else ("", "partition")
    limits = "limit is 20, or 14 with a transverse field: take a smaller system, or a sampler and qvae.ising"
    with pytest.raises(ValueError, match=f"{n} spins{kind} are too many.*{limits}.{module}"):
        exact_distribution(IsingHamiltonian(torch.zeros(n), [], [], gamma))


def test_states_are_little_endian() -> None:
    states = spin_states(4)
    assert states[5].tolist() == [1, -1, 1, -1]
    assert len(states.unique(dim=0)) == 16


def test_nothing_is_differentiated(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(3))
    hamiltonian.h.requires_grad_()
    assert not exact_distribution(hamiltonian).probabilities.requires_grad


# Of the rarest states more digits are lost the stronger fields are, which is said; none is clamped.
RARE = [(6, 12.0, 1e-4, 1e-4), (5, 70.0, 1e-12, 0.1), (4, 120.0, 0.0, 0.5), (4, 200.0, 1e-20, 10.0)]


@pytest.mark.parametrize(("n", "h", "gamma", "allowed"), RARE)
def test_trotter_products_keep_rare_states_and_say_how_well(n: int, h: float, gamma: float, allowed: float) -> None:
    gammas = torch.tensor([1e-3, *(n - 1) * [gamma]], dtype=torch.float64)
    hamiltonian = IsingHamiltonian(torch.full((n,), h, dtype=torch.float64), [], [], gammas)
    expected = exact_distribution(hamiltonian)  # of the exponential, whose entries keep their digits
    found = exact_module._extrapolated(hamiltonian, exact_module.basis_energies(hamiltonian))
    off = float((found.log_probabilities - expected.log_probabilities).abs().max())
    assert off < found.rare_error < allowed
    assert found.error < 1e-6
    assert expected.rare_error == 0


def test_what_trotter_products_may_lose_of_rare_states_is_said() -> None:
    h, gamma = (torch.full((4,), value, dtype=torch.float64) for value in (400.0, 1e-90))
    hamiltonian = IsingHamiltonian(h, [], [], gamma)
    assert exact_module._extrapolated(hamiltonian, exact_module.basis_energies(hamiltonian)).rare_error == math.inf


def test_the_distance_of_two_extrapolations_is_the_larger_of_total_variation_and_log_z() -> None:
    p, q = (torch.tensor(values, dtype=torch.float64).log() for values in ([0.5, 0.3, 0.2], [0.3, 0.4, 0.3]))
    assert exact_module._distance(p, q) == pytest.approx(0.2)
    assert exact_module._distance(p, q + 0.15) == pytest.approx(0.2)
    assert exact_module._distance(p + 0.5, q + 0.1) == pytest.approx(0.4)
    assert exact_module._largest_step(p, q) == pytest.approx(math.log(5 / 3))
