"""Hamiltonians: energies on every code path against a plain loop, conditioning against enumeration, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian

# The three ways in which energies are computed, a graph without edges, and the empty one.
GRAPHS = {
    "rbm": rbm(3, 4),
    "dense": complete(6),
    "dense, edges reversed": Graph(5, [(4, 0), (3, 1), (2, 4), (1, 0)]),
    "sparse": edge_list([(i, (i + 1) % 30) for i in range(30)]),
    "no edges": edge_list([], 3),
    "no spins": edge_list([], 0),
}


def naive_energy(hamiltonian: IsingHamiltonian, spins: Tensor) -> float:
    energy = sum(float(h) * float(s) for h, s in zip(hamiltonian.h, spins, strict=True))
    for (i, j), coupling in zip(hamiltonian.edges.tolist(), hamiltonian.J.tolist(), strict=True):
        energy += coupling * float(spins[i]) * float(spins[j])
    return energy


@pytest.fixture(params=GRAPHS.values(), ids=GRAPHS.keys())
def hamiltonian(request: pytest.FixtureRequest, random_hamiltonian) -> IsingHamiltonian:
    return random_hamiltonian(request.param).to(dtype=torch.float64)


def random_spins(*shape: int) -> Tensor:
    return 2 * torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).to(torch.int8) - 1


def test_energy_is_the_sum_over_fields_and_couplings(hamiltonian: IsingHamiltonian) -> None:
    spins = random_spins(2, 5, hamiltonian.num_spins)
    expected = torch.tensor([[naive_energy(hamiltonian, s) for s in row] for row in spins], dtype=torch.float64)
    torch.testing.assert_close(hamiltonian.energy(spins), expected)
    torch.testing.assert_close(hamiltonian.energy(spins[0, 0]), expected[0, 0])


def test_interaction_takes_two_different_arguments(hamiltonian: IsingHamiltonian) -> None:
    left, right = torch.randn(2, 4, hamiltonian.num_spins, dtype=torch.float64)
    i, j = hamiltonian.edges.T
    expected = (hamiltonian.J * left[:, i] * right[:, j]).sum(1)
    torch.testing.assert_close(hamiltonian.interaction(left, right), expected)


def test_gradients_of_the_energy_are_spins_and_products(hamiltonian: IsingHamiltonian) -> None:
    h, J = hamiltonian.h.requires_grad_(), hamiltonian.J.requires_grad_()
    spins = random_spins(7, hamiltonian.num_spins)
    grad_h, grad_j = torch.autograd.grad(hamiltonian.energy(spins).sum(), (h, J), allow_unused=True)
    s = spins.double()
    i, j = hamiltonian.edges.T
    torch.testing.assert_close(grad_h, s.sum(0))
    if len(J):
        torch.testing.assert_close(grad_j, (s[:, i] * s[:, j]).sum(0))


def test_sign_and_type_conventions() -> None:
    hamiltonian = IsingHamiltonian([1, 0], [(0, 1)], [2.0], gamma=[0, 1])
    assert hamiltonian.h.dtype == hamiltonian.J.dtype == hamiltonian.gamma.dtype == torch.float32
    assert hamiltonian.is_quantum
    assert hamiltonian.energy(torch.tensor([-1, 1])).item() == -3.0
    array = IsingHamiltonian(np.zeros(2), np.array([[0, 1]]), np.array([1.0]))
    assert array.h.dtype == torch.float64
    assert not array.is_quantum
    assert array.to(dtype=torch.float32).J.dtype == torch.float32


@pytest.mark.parametrize("graph", [complete(6), rbm(3, 3), edge_list([(0, 1), (1, 2), (4, 5)])])
@pytest.mark.parametrize("gamma", [0.0, [0.7, 0.0, 0.4, 1.0, 0.0, 0.2]])
def test_conditioning_is_exact_where_the_fixed_spins_have_no_transverse_field(
    graph: Graph, gamma: object, random_hamiltonian
) -> None:
    full = random_hamiltonian(graph, gamma=gamma)
    index, values = [4, 1], [1, -1]
    conditioned = exact_distribution(full.condition(index, values))
    joint = exact_distribution(full)
    agree = (joint.spins()[:, index] == torch.tensor(values)).all(1)
    # States of the free spins, in their old order, come in ascending order of the joint state.
    expected = joint.probabilities[agree] / joint.probabilities[agree].sum()
    torch.testing.assert_close(conditioned.probabilities, expected)


def test_conditioning_clamps_where_the_fixed_spins_have_a_transverse_field(random_hamiltonian) -> None:
    full = random_hamiltonian(complete(3), coupling=1.0, gamma=[1.0, 0.5, 0.5])
    clamped = exact_distribution(full.condition([0], [1]))
    without = IsingHamiltonian(full.h, full.graph, full.J, gamma=[0.0, 0.5, 0.5])
    for hamiltonian, same in ((without, True), (full, False)):
        joint = exact_distribution(hamiltonian)
        up = joint.probabilities[joint.spins()[:, 0] == 1]
        assert torch.allclose(clamped.probabilities, up / up.sum(), atol=1e-3) == same


def test_conditioning_on_nothing_and_on_everything(random_hamiltonian) -> None:
    full = random_hamiltonian(complete(4))
    assert torch.equal(full.condition([], []).h, full.h)
    empty = full.condition(range(4), [1, -1, 1, 1])
    assert (empty.num_spins, empty.graph.num_edges) == (0, 0)


def test_conditioning_an_rbm_on_a_layer_is_differentiable(random_hamiltonian) -> None:
    full = random_hamiltonian(rbm(2, 3))
    full.J.requires_grad_()
    free = full.condition([0, 1], [1, -1])
    torch.testing.assert_close(free.h, full.h[2:] + full.J.view(2, 3)[0] - full.J.view(2, 3)[1])
    free.h.sum().backward()
    assert full.J.grad.tolist() == [1, 1, 1, -1, -1, -1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([0.0], [(0, 1)], [1.0]), "names a spin outside 0..0"),
        (([0.0, 0.0], [(0, 1)], [1.0, 2.0]), "J has 2 entries, but there are 1 edges"),
        (([0.0], rbm(1, 1), [1.0]), "h has 1 entries, but the graph has 2 spins"),
        (([[0.0]], [], []), "h must be one-dimensional"),
        (([float("nan")], [], []), "h has entries that are NaN"),
        (([0.0, 0.0], [(0, 1)], [float("inf")]), "J has entries that are NaN or infinite"),
        (([0.0], [], [], -0.5), "gamma is negative"),
        (([0.0, 0.0], [], [], [1.0]), "gamma has 1 entries, but there are 2 spins"),
    ],
)
def test_bad_arguments(arguments: tuple, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        IsingHamiltonian(*arguments)


@pytest.mark.parametrize(
    ("index", "values", "message"),
    [
        ([3], [1], "outside 0..2"),
        ([-1], [1], "outside 0..2"),
        ([0, 0], [1, 1], "fixed twice"),
        ([0], [0], "must be -1 or \\+1"),
        ([0, 1], [1], "2 spins are named, but 1 values"),
    ],
)
def test_bad_conditions(index: list[int], values: list[int], message: str, random_hamiltonian) -> None:
    with pytest.raises(ValueError, match=message):
        random_hamiltonian(complete(3)).condition(index, values)


def test_energies_of_all_states_agree_in_single_and_double_precision(random_hamiltonian) -> None:
    single = random_hamiltonian(rbm(4, 4))
    states = spin_states(8)
    torch.testing.assert_close(single.energy(states), single.to(dtype=torch.float64).energy(states).float(), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    "graph", [rbm(3, 4), complete(5), edge_list([(k, (7 * k + 1) % 90) for k in range(90)]), Graph(3, [])]
)
def test_local_fields_are_the_derivative_of_the_energy(graph: Graph) -> None:
    generator = torch.Generator().manual_seed(1)
    h, J = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (graph.num_spins, graph.num_edges))
    hamiltonian = IsingHamiltonian(h, graph, J)
    means = torch.rand(2, 6, graph.num_spins, generator=generator, dtype=torch.float64).requires_grad_()
    (expected,) = torch.autograd.grad(hamiltonian.energy(means).sum(), means)
    torch.testing.assert_close(hamiltonian.local_fields(means), expected)


def test_sparse_interactions_are_differentiable_in_everything() -> None:
    graph = edge_list([(k, (7 * k + 1) % 90) for k in range(90)])
    generator = torch.Generator().manual_seed(2)
    J = torch.randn(90, generator=generator, dtype=torch.float64).requires_grad_()
    left, right = (torch.randn(3, 90, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2))
    h = torch.zeros(90, dtype=torch.float64)
    i, j = graph.edges.T
    value = IsingHamiltonian(h, graph, torch.zeros(90, dtype=torch.float64)).replace(J=J).interaction(left, right)
    plain = (left[:, i] * right[:, j]) @ J
    torch.testing.assert_close(value, plain)
    for mine, theirs in zip(*(torch.autograd.grad((v**2).sum(), (J, left, right)) for v in (value, plain)), strict=True):
        torch.testing.assert_close(mine, theirs)
