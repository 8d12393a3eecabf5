"""Population annealing against enumeration: weights of modes, log Z and its error bar, sizes, and that it ends."""

import itertools
import math

import pytest
import torch

from qvae.ising import block_gibbs, population
from qvae.ising.annealing_path import AnnealingPath
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.compiled import SWITCH
from qvae.ising.exact import exact_distribution
from qvae.ising.graphs import complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.population import anneal_population

SIGMAS = 5.0
RUNS, CHAINS = 100, 200


def two_modes(graph):
    """All spins down is five times as likely as all up, and hardly anything else is."""
    return IsingHamiltonian([0.1] * 8, graph, [-0.7 * 28 / graph.num_edges] * graph.num_edges)


@pytest.mark.parametrize(
    "graph",
    [complete(8), rbm(4, 4), edge_list([(i, j) for i in range(8) for j in range(i + 1, i + 4) if j < 8])],
    ids=["complete", "rbm", "sparse"],
)
def test_modes_have_their_weights_and_log_z_its_error_bar(graph, monkeypatch):
    if graph.bipartite_sizes is None and graph.num_edges < 28:
        monkeypatch.setattr(block_gibbs, "_DENSE_SPINS", 0)
    hamiltonian = two_modes(graph)
    exact = exact_distribution(hamiltonian)
    kernel, generator = BlockGibbs(hamiltonian), torch.Generator().manual_seed(0)
    found = [anneal_population(kernel, CHAINS, 2, generator) for _ in range(RUNS)]
    # Runs are independent, chains of one are not.
    moments = torch.stack([kernel.to_spins(run.state).double().mean(0) for run in found])
    errors = (moments.mean(0) - exact.moments()[0]) / (moments.std(0) / RUNS**0.5)
    assert errors.abs().max() < SIGMAS
    log_z = torch.tensor([run.log_z for run in found], dtype=torch.float64)
    ratio = (log_z - exact.log_z).exp()
    assert abs(float(ratio.mean()) - 1) < SIGMAS * float(ratio.std()) / RUNS**0.5
    told = sum(run.log_z_stderr for run in found) / RUNS
    # It is rather too large, by up to a half; the spread over the runs is itself known to 1 / sqrt(2 (RUNS - 1)) of it.
    noise = SIGMAS / (2 * (RUNS - 1)) ** 0.5
    assert 1 - noise < told / float(log_z.std()) < 1.5 + noise


def test_plain_cooling_gets_the_weights_wrong():
    """The same chains without resampling: what the first test is worth."""
    hamiltonian = two_modes(complete(8))
    kernel, generator = BlockGibbs(hamiltonian), torch.Generator().manual_seed(0)
    state = kernel.random_state(10_000, generator)
    for step in range(1, 21):
        kernel.sweep(state, 2, generator, step / 20)
    mean = float(kernel.to_spins(state).double().mean())
    assert abs(mean - float(exact_distribution(hamiltonian).moments()[0].mean())) > 0.1


def test_rounded_chains(monkeypatch):
    monkeypatch.setenv(SWITCH, "torch")
    monkeypatch.setattr(block_gibbs, "multiplies_bfloat16", lambda device: True)
    hamiltonian = IsingHamiltonian(torch.zeros(200), rbm(100, 100), torch.full((10_000,), 0.01))
    kernel = BlockGibbs(hamiltonian)
    assert kernel.quickest == torch.bfloat16
    found = anneal_population(kernel, 2000, 3, torch.Generator().manual_seed(0))
    assert found.state.dtype == torch.bfloat16
    # One layer summed out of equal couplings: sum_k C(100, k) (2 cosh(0.01 (100 - 2k)))^100.
    terms = [math.log(math.comb(100, k)) + 100 * math.log(2 * math.cosh(0.01 * (100 - 2 * k))) for k in range(101)]
    assert abs(found.log_z - float(torch.tensor(terms, dtype=torch.float64).logsumexp(0))) < SIGMAS * found.log_z_stderr


def test_few_chains_are_a_random_part_of_a_larger_population():
    hamiltonian = two_modes(complete(8))
    kernel, generator = BlockGibbs(hamiltonian), torch.Generator().manual_seed(0)
    found = [anneal_population(kernel, 12, 2, generator) for _ in range(RUNS)]
    assert all(run.state.shape == (8, 12) and run.size == 128 for run in found)
    means = torch.stack([kernel.to_spins(run.state).double().mean() for run in found])
    exact = float(exact_distribution(hamiltonian).moments()[0].mean())
    assert abs(float(means.mean()) - exact) < SIGMAS * float(means.std()) / RUNS**0.5
    free = anneal_population(BlockGibbs(IsingHamiltonian(torch.zeros(3), [], [])), 12, 1, generator)
    assert free.log_z == pytest.approx(3 * math.log(2))


def test_neighbours_are_no_relatives():
    kernel = BlockGibbs(two_modes(complete(8)))
    found = anneal_population(kernel, 4000, 1, torch.Generator().manual_seed(0))
    modes = kernel.to_spins(found.state).double().mean(1)
    correlation = torch.corrcoef(torch.stack([modes[:-1], modes[1:]]))[0, 1]
    assert abs(correlation) < SIGMAS / 4000**0.5


def test_one_step_without_energies():
    kernel = BlockGibbs(IsingHamiltonian(torch.zeros(3), edge_list([], 3), torch.zeros(0)))
    found = anneal_population(kernel, 300, 1, torch.Generator().manual_seed(0))
    assert (found.temperatures, found.size, found.families) == (1, 300, pytest.approx(300))
    assert found.log_z == pytest.approx(3 * math.log(2))
    assert found.log_z_stderr == pytest.approx(0, abs=1e-6)


def test_steps_have_a_least_size(monkeypatch):
    hamiltonian = two_modes(complete(8))
    kernel = BlockGibbs(hamiltonian)
    assert anneal_population(kernel, 2000, 1, torch.Generator().manual_seed(0)).temperatures > 5
    monkeypatch.setattr(population, "MAX_TEMPERATURES", 5)
    found = anneal_population(kernel, 2000, 1, torch.Generator().manual_seed(0))
    assert found.temperatures == 5
    assert abs(found.log_z - exact_distribution(hamiltonian).log_z) < SIGMAS * found.log_z_stderr


def test_it_ends_for_couplings_of_any_size():
    kernel = BlockGibbs(IsingHamiltonian([0.0, 0.0, 0.0], complete(3), [1e5, 1e5, 1e5]))
    found = anneal_population(kernel, 300, 1, torch.Generator().manual_seed(0))
    # A frustrated triangle: two of its three couplings hold in six states.
    assert found.log_z == pytest.approx(1e5 + math.log(6), abs=SIGMAS * found.log_z_stderr)


def test_the_generator_decides():
    kernel = BlockGibbs(two_modes(complete(8)))
    first, second, other = (anneal_population(kernel, 50, 1, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    assert torch.equal(first.state, second.state)
    assert first.log_z == second.log_z != other.log_z


def test_steps_leave_four_fifths_of_the_chains():
    """As weights of Gaussian energies would: dbeta^2 times their variance is log 1.25."""
    kernel, spreads, betas = BlockGibbs(two_modes(complete(8))), [], [0.0]
    energies, sweep = kernel.energies, kernel.sweep

    def seen(state):
        spreads.append(float(energies(state).double().std(correction=0)))
        return energies(state)

    def swept(state, sweeps, generator, beta):
        betas.append(beta)
        assert sweeps == 3
        return sweep(state, sweeps, generator, beta)

    kernel.energies, kernel.sweep = seen, swept
    anneal_population(kernel, 300, 3, torch.Generator().manual_seed(0))
    steps = [after - before for before, after in itertools.pairwise(betas)]
    wanted = [math.sqrt(math.log(1.25)) / spread for spread in spreads]
    assert steps[:-1] == pytest.approx(wanted[:-1])
    assert betas[-1] == 1.0
    assert steps[-1] <= wanted[-1]


@pytest.mark.parametrize("which", ["population", "path"])
def test_chains_are_drawn_again_in_proportion_to_their_weights(which):
    """Four chains, 2,000 times: the mean number of each is 4 times its weight, and none is off by one."""
    weights, generator = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64), torch.Generator().manual_seed(0)
    path = object.__new__(AnnealingPath)
    path.generator = generator
    drawn = path._resample if which == "path" else lambda works: population._resample(works, generator)
    counts = torch.stack([drawn(weights.log() + 7).bincount(minlength=4) for _ in range(2000)])
    assert (counts.double().mean(0) - 4 * weights).abs().max() < SIGMAS * 0.5 / 2000**0.5
    assert ((counts - 4 * weights).abs() < 1).all()
