"""Exact log p(s) of a transverse-field machine: values against exact distributions, gradients against finite differences."""

import pytest
import torch

from qvae.ising.density import expected_log_probability, log_probabilities
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.graphs import complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian


def parameters(graph, gamma, seed=0, scale=0.8):
    generator = torch.Generator().manual_seed(seed)
    h, J = (scale * torch.randn(k, generator=generator, dtype=torch.float64) for k in (graph.num_spins, graph.num_edges))
    gammas = torch.full((graph.num_spins,), gamma, dtype=torch.float64)
    return [x.requires_grad_() for x in (h, J, gammas)]


GRAPHS = {"rbm": rbm(2, 2), "complete": complete(4), "independent": edge_list([], 3), "one spin": edge_list([], 1)}


@pytest.mark.parametrize("gamma", [0.0, 0.3, 2.5])
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_values_are_those_of_the_exact_distribution(graph, gamma):
    h, J, gammas = parameters(graph, gamma)
    hamiltonian = IsingHamiltonian(h, graph, J, gammas)
    expected = exact_distribution(hamiltonian).probabilities
    assert torch.allclose(log_probabilities(hamiltonian).exp(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("gamma", [0.2, 1.0])
@pytest.mark.parametrize("graph", GRAPHS.values(), ids=GRAPHS)
def test_gradients_are_finite_differences(graph, gamma):
    weights = torch.randn(2**graph.num_spins, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def objective(h, J, gammas):
        return weights @ log_probabilities(IsingHamiltonian(h, graph, J, gammas))

    assert torch.autograd.gradcheck(objective, parameters(graph, gamma), eps=1e-6, atol=1e-7, rtol=1e-6)


def test_gradients_are_finite_where_levels_are_degenerate():
    zeros = [torch.zeros(k, dtype=torch.float64, requires_grad=True) for k in (4, 6)]
    gammas = torch.full((4,), 0.7, dtype=torch.float64, requires_grad=True)  # equal fields: levels are many times degenerate

    def objective(h, J, gammas):
        return log_probabilities(IsingHamiltonian(h, complete(4), J, gammas))[5]

    assert torch.autograd.gradcheck(objective, (*zeros, gammas), eps=1e-6, atol=1e-7)


def test_expectation_under_a_factorial_posterior_is_the_sum_over_states():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(5, 3, generator=generator, dtype=torch.float64, requires_grad=True)
    log_p = torch.randn(8, generator=generator, dtype=torch.float64)
    bits = (1 + spin_states(3).double()) / 2
    up = torch.sigmoid(logits)[:, None]
    q = (bits * up + (1 - bits) * (1 - up)).prod(2)
    assert torch.allclose(expected_log_probability(log_p, logits), q @ log_p, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: expected_log_probability(log_p, x), logits)


def test_too_many_spins_are_refused():
    with pytest.raises(ValueError, match="11 spins are too many .* limit is 10"):
        log_probabilities(IsingHamiltonian(torch.zeros(11), [], [], 1.0))
