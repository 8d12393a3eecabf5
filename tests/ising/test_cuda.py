"""The physics on a CUDA device, against enumeration, diagonalization and the processor in float64."""

from __future__ import annotations

import pytest
import torch
from on_cuda import DEVICE, needs_cuda

from qvae.ising import block_gibbs, exact
from qvae.ising.annealing import annealed_importance_sampling, bidirectional_annealing
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.density import expected_log_probability, log_probabilities
from qvae.ising.diagonal_elements import log_diagonal_element
from qvae.ising.exact import exact_distribution
from qvae.ising.graphs import complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.partition import log_partition
from qvae.ising.population import anneal_population
from qvae.ising.quantum_partition import path_integral_log_partition
from qvae.ising.trotter import choose_slices
from qvae.ising.world_lines import WorldLines

pytestmark = needs_cuda

SIGMAS = 5.0
CHAINS = 20_000
GRAPHS = {
    "rbm": rbm(3, 4),
    "complete": complete(6),
    # With a chord, so that rows aren't in the order of spins.
    "sparse": edge_list([*((i, (i + 1) % 11) for i in range(11)), (0, 5)]),
}


@pytest.fixture(params=GRAPHS)
def graph(request, monkeypatch):
    monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0 if request.param == "sparse" else 64)
    return GRAPHS[request.param]


def generator(seed=0):
    return torch.Generator(DEVICE).manual_seed(seed)


def assert_moments(spins, hamiltonian):
    """Of independent samples (k, n) on the device."""
    assert spins.device == DEVICE
    means, pairs = exact_distribution(hamiltonian.to("cpu")).moments()
    spins = spins.double().cpu()
    i, j = hamiltonian.edges.T.cpu()
    found, true = torch.cat([spins.mean(0), (spins[:, i] * spins[:, j]).mean(0)]), torch.cat([means, pairs])
    assert ((found - true).abs() < SIGMAS * ((1 - true**2) / len(spins)).sqrt() + 1e-6).all()


# Hamiltonians ---------------------------------------------------------------------------------------------------------


def test_energies_and_fields_and_their_gradients(graph, random_hamiltonian):
    here = random_hamiltonian(graph).to(dtype=torch.float64)
    there = here.to(DEVICE, torch.float32)
    spins = 2 * torch.randint(0, 2, (50, graph.num_spins), generator=torch.Generator().manual_seed(1)) - 1
    found = {}
    for one in (here, there):
        h, J = one.h.clone().requires_grad_(), one.J.clone().requires_grad_()
        one = one.replace(h, J)
        energies, fields = one.energy(spins.to(h.device)), one.local_fields(spins.to(h.device))
        gradients = torch.autograd.grad(energies.sum() + fields.square().sum(), [h, J])
        found[one] = [energies, fields, *gradients]
        assert all(part.device == h.device for part in found[one])
    for mine, true in zip(*reversed(found.values()), strict=True):
        torch.testing.assert_close(mine.double().cpu(), true, rtol=1e-4, atol=1e-4)


def test_spins_are_held(random_hamiltonian):
    hamiltonian = random_hamiltonian(complete(6), gamma=torch.tensor([0.0, 0.0, 0.3, 0.4, 0.5, 0.6]))
    for index in ([1, 0], torch.tensor([1, 0], device=DEVICE)):
        found, true = hamiltonian.to(DEVICE).condition(index, [1, -1]), hamiltonian.condition([1, 0], [1, -1])
        assert found.h.device == found.edges.device == DEVICE
        for mine, expected in ((found.h, true.h), (found.J, true.J), (found.gamma, true.gamma), (found.edges, true.edges)):
            torch.testing.assert_close(mine.cpu(), expected)


def test_a_hamiltonian_that_is_there_keeps_its_graph(random_hamiltonian):
    """Chains go on on the same graph only."""
    hamiltonian = random_hamiltonian(rbm(2, 2)).to(DEVICE)
    assert hamiltonian.to(DEVICE.type).graph is hamiltonian.graph
    assert hamiltonian.to(DEVICE).graph is hamiltonian.graph
    assert IsingHamiltonian(hamiltonian.h, hamiltonian.graph, hamiltonian.J).graph is hamiltonian.graph


# Block Gibbs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sweeps(dtype, graph, random_hamiltonian):
    if dtype == torch.bfloat16 and graph is GRAPHS["sparse"]:
        pytest.skip("products in bfloat16 are of dense blocks")
    hamiltonian = random_hamiltonian(graph).to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    state = kernel.random_state(CHAINS, generator()).to(dtype)
    assert_moments(kernel.to_spins(kernel.sweep(state, 40, generator(1))), hamiltonian)


def test_sweeps_in_strong_fields(graph):
    signs = torch.arange(graph.num_spins) % 2 * 2.0 - 1
    hamiltonian = IsingHamiltonian(40 * signs, graph, torch.full((graph.num_edges,), 0.5)).to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    spins = kernel.to_spins(kernel.sweep(kernel.random_state(1000, generator()), 5, generator(1)))
    assert (spins.cpu() == -signs).all()


def test_each_chain_has_its_temperature(graph, random_hamiltonian):
    hamiltonian = random_hamiltonian(graph).to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    beta = torch.tensor([0.3, 1.0], device=DEVICE).repeat_interleave(CHAINS)
    spins = kernel.to_spins(kernel.sweep(kernel.random_state(2 * CHAINS, generator()), 40, generator(1), beta))
    for part, value in zip(spins.split(CHAINS), (0.3, 1.0), strict=True):
        assert_moments(part, hamiltonian.replace(value * hamiltonian.h, value * hamiltonian.J))


def test_sweeps_between_independent_spins_and_a_hamiltonian(graph, random_hamiltonian):
    hamiltonian, fields = random_hamiltonian(graph).to(DEVICE), random_hamiltonian(graph, seed=1).h.to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    base = -2 * fields[kernel.order].unsqueeze(1)
    state = kernel.sweep(kernel.random_state(CHAINS, generator()), 40, generator(1), beta=0.6, base=base)
    assert_moments(kernel.to_spins(state), hamiltonian.replace(0.4 * fields + 0.6 * hamiltonian.h, 0.6 * hamiltonian.J))


def test_many_chains_are_swept_in_parts(random_hamiltonian, monkeypatch):
    monkeypatch.setattr(block_gibbs, "_GPU_BITS", 2**14)
    monkeypatch.setattr(block_gibbs, "_CPU_BITS", 2**14)
    hamiltonian = random_hamiltonian(rbm(3, 4)).to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    beta = torch.ones(CHAINS, device=DEVICE)
    assert_moments(kernel.to_spins(kernel.sweep(kernel.random_state(CHAINS, generator()), 40, generator(1), beta)), hamiltonian)


def test_energies_of_states(graph, random_hamiltonian):
    hamiltonian = random_hamiltonian(graph).to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    state = kernel.random_state(100, generator())
    torch.testing.assert_close(kernel.energies(state), hamiltonian.energy(kernel.to_spins(state)), rtol=1e-4, atol=1e-4)


def test_conditional_means(graph, random_hamiltonian):
    """tanh of minus the field that the other spins make."""
    hamiltonian = random_hamiltonian(graph).to(DEVICE)
    kernel = BlockGibbs(hamiltonian)
    state = kernel.random_state(100, generator())
    means = kernel.by_spin(kernel.means(state)[0]).T
    torch.testing.assert_close(means, -torch.tanh(hamiltonian.local_fields(kernel.to_spins(state))), rtol=1e-4, atol=1e-4)


# Partition functions --------------------------------------------------------------------------------------------------


def test_annealing_finds_log_z(graph, random_hamiltonian):
    hamiltonian = random_hamiltonian(graph).to(DEVICE)
    true = exact_distribution(hamiltonian.to("cpu")).log_z
    one_way = annealed_importance_sampling(hamiltonian, chains=500, temperatures=50, generator=generator())
    both_ways = bidirectional_annealing(hamiltonian, chains=200, temperatures=50)
    for found in (one_way, both_ways):
        assert abs(found.value - true) < SIGMAS * found.stderr < 0.5


def test_a_population_finds_log_z(graph, random_hamiltonian):
    hamiltonian = random_hamiltonian(graph).to(DEVICE)
    found = anneal_population(BlockGibbs(hamiltonian), 4000, 5, generator())
    assert abs(found.log_z - exact_distribution(hamiltonian.to("cpu")).log_z) < SIGMAS * found.log_z_stderr < 0.5
    assert_moments(BlockGibbs(hamiltonian).to_spins(found.state)[: int(found.families)], hamiltonian)


@pytest.mark.parametrize("graph", [complete(5), rbm(3, 12)], ids=["all states", "a layer"])
def test_enumeration(graph, random_hamiltonian, monkeypatch):
    monkeypatch.setattr("qvae.ising.partition.MAX_ENUMERATION_SPINS", 10)
    hamiltonian = random_hamiltonian(graph)
    found = log_partition(hamiltonian.to(DEVICE))
    assert found.stderr == 0
    assert found.value == pytest.approx(exact_distribution(hamiltonian).log_z, abs=1e-6)


# Transverse fields ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("largest", [3, 10], ids=["Trotter", "exponential"])
def test_diagonalization(largest, random_hamiltonian, monkeypatch):
    hamiltonian = random_hamiltonian(complete(5), gamma=torch.linspace(0.3, 1.2, 5))
    true = exact_distribution(hamiltonian)
    monkeypatch.setattr(exact, "MAX_EXPONENTIAL_SPINS", largest)
    found = exact_distribution(hamiltonian.to(DEVICE))
    assert found.probabilities.device == DEVICE
    assert found.log_z == pytest.approx(true.log_z, abs=1e-5)
    for mine, expected in zip((*found.moments(), found.transverse), (*true.moments(), true.transverse), strict=True):
        torch.testing.assert_close(mine.cpu(), expected, rtol=0, atol=1e-5)


def test_exact_samples(random_hamiltonian):
    hamiltonian = random_hamiltonian(complete(5), gamma=0.7).to(DEVICE)
    assert_moments(exact_distribution(hamiltonian).sample(CHAINS, generator()), hamiltonian)


def test_log_probabilities_and_their_gradients(random_hamiltonian):
    hamiltonian = random_hamiltonian(complete(4)).to(dtype=torch.float64)
    logits = torch.randn(6, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for device in (torch.device("cpu"), DEVICE):
        given = [x.to(device).requires_grad_() for x in (hamiltonian.h, hamiltonian.J, torch.full((4,), 0.6).double(), logits)]
        log_p = log_probabilities(IsingHamiltonian(given[0], hamiltonian.graph.to(device), *given[1:3]))
        expected = expected_log_probability(log_p, given[3])
        found.append([log_p, expected, *torch.autograd.grad(expected.sum(), given)])
    for mine, true in zip(found[1], found[0], strict=True):
        assert mine.device == DEVICE
        torch.testing.assert_close(mine.cpu(), true)


def test_log_z_of_world_lines(random_hamiltonian):
    hamiltonian = random_hamiltonian(rbm(2, 3), gamma=0.8)
    found = path_integral_log_partition(hamiltonian.to(DEVICE), slices=8, chains=50, temperatures=10)
    assert abs(found.value - exact_distribution(hamiltonian).log_z) < SIGMAS * found.stderr < 1.0


def test_diagonal_elements_of_world_lines(random_hamiltonian):
    hamiltonian = random_hamiltonian(complete(4), gamma=0.8)
    true = exact_distribution(hamiltonian)
    spins = true.spins()[:6]
    found, errors = log_diagonal_element(hamiltonian.to(DEVICE), spins.to(DEVICE), slices=8, chains=100, temperatures=5)
    assert found.device == DEVICE
    expected = true.log_probabilities[:6] + true.log_z
    # Of eight slices what is left after extrapolation is far below the noise.
    assert ((found.cpu() - expected).abs() < SIGMAS * errors.cpu() + 0.01).all()
    assert errors.max() < 0.1


def test_world_lines_keep_their_spins_without_a_field(random_hamiltonian):
    """And those beside them, in a field, sample its distribution."""
    hamiltonian = random_hamiltonian(edge_list([(0, 1), (1, 2), (2, 3)]), gamma=torch.tensor([0.0, 0.7, 0.0, 1.1]))
    lines = WorldLines(hamiltonian.to(DEVICE), choose_slices(hamiltonian.to(DEVICE)))
    bits = lines.sweep(lines.random_state(8000, generator()), 15, generator(1))
    assert bits.dtype == torch.int8
    assert_moments(lines.to_spins(bits), hamiltonian.to(DEVICE))
    rigid = lines.gibbs.by_spin(bits.float())[[0, 2]]
    assert (rigid == rigid[:, :1]).all()
