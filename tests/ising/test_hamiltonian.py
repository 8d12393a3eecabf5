"""Hamiltonians: energies on every code path against a plain loop, conditioning against enumeration, bad input."""

from __future__ import annotations

import dimod
import numpy as np
import pytest
import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import Graph, chimera, complete, edge_list, edge_order, rbm
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


@pytest.mark.parametrize("permuted", [rbm(3, 4), complete(6), chimera(2), edge_list([(i, (i + 1) % 30) for i in range(30)])])
def test_couplings_go_with_their_edges(permuted: Graph) -> None:
    generator = torch.Generator().manual_seed(3)
    shuffle = torch.randperm(permuted.num_edges, generator=generator)
    edges = permuted.edges[shuffle]
    edges[::2] = edges[::2].flip(1)
    h, J = (torch.randn(k, generator=generator, dtype=torch.float64) for k in (permuted.num_spins, permuted.num_edges))
    hamiltonian = IsingHamiltonian(h, edges, J)
    assert torch.equal(hamiltonian.edges, permuted.edges)
    assert torch.equal(hamiltonian.J[torch.argsort(edge_order(edges))], J)
    assert torch.equal(IsingHamiltonian(h, Graph(len(h), edges), J[edge_order(edges)]).J, hamiltonian.J)
    spins = random_spins(5, permuted.num_spins)
    s, (i, j) = spins.double(), edges.T
    torch.testing.assert_close(hamiltonian.energy(spins), s @ h + (s[:, i] * s[:, j]) @ J)


def test_what_comes_in_is_copied_and_differentiable() -> None:
    for new in (torch.tensor, np.array):
        h, J, gamma = new([0.5, 0.0]), new([1.0]), new([0.0, 0.0])
        hamiltonian = IsingHamiltonian(h, [(1, 0)], J, gamma)
        for values in (h, J, gamma):
            values += 1
        assert (hamiltonian.h.tolist(), hamiltonian.J.tolist(), hamiltonian.gamma.tolist()) == ([0.5, 0.0], [1.0], [0.0, 0.0])
    h, J, gamma = (torch.ones(k, requires_grad=True) for k in (2, 1, 2))
    hamiltonian = IsingHamiltonian(h, [(1, 0)], J, gamma)
    (hamiltonian.energy(torch.tensor([1, -1])) + hamiltonian.gamma.sum()).backward()
    assert (h.grad.tolist(), J.grad.tolist(), gamma.grad.tolist()) == ([1, -1], [-1], [1, 1])


def test_local_fields_are_the_callers_own(hamiltonian: IsingHamiltonian) -> None:
    before = hamiltonian.h.clone()
    hamiltonian.local_fields(random_spins(hamiltonian.num_spins)).add_(1)
    assert torch.equal(hamiltonian.h, before)


def test_arrays_of_any_layout() -> None:
    plain = IsingHamiltonian(np.array([0.5, -1.0]), [(0, 1)], np.array([2.0]))
    for h in (np.array([-1.0, 0.5])[::-1], np.array([0.5, -1.0], ">f8"), np.array([0.5, -1.0], np.longdouble)):
        found = IsingHamiltonian(h, np.array([[1, 0]])[:, ::-1], np.array([2.0]))
        assert torch.equal(found.h, plain.h)
        assert torch.equal(found.edges, plain.edges)


@pytest.mark.parametrize("largest", [([3e38, 0.0], [0.0], 0.0), ([0.0, 0.0], [-3e38], 0.0), ([0.0, 0.0], [0.0], 3e38)])
def test_energies_that_would_overflow_are_refused(largest) -> None:
    h, J, gamma = largest
    for dtype in (torch.float32, torch.float64):
        with pytest.raises(ValueError, match=r"of up to 3\.0e\+38 are too large: energies would overflow\. Divide h, J"):
            IsingHamiltonian(torch.tensor(h, dtype=dtype), [(0, 1)], torch.tensor(J, dtype=dtype), gamma)
    fits = IsingHamiltonian([h[0] / 1e3, 0.0], [(0, 1)], [J[0] / 1e3])
    assert bool(BlockGibbs(fits).energies(torch.ones(2, 1)).isfinite().all())


def test_models_of_dimod() -> None:
    hamiltonian = IsingHamiltonian([0.5, -1.0, 0.25], [(2, 0), (1, 2)], [2.0, -3.0])
    bqm = hamiltonian.to_bqm()
    assert (dict(bqm.linear), dict(bqm.quadratic)) == ({0: 0.5, 1: -1.0, 2: 0.25}, {(2, 0): 2.0, (2, 1): -3.0})
    spins = spin_states(3)
    assert bqm.energies((spins.numpy(), range(3))).tolist() == hamiltonian.energy(spins).tolist()
    for vartype in ("SPIN", "BINARY"):
        back = IsingHamiltonian.from_bqm(bqm.change_vartype(vartype, inplace=False))
        assert (back.h.tolist(), back.J.tolist()) == (hamiltonian.h.tolist(), hamiltonian.J.tolist())
        assert torch.equal(back.edges, hamiltonian.edges)
    # Labels that are numbers say which spin; others are taken in the model's order.
    reversed_order = dimod.BinaryQuadraticModel.from_ising({2: 0.25, 1: -1.0, 0: 0.5}, {(2, 0): 2.0, (1, 2): -3.0}, offset=7.0)
    assert IsingHamiltonian.from_bqm(reversed_order).h.tolist() == [0.5, -1.0, 0.25]
    model = dimod.BinaryQuadraticModel("SPIN")
    model.add_linear_from([("b", 1.0), ("a", 2.0)])
    model.add_quadratic("a", "b", 0.5)
    named = IsingHamiltonian.from_bqm(model)
    assert (named.h.tolist(), named.edges.tolist(), named.J.tolist()) == ([1.0, 2.0], [[0, 1]], [0.5])
    assert IsingHamiltonian.from_bqm(dimod.BinaryQuadraticModel("SPIN")).num_spins == 0
    with pytest.raises(ValueError, match=r"3 couplings, transverse field\) has a transverse field"):
        IsingHamiltonian(torch.zeros(3), complete(3), torch.zeros(3), 1.0).to_bqm()


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


@pytest.mark.parametrize("graph", [rbm(3, 4), complete(5), edge_list([(k, (7 * k + 1) % 90) for k in range(90)]), Graph(3, [])])
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
