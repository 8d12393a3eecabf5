"""A sampler's own temperature: against Gibbs samples of a known one."""

import math

import pytest
import torch

from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import Estimate, effective_beta
from qvae.sampling.sampler import Samples
from qvae.sampling.temperature import BetaFilter, energy_matching_beta


def problem(seed=0):
    generator = torch.Generator().manual_seed(seed)
    graph = graphs.complete(9)
    return IsingHamiltonian(0.5 * torch.randn(9, generator=generator), graph, 0.4 * torch.randn(36, generator=generator))


def samples_at(beta, hamiltonian, number, seed=0):
    scaled = hamiltonian.replace(beta * hamiltonian.h, beta * hamiltonian.J)
    return exact_distribution(scaled).sample(number, torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("beta", [0.4, 1.0, 2.0])
def test_matched_energies_give_the_temperature_within_their_error(beta):
    hamiltonian = problem()
    found = [
        energy_matching_beta(samples_at(beta, hamiltonian, 2000, seed), hamiltonian, torch.Generator().manual_seed(seed))
        for seed in range(10)
    ]
    pulls = torch.tensor([(estimate.value - beta) / estimate.stderr for estimate in found])
    assert float(pulls.abs().max()) < 4.5
    assert 0.3 < float(pulls.square().mean().sqrt()) < 1.9  # as wide as it says, within what ten of them tell
    assert all(estimate.stderr < 0.1 * max(1, beta) for estimate in found)


def test_weights_count_as_samples_do():
    """Uniform spins weighed to a temperature of 0.5."""
    hamiltonian = problem(2)
    spins = samples_at(0.0, hamiltonian, 20000)
    weighed = Samples(spins, torch.softmax(-0.5 * hamiltonian.energy(spins), 0))
    found = energy_matching_beta(weighed, hamiltonian, torch.Generator().manual_seed(0))
    assert abs(found.value - 0.5) < 4.5 * found.stderr
    assert found.stderr < 0.1


def test_the_error_bar_is_that_of_both_mean_energies_by_the_samples_weights():
    """A reference that isn't swept has the samples' own energies: sqrt(2 Var / N) / Var, N what unequal weights are worth."""
    hamiltonian = problem()
    spins = samples_at(1.0, hamiltonian, 50)
    variance = float(hamiltonian.energy(spins).var())
    found = energy_matching_beta(spins, hamiltonian, torch.Generator().manual_seed(0), sweeps=0)
    assert (found.value, found.stderr) == (1.0, pytest.approx((2 / variance / 50) ** 0.5, rel=1e-5))
    weighed = Samples(spins, torch.arange(1.0, 51) / 1275)
    drawn = weighed.equal_weights(torch.Generator().manual_seed(0)).spins
    found = energy_matching_beta(weighed, hamiltonian, torch.Generator().manual_seed(0), sweeps=0)
    worth = 1275**2 / sum(weight**2 for weight in range(1, 51))
    assert found.stderr == pytest.approx((2 / float(hamiltonian.energy(drawn).var()) / worth) ** 0.5, rel=1e-5)


@pytest.mark.parametrize(("beta", "after"), [(6.0, 2.0), (-2.0, 0.5)])
def test_a_step_of_newton_s_doubles_or_halves_at_most(beta, after):
    hamiltonian = problem()
    samples = samples_at(beta, hamiltonian, 500)
    assert energy_matching_beta(samples, hamiltonian, torch.Generator().manual_seed(0), steps=1).value == after


def test_both_estimates_see_the_same_temperature():
    hamiltonian = problem(1)
    samples = samples_at(1.5, hamiltonian, 4000)
    matched = energy_matching_beta(samples, hamiltonian, torch.Generator().manual_seed(0))
    likely = effective_beta(samples, hamiltonian)
    assert abs(matched.value - likely.value) < 5 * math.hypot(matched.stderr, likely.stderr)


def test_energies_without_spread_say_nothing():
    free = IsingHamiltonian([0.0, 0.0], [(0, 1)], [0.0])
    quantum = IsingHamiltonian([1.0], [], [], gamma=1.0)
    for hamiltonian in (free, quantum):
        spins = torch.ones(10, hamiltonian.num_spins, dtype=torch.int8)
        assert math.isnan(energy_matching_beta(spins, hamiltonian, torch.Generator()).value)


def test_the_filter_s_steps_by_hand():
    """Predict with the drift's variance, weigh with the measurement's; what can't be true is a jump."""
    beta = BetaFilter(2.0, variance=0.01, drift=0.1)
    beta.update(Estimate(2.1, 0.2))  # 0.01 + 0.2^2 beside 0.2^2
    assert (beta.value, beta.variance) == (pytest.approx(2.0 + 0.1 * 5 / 9), pytest.approx(0.05 * 4 / 9))
    assert BetaFilter(3.0).variance == 9
    assert BetaFilter(3.0).stderr == 3
    for measured, value in ((100.0, 4.0), (0.001, 1.0)):  # never more than doubled or halved
        beta = BetaFilter(2.0, variance=0.01)
        beta.update(Estimate(measured, 0.1))
        assert beta.value == value
        surprise = (measured - 2) ** 2
        assert beta.variance == pytest.approx(surprise * 0.01 / (surprise + 0.01))


def test_a_jump_is_five_deviations_of_what_is_known_and_measured_together():
    for measured, predicted in ((3.58, 0.01), (3.6, 1.6**2)):  # sqrt(25 (0.1^2 + 0.3^2)) is 1.58
        beta = BetaFilter(2.0, variance=0.01, drift=0.0)
        beta.update(Estimate(measured, 0.3))
        gain = predicted / (predicted + 0.09)
        assert beta.value == pytest.approx(2.0 + gain * (measured - 2))
        assert beta.variance == pytest.approx((1 - gain) * predicted)


def test_the_filter_follows_a_drift_and_ignores_what_says_nothing():
    beta, generator = BetaFilter(3.0), torch.Generator().manual_seed(0)
    pulls = []
    for step in range(400):
        true = 2.0 + 0.002 * step
        noise = 0.1 * float(torch.randn((), generator=generator))
        beta.update(Estimate(true + noise, 0.1))
        beta.update(Estimate(math.nan, math.nan))
        beta.update(Estimate(math.inf, 0.1))
        if step > 50:
            pulls.append((beta.value - true) / beta.stderr)
    assert beta.stderr < 0.06
    assert max(map(abs, pulls)) < 4.5
    copy = BetaFilter(1.0)
    copy.load_state_dict(beta.state_dict())
    assert (copy.value, copy.variance) == (beta.value, beta.variance)
