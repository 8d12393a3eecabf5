"""The variational Gibbs state: its signs, its free energy, and how close both trainers come to exact diagonalization."""

from dataclasses import replace

import pytest
import torch

from qvae.circuits import gibbs_ansatz
from qvae.circuits.gibbs_ansatz import (
    WARM_ITERATIONS,
    ExactGibbsState,
    GibbsAnsatz,
    _FreeEnergy,
    _settled,
    follow_imaginary_time,
    minimise_free_energy,
)
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian


def random_hamiltonian(n, gamma, seed=0, scale=0.5):
    """On a complete graph, h and J normal of this spread."""
    generator = torch.Generator().manual_seed(seed)
    graph = graphs.complete(n)
    h, J = (scale * torch.randn(k, generator=generator) for k in (n, graph.num_edges))
    return IsingHamiltonian(h, graph, J, gamma)


def divergence(ansatz, solution, hamiltonian):
    """KL(exact || ansatz) of the z-basis distributions, in nats."""
    exact, found = exact_distribution(hamiltonian).probabilities, ansatz.probabilities(solution.angles)
    return float((exact * (exact.log() - found.log())).sum())


def gap(ansatz, solution):
    matrix = ansatz.matrix(solution.coefficients)
    return float(ansatz.free_energy(solution.angles, matrix)) - ExactGibbsState(matrix).free_energy


# The ansatz -----------------------------------------------------------------------------------------------------------


def test_first_angles_have_the_right_signs_and_places():
    """To first order <s_i> = -h_i, <s_i s_j> = -J_ij and <sigma^x_i> = gamma_i; edges given in no order and both directions."""
    small = 1e-3
    graph = Graph(4, [(2, 1), (0, 3), (1, 0)])
    h, J, gamma = torch.tensor([1.0, -2, 3, 0.5]), torch.tensor([2.0, -1, 4]), torch.tensor([1.0, 0, 2, 3])
    ansatz = GibbsAnsatz(graph)
    coefficients = small * ansatz.coefficients(IsingHamiltonian(h, graph, J, gamma))
    state = ansatz.state(ansatz.start(coefficients))
    spins = exact_distribution(IsingHamiltonian(h, graph, J)).spins().double()
    p = state.square().sum(0)
    i, j = graph.edges.T
    assert torch.allclose(p @ spins, -small * h.double(), atol=10 * small**2)
    assert torch.allclose(p @ (spins[:, i] * spins[:, j]), -small * J.double(), atol=10 * small**2)
    states = torch.arange(16)
    along_x = [float((state * state[:, states ^ (1 << spin)]).sum()) for spin in range(4)]
    assert torch.allclose(torch.tensor(along_x), small * gamma, atol=10 * small**2)


def test_the_matrix_is_the_hamiltonian():
    hamiltonian = random_hamiltonian(4, torch.tensor([0.0, 0.5, 1.0, 2.0]))
    ansatz = GibbsAnsatz(hamiltonian.graph)
    exact = ExactGibbsState(ansatz.matrix(ansatz.coefficients(hamiltonian)))
    assert exact.free_energy == pytest.approx(-exact_distribution(hamiltonian).log_z, abs=1e-10)


def test_free_energy_of_product_states():
    """All angles zero: the maximally mixed state, F = Tr H / 2^n - n log 2 = -n log 2."""
    hamiltonian = random_hamiltonian(3, 1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    matrix = ansatz.matrix(ansatz.coefficients(hamiltonian))
    zero = torch.zeros(ansatz.num_angles).double()
    assert float(ansatz.free_energy(zero, matrix)) == pytest.approx(-3 * torch.tensor(2.0).log().item(), abs=1e-6)


@pytest.mark.parametrize("start", ["zero", "first", "random"])
def test_gradient_of_the_free_energy(start):
    """Against finite differences, also where all eigenvalues of rho are equal."""
    hamiltonian = random_hamiltonian(2, 0.7)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    coefficients = ansatz.coefficients(hamiltonian)
    matrix = ansatz.matrix(coefficients)
    first = ansatz.start(coefficients)
    angles = {"zero": 0 * first, "first": first, "random": torch.randn(2, len(first), dtype=torch.float64)}[start]
    assert torch.autograd.gradcheck(lambda x: ansatz.free_energy(x, matrix), angles.requires_grad_())


def test_gradient_of_a_state_that_is_not_normalized():
    """Rotations don't see this part of it."""
    state = torch.randn(2, 4, 4, dtype=torch.float64, requires_grad=True)
    matrix = torch.randn(4, 4, dtype=torch.float64)
    assert torch.autograd.gradcheck(_FreeEnergy.apply, (state, matrix + matrix.T))


def test_gradient_of_a_pure_state_is_finite():
    """A strong transverse field leaves eigenvalues of rho at zero."""
    hamiltonian = IsingHamiltonian([0.0, 0.0], [], [], gamma=1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph, layers=1)
    # Half a turn of Y_s Z_a disentangles a Bell pair: the spin is then in |+>.
    angles = torch.tensor([torch.pi / 2, 0, torch.pi / 2, 0], dtype=torch.float64).requires_grad_()
    value = ansatz.free_energy(angles, ansatz.matrix(ansatz.coefficients(hamiltonian)))
    assert float(value.detach()) == pytest.approx(-2, abs=1e-9)
    assert bool(torch.autograd.grad(value, angles)[0].isfinite().all())


def test_fidelity():
    """Of commuting states it is (sum sqrt(p q))^2; of a state with itself 1."""
    hamiltonian, other = random_hamiltonian(3, 0.0, seed=0), random_hamiltonian(3, 0.0, seed=1)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    p, q = exact_distribution(hamiltonian).probabilities, exact_distribution(other).probabilities
    exact = ExactGibbsState(ansatz.matrix(ansatz.coefficients(hamiltonian)))
    assert exact.fidelity(p.sqrt().diag()) == pytest.approx(1, abs=1e-9)
    assert exact.fidelity(q.sqrt().diag()) == pytest.approx(float((p * q).sqrt().sum() ** 2), abs=1e-9)


# Least free energy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("gamma", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("seed", range(2))
def test_six_spins_to_a_thousandth(gamma, seed):
    hamiltonian = random_hamiltonian(6, gamma, seed)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    solution = minimise_free_energy(ansatz, hamiltonian)
    assert divergence(ansatz, solution, hamiltonian) < 1e-3
    # Relative entropy falls when the state is measured.
    exact, found = exact_distribution(hamiltonian).probabilities, ansatz.probabilities(solution.angles)
    assert float((found * (found.log() - exact.log())).sum()) < gap(ansatz, solution)


def test_eight_spins_to_a_hundredth():
    hamiltonian = random_hamiltonian(8, 1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    assert divergence(ansatz, minimise_free_energy(ansatz, hamiltonian), hamiltonian) < 1e-2


def test_without_a_transverse_field():
    hamiltonian = random_hamiltonian(5, 0.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    assert divergence(ansatz, minimise_free_energy(ansatz, hamiltonian), hamiltonian) < 1e-3


def test_a_single_spin_and_nothing_to_do_at_all():
    for h, gamma in ((0.7, 0.5), (0.0, 0.0)):
        hamiltonian = IsingHamiltonian([h], [], [], gamma)
        ansatz = GibbsAnsatz(hamiltonian.graph)
        for train in (minimise_free_energy, follow_imaginary_time):
            solution = train(ansatz, hamiltonian)
            assert divergence(ansatz, solution, hamiltonian) < 1e-6
            again = train(ansatz, hamiltonian, solution)
            assert divergence(ansatz, again, hamiltonian) < 1e-6


def test_warm_starts_keep_up_with_a_moving_hamiltonian():
    hamiltonian = random_hamiltonian(5, 1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    solution = minimise_free_energy(ansatz, hamiltonian)
    generator = torch.Generator().manual_seed(1)
    for step in range(40):
        if step % 10 == 0:
            dh, dJ = (0.01 * torch.randn(k, generator=generator).sign() for k in (5, 10))
        hamiltonian = hamiltonian.replace(hamiltonian.h + dh, hamiltonian.J + dJ)
        solution = minimise_free_energy(ansatz, hamiltonian, solution)
        assert solution.iterations <= WARM_ITERATIONS
    assert gap(ansatz, solution) < 1.5 * gap(ansatz, minimise_free_energy(ansatz, hamiltonian))


def test_warm_starts_are_shifted_by_what_the_first_angles_move(monkeypatch):
    monkeypatch.setattr(gibbs_ansatz, "COLD_ITERATIONS", 0)
    hamiltonian = random_hamiltonian(3, 1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    last = follow_imaginary_time(ansatz, hamiltonian)  # far better than first angles
    moved = IsingHamiltonian(hamiltonian.h + 0.1, hamiltonian.graph, hamiltonian.J - 0.1, hamiltonian.gamma + 0.1)
    solution = minimise_free_energy(ansatz, moved, replace(last, memory=torch.eye(ansatz.num_angles).double()))
    by_letters = {"YZ": 0.1 / 2, "YX": -0.1 / 2, "YXZ": -0.1 / 4}
    shift = torch.tensor([by_letters[letters] for letters, _ in ansatz.strings]).double()
    assert torch.allclose(solution.angles, last.angles + shift, atol=1e-7)


def test_a_warm_start_from_far_away():
    far, hamiltonian = random_hamiltonian(4, 0.0, seed=3, scale=2.0), random_hamiltonian(4, 1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    solution = minimise_free_energy(ansatz, hamiltonian, minimise_free_energy(ansatz, far))
    assert divergence(ansatz, solution, hamiltonian) < 1e-3


def test_when_iterations_have_come_to_rest():
    """Warm starts after one small gain, or after six values unless they still jump; fresh ones after ten small gains."""

    def after(*gains):
        return (-torch.tensor([0.0, *gains]).double().cumsum(0)).tolist()

    warm = [_settled(after(*gains), True) for gains in ((), (2e-5,), (0.9e-5,), [9e-4] * 4, [9e-4] * 5, [1.1e-3] * 5)]
    assert warm == [False, False, True, False, True, False]
    fresh = [_settled(after(*gains), False) for gains in ([0.0] * 9, [9e-6] * 10, [1.1e-5] * 10, [1.0, *[0.0] * 9])]
    assert fresh == [False, True, False, False]


# Imaginary time -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("gamma", "scale"), [(0.0, 0.5), (0.5, 0.5), (2.0, 0.5), (1.0, 2.0)])
def test_imaginary_time_comes_as_close(gamma, scale):
    hamiltonian = random_hamiltonian(4, gamma, seed=1, scale=scale)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    assert divergence(ansatz, follow_imaginary_time(ansatz, hamiltonian), hamiltonian) < 1e-3


@pytest.mark.parametrize(("scale", "steps"), [(0.1, 4), (1.0, 11)])
def test_imaginary_time_has_as_many_steps_as_the_spread_of_levels_asks_for(scale, steps):
    """Of fourth order, so that McLachlan's equation is solved four times in each; the norm is 8.37."""
    hamiltonian = IsingHamiltonian([4.0 * scale, -6.0 * scale], [(0, 1)], [3.0 * scale], [0.0, 3.0 * scale])
    solution = follow_imaginary_time(GibbsAnsatz(hamiltonian.graph), hamiltonian)
    assert solution.iterations == 4 * steps


def test_imaginary_time_goes_on_from_the_last_solution_and_begins_anew_in_time():
    hamiltonian = random_hamiltonian(4, 1.0)
    ansatz = GibbsAnsatz(hamiltonian.graph)
    solution = follow_imaginary_time(ansatz, hamiltonian)
    iterations = []
    for _ in range(12):
        h, J, gamma = hamiltonian.h + 0.009, hamiltonian.J - 0.009, hamiltonian.gamma + 0.009
        hamiltonian = IsingHamiltonian(h, hamiltonian.graph, J, gamma)
        solution = follow_imaginary_time(ansatz, hamiltonian, solution)
        iterations.append(solution.iterations)
        assert divergence(ansatz, solution, hamiltonian) < 1e-3
    assert iterations[:11] == [1] * 11
    assert iterations[11] > 1
