"""Diagnostics against what is known of perfect samples, of samples at another temperature, and of simple chains."""

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats

from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import (
    effective_beta,
    effective_sample_size,
    expected_kl,
    expected_total_variation,
    kl_to_exact,
    moment_error,
    r_hat,
    total_variation,
)
from qvae.sampling.sampler import Moments, Samples

SIGMAS = 5.0


def random_hamiltonian(graph, scale=0.6, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = scale * torch.randn(graph.num_spins, generator=generator)
    return IsingHamiltonian(h, graph, scale * torch.randn(graph.num_edges, generator=generator))


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


def test_distances_by_hand():
    distribution = exact_distribution(IsingHamiltonian([0.0], [], []))
    spins = torch.tensor([[1], [1], [1], [-1]])
    assert total_variation(spins, distribution) == pytest.approx(0.25)
    assert kl_to_exact(spins, distribution) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    weighted = Samples(spins, torch.tensor([0.2, 0.2, 0.1, 0.5]))
    assert total_variation(weighted, distribution) == pytest.approx(0.0, abs=1e-7)
    assert kl_to_exact(weighted, distribution) == pytest.approx(0.0, abs=1e-7)


def test_states_are_little_endian():
    distribution = exact_distribution(IsingHamiltonian([3.0, -3.0, 3.0], [], []))
    likely = torch.tensor([[-1, 1, -1]])
    assert total_variation(likely, distribution) == pytest.approx(1 - float(distribution.probabilities[0b010]))


@pytest.mark.parametrize("num_samples", [10, 300, 5000])
@pytest.mark.parametrize(
    ("distance", "expected"), [(total_variation, expected_total_variation), (kl_to_exact, expected_kl)], ids=["tv", "kl"]
)
def test_size_expected_of_perfect_samples(distance, expected, num_samples, generator):
    distribution = exact_distribution(random_hamiltonian(graphs.complete(7)))
    repeats = 60
    found = torch.tensor([distance(distribution.sample(num_samples, generator), distribution) for _ in range(repeats)])
    predicted = expected(distribution, num_samples)
    # The Poisson approximation of the KL's size is good to 1/N of it.
    assert abs(found.mean() - predicted) < SIGMAS * found.std() / repeats**0.5 + predicted * 2 / num_samples


def test_expected_sizes_have_their_textbook_limits():
    p = exact_distribution(random_hamiltonian(graphs.complete(5), scale=0.2))
    n = 10**6
    gaussian = 0.5 * float((2 * p.probabilities * (1 - p.probabilities) / (math.pi * n)).sqrt().sum())
    assert expected_total_variation(p, n) == pytest.approx(gaussian, rel=1e-3)
    assert expected_kl(p, n) == pytest.approx(31 / (2 * n), rel=1e-3)


@pytest.mark.parametrize("number", [9, 78, 82, 600])
def test_the_kl_expected_of_perfect_samples_is_that_of_poissonian_counts(number):
    """Of one spin that is up twice as often as down; above 40 counts a series stands for their sum."""
    distribution = exact_distribution(IsingHamiltonian([-0.5 * math.log(2)], [], []))
    total = 0.0
    for mean in (number / 3, 2 * number / 3):
        counts = np.arange(1, 1000)
        total += stats.poisson.pmf(counts, mean) @ (counts * np.log(counts)) - mean * math.log(mean)
    assert expected_kl(distribution, number) == pytest.approx((total - 0.5) / number, rel=3e-5)


def test_moment_error(generator):
    hamiltonian = random_hamiltonian(graphs.rbm(5, 5))
    distribution = exact_distribution(hamiltonian)
    exact = Moments(*distribution.moments())
    errors = []
    for _ in range(40):
        samples = Samples(distribution.sample(500, generator))
        errors.append(moment_error(Moments.from_samples(samples, hamiltonian), exact, 500))
    for kind in ("spins", "pairs"):
        squares = torch.tensor([getattr(error, kind) ** 2 for error in errors])
        expected = getattr(errors[0], f"expected_{kind}") ** 2
        assert abs(squares.mean() - expected) < SIGMAS * squares.std() / 40**0.5
    assert moment_error(exact, exact, 500).pairs == 0
    uncoupled = Moments(torch.zeros(3), torch.zeros(0))
    assert moment_error(uncoupled, uncoupled, 100).expected_spins == pytest.approx(0.1)
    assert moment_error(uncoupled, uncoupled, 100).expected_pairs == 0


GRAPHS = [graphs.rbm(4, 4), graphs.complete(7), graphs.edge_list([(i, i + 1) for i in range(11)]), graphs.edge_list([], 4)]


@pytest.mark.parametrize("graph", GRAPHS, ids=["rbm", "complete", "chain", "no edges"])
@pytest.mark.parametrize("beta", [1.0, 0.6, 1.5, -0.5])
def test_effective_beta_finds_the_temperature(graph, beta, generator):
    hamiltonian = random_hamiltonian(graph)
    samples = exact_distribution(hamiltonian.replace(beta * hamiltonian.h, beta * hamiltonian.J)).sample(4000, generator)
    found = effective_beta(samples, hamiltonian)
    assert abs(found.value - beta) < SIGMAS * found.stderr
    assert found.stderr < 0.1


def test_effective_betas_error_bar(generator):
    hamiltonian = random_hamiltonian(graphs.complete(7), scale=0.8)
    distribution = exact_distribution(hamiltonian)
    found = [effective_beta(distribution.sample(1000, generator), hamiltonian) for _ in range(100)]
    spread = torch.tensor([estimate.value for estimate in found]).std()
    claimed = torch.tensor([estimate.stderr for estimate in found]).mean()
    # A standard deviation from 100 values is known to 7 %.
    assert abs(spread / claimed - 1) < SIGMAS * 0.07


def test_effective_beta_of_weighted_samples(generator):
    hamiltonian = random_hamiltonian(graphs.rbm(3, 3))
    distribution = exact_distribution(hamiltonian)
    everything = effective_beta(Samples(distribution.spins(), distribution.probabilities), hamiltonian)
    assert everything.value == pytest.approx(1.0, abs=1e-6)


def test_effective_beta_of_unequal_weights_has_the_error_of_a_sandwich():
    hamiltonian = IsingHamiltonian([0.5, -0.2, 0.1], [(0, 1), (1, 2)], [-0.8, 0.6])
    spins = torch.tensor([[1, 1, -1], [-1, -1, 1], [1, -1, 1], [-1, 1, -1], [-1, -1, -1]])
    weights = np.array([0.4, 0.3, 0.1, 0.15, 0.05])
    h, J = hamiltonian.h.tolist(), hamiltonian.J.tolist()
    fields = [(h[0] + J[0] * b, h[1] + J[0] * a + J[1] * c, h[2] + J[1] * b) for a, b, c in spins.tolist()]
    x = -2 * spins.numpy() * np.array(fields)

    def scores(beta):
        return (x / (1 + np.exp(beta * x))).sum(1)

    beta = optimize.brentq(lambda beta: weights @ scores(beta), -10, 10)
    curvature = weights @ (x**2 / (2 + 2 * np.cosh(beta * x))).sum(1)
    found = effective_beta(Samples(spins.to(torch.int8), torch.from_numpy(weights)), hamiltonian)
    assert found.value == pytest.approx(beta, rel=1e-6)
    assert found.stderr == pytest.approx(math.sqrt((weights**2) @ scores(beta) ** 2) / curvature, rel=1e-6)


def test_effective_beta_takes_any_scale(generator):
    hamiltonian = random_hamiltonian(graphs.complete(6))
    samples = exact_distribution(hamiltonian).sample(2000, generator)
    plain = effective_beta(samples, hamiltonian).value
    for scale in (1e-4, 1e4):
        found = effective_beta(samples, hamiltonian.replace(scale * hamiltonian.h, scale * hamiltonian.J)).value
        assert found == pytest.approx(plain / scale, rel=1e-5)


def test_effective_beta_where_nothing_can_be_said():
    spins = torch.tensor([[-1, -1], [-1, 1]])
    assert math.isnan(effective_beta(spins, IsingHamiltonian([0.0, 0.0], [(0, 1)], [0.0])).value)
    assert math.isnan(effective_beta(spins, IsingHamiltonian([1.0, 0.0], [], [], gamma=0.5)).value)
    assert math.isnan(effective_beta(torch.zeros(2, 0), IsingHamiltonian([], [], [])).value)
    assert effective_beta(spins, IsingHamiltonian([1.0, 0.0], [], [])).value == math.inf
    assert effective_beta(spins, IsingHamiltonian([-1.0, 0.0], [], [])).value == -math.inf


def test_effective_beta_leaves_gradients_alone():
    hamiltonian = random_hamiltonian(graphs.rbm(2, 2))
    attached = hamiltonian.replace(hamiltonian.h.requires_grad_(), hamiltonian.J.requires_grad_())
    spins = torch.tensor([[1, -1, 1, 1], [-1, -1, 1, -1], [1, 1, 1, 1]])
    with torch.no_grad():
        assert math.isfinite(effective_beta(spins, attached).value)
    assert attached.h.grad is None


def autoregressive(draws, chains, memory, generator):
    noise = torch.randn(draws, chains, generator=generator) * (1 - memory**2) ** 0.5
    x = torch.empty(draws, chains)
    x[0] = torch.randn(chains, generator=generator)
    for t in range(1, draws):
        x[t] = memory * x[t - 1] + noise[t]
    return x


@pytest.mark.parametrize("memory", [0.0, 0.5, 0.9, -0.5])
def test_effective_sample_size_of_autoregressive_chains(memory, generator):
    found = [effective_sample_size(autoregressive(2000, 4, memory, generator)) for _ in range(5)]
    assert sum(found) / 5 == pytest.approx(8000 * (1 - memory) / (1 + memory), rel=0.15)


def test_chains_that_do_not_agree(generator):
    apart = torch.randn(500, 4, generator=generator) + torch.tensor([0.0, 0.0, 0.0, 3.0])
    drifting = torch.randn(500, 4, generator=generator) + torch.linspace(0, 3, 500).unsqueeze(1)
    mixed = torch.randn(500, 4, generator=generator)
    assert r_hat(mixed) == pytest.approx(1.0, abs=0.01)
    # W = 1 and B/N = var(0, 0, 0, 3) over halves = 9 * (1/4 * 3/4) * 8/7
    assert r_hat(apart) == pytest.approx((1 + 9 * 3 / 16 * 8 / 7) ** 0.5, rel=0.05)
    # Halves' means are 0.75 and 2.25, their variances 1 + 1.5^2 / 12.
    assert r_hat(drifting) == pytest.approx((1 + 0.75**2 * 8 / 7 / 1.1875) ** 0.5, rel=0.05)
    assert effective_sample_size(apart) < 20
    assert effective_sample_size(mixed) > 1500


def test_r_hat_of_a_few_draws_by_hand():
    """Of five draws the one in the middle is in neither half."""
    found = r_hat(torch.tensor([[1.0, 0.0], [3.0, 1.0], [9.0, 9.0], [2.0, 5.0], [4.0, 7.0]]))
    within, between = (2 + 0.5 + 2 + 2) / 4, np.var([2.0, 0.5, 3.0, 6.0], ddof=1)
    assert found == pytest.approx(math.sqrt(1 / 2 + between / within))


@pytest.mark.parametrize("chains", [1, 3])
def test_the_effective_sample_size_by_loops(chains, generator):
    """Vehtari et al. 2021, equations 10 to 13, without a Fourier transform."""
    draws = 25
    x = autoregressive(draws, chains, 0.8, generator).double().numpy() + 0.3 * np.arange(chains)
    centred = x - x.mean(0)
    variances = x.var(0, ddof=1)
    pooled = variances.mean() * (draws - 1) / draws + (x.mean(0).var(ddof=1) if chains > 1 else 0.0)
    rho = [1.0]
    for lag in range(1, draws):
        products = [sum(centred[t, c] * centred[t + lag, c] for t in range(draws - lag)) / draws for c in range(chains)]
        rho.append(1 - (variances.mean() - np.mean(products) * draws / (draws - 1)) / pooled)
    total, least, pair = 0.0, math.inf, 0
    while 2 * pair + 1 < draws and rho[2 * pair] + rho[2 * pair + 1] >= 0:
        least = min(least, rho[2 * pair] + rho[2 * pair + 1])
        total, pair = total + least, pair + 1
    assert effective_sample_size(torch.from_numpy(x)) == pytest.approx(draws * chains / (2 * total - 1), rel=1e-6)


def test_draws_that_take_turns_claim_no_more_than_a_bound():
    turns = (-1.0) ** torch.arange(100).unsqueeze(1) * torch.tensor([1.0, 1.01])
    assert effective_sample_size(turns) == pytest.approx(200 * math.log10(200))


def test_chains_that_stand_still():
    still = torch.ones(100, 3)
    assert math.isnan(r_hat(still))
    assert math.isnan(effective_sample_size(still))
    assert r_hat(still * torch.arange(3)) == math.inf
    assert effective_sample_size(still * torch.arange(3)) <= 3
    assert math.isnan(r_hat(torch.randn(3, 2)))
    with pytest.raises(ValueError, match=r"must have shape \(draws, chains\), but have \(5,\)"):
        r_hat(torch.zeros(5))
