"""Exact distributions against a plain loop over states and against a matrix exponential of Kronecker products."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from torch import Tensor

from qvae.ising.exact import MAX_DIAGONALIZATION_SPINS, MAX_ENUMERATION_SPINS, exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def density_matrix(hamiltonian: IsingHamiltonian) -> Tensor:
    """exp(-H) from Pauli matrices; the last factor of a Kronecker product is spin 0, and bit 1 is spin +1."""
    n = hamiltonian.num_spins
    pauli_z, pauli_x = torch.tensor([[-1.0, 0.0], [0.0, 1.0]]).double(), torch.tensor([[0.0, 1.0], [1.0, 0.0]]).double()

    def at(**where: Tensor) -> Tensor:
        factors = [where.get(f"s{i}", torch.eye(2).double()) for i in reversed(range(n))]
        return functools.reduce(torch.kron, factors)

    total = torch.zeros(2**n, 2**n).double()
    for i in range(n):
        total += float(hamiltonian.h[i]) * at(**{f"s{i}": pauli_z})
        total -= float(hamiltonian.gamma[i]) * at(**{f"s{i}": pauli_x})
    for (i, j), coupling in zip(hamiltonian.edges.tolist(), hamiltonian.J.tolist(), strict=True):
        total += coupling * at(**{f"s{i}": pauli_z, f"s{j}": pauli_z})
    return torch.linalg.matrix_exp(-total)


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


@pytest.mark.parametrize("gamma", [1.0, [0.3, 0.0, 2.0, 1.0], [0.0, 0.0, 0.0, 1e-9]])
def test_diagonalization(gamma: object, random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(4), gamma=gamma)
    exact = exact_distribution(hamiltonian)
    rho = density_matrix(hamiltonian)
    torch.testing.assert_close(exact.probabilities, rho.diagonal() / rho.trace())
    assert exact.log_z == pytest.approx(math.log(float(rho.trace())), abs=1e-9)
    assert exact.method == "diagonalization in 2^4 states"


def test_a_single_spin_in_a_transverse_field() -> None:
    # <sigma^z> = -(h / e) tanh e and Z = 2 cosh e with e^2 = h^2 + gamma^2.
    exact = exact_distribution(IsingHamiltonian([0.8], [], [], gamma=0.6))
    assert exact.log_z == pytest.approx(math.log(2 * math.cosh(1.0)), abs=1e-7)
    assert float(exact.moments()[0]) == pytest.approx(-0.8 * math.tanh(1.0), abs=1e-7)


def test_no_spins() -> None:
    for gamma in (0.0, 1.0):
        exact = exact_distribution(IsingHamiltonian([], Graph(0, []), [], gamma))
        assert exact.probabilities.tolist() == [1.0]
        assert exact.log_z == 0.0
        assert exact.spins().shape == (1, 0)
        assert [m.shape for m in exact.moments()] == [(0,), (0,)]
        assert exact.sample(3, generator()).shape == (3, 0)


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
    n = (MAX_DIAGONALIZATION_SPINS if gamma else MAX_ENUMERATION_SPINS) + 1
    kind = " with a transverse field" if gamma else ""
    with pytest.raises(ValueError, match=f"{n} spins{kind} are too many.*limit is 20, or 12 with a transverse field"):
        exact_distribution(IsingHamiltonian(torch.zeros(n), [], [], gamma))


def test_states_are_little_endian() -> None:
    states = spin_states(4)
    assert states[5].tolist() == [1, -1, 1, -1]
    assert len(states.unique(dim=0)) == 16


def test_nothing_is_differentiated(random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(complete(3))
    hamiltonian.h.requires_grad_()
    assert not exact_distribution(hamiltonian).probabilities.requires_grad
