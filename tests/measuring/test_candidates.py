"""Candidates: noise and bias in units of what is allowed, more chains against noise, lag, and faults that are told."""

import math

import pytest
import torch

from qvae.config.backends import BackendSpec
from qvae.measuring import candidates
from qvae.measuring.candidates import judge
from qvae.measuring.problems import make_problem
from qvae.measuring.truth import find_truth
from qvae.sampling.sampler import Capabilities, LatentSampler, Moments, Samples

PARAMETERS = 500


@pytest.fixture(scope="module")
def truth():
    return find_truth(make_problem("rbm-weak:3x3").hamiltonian, 1.0)


def candidate_of(errors, truth, allowed, chains=100):
    return candidates._candidate(BackendSpec(name="gibbs"), errors, [0.002, 0.003, 0.004], truth, allowed, chains)


def errors_of(noise, bias, repeats=8, seed=0):
    """Errors whose squares, summed over parameters, are ``noise`` on average and ``bias``."""
    generator = torch.Generator().manual_seed(seed)
    scatter = math.sqrt(noise / PARAMETERS) * torch.randn(repeats, PARAMETERS, generator=generator, dtype=torch.float64)
    return scatter + math.sqrt(bias / PARAMETERS)


def test_noise_and_bias_in_units_of_what_is_allowed(truth):
    found = candidate_of(errors_of(noise=0.5, bias=0.2), truth, allowed=1.0)
    # Sums over 500 parameters and 8 repetitions: within a few percent, the bias's cross term included.
    assert found.noise == pytest.approx(0.5, rel=0.15)
    assert found.bias == pytest.approx(0.2, rel=0.3)
    assert found.reaches
    assert (found.chains, found.milliseconds, found.repeats) == (100, 3.0, 8)


def test_noise_is_cured_by_chains_and_bias_is_not(truth):
    noisy = candidate_of(errors_of(noise=3.0, bias=0.0), truth, allowed=1.0)
    assert noisy.reaches
    assert (noisy.chains, noisy.milliseconds) == (400, 12.0)
    assert noisy.total < 1
    biased = candidate_of(errors_of(noise=0.1, bias=2.0), truth, allowed=1.0)
    assert not biased.reaches
    assert biased.chains == 100
    hopeless = candidate_of(errors_of(noise=100.0, bias=0.0), truth, allowed=1.0)
    assert not hopeless.reaches


class Lagging(LatentSampler):
    """Gives the exact moments of the call before."""

    capabilities = Capabilities(persistent=True, exact=True)

    def __init__(self):
        self.before = None

    def _sample(self, hamiltonian, num_samples):
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))

    def _moments(self, hamiltonian, num_samples):
        now = find_truth(hamiltonian, 1.0).moments
        found, self.before = self.before or now, now
        return Moments(found.spins.to(hamiltonian.h), found.pairs.to(hamiltonian.h))


def test_chains_that_lag_behind_a_moving_prior_are_biased(truth, made):
    hamiltonian = make_problem("rbm-weak:3x3").hamiltonian
    errors = {}
    for step in (0.01, 0.02):
        spec = made(lambda seed: Lagging())
        (errors[step],) = candidates._repetitions(spec, hamiltonian, truth, 10, step, 5.0, [])
    # One step of the prior's own size along itself, in linear order.
    assert float(errors[0.01].norm()) > 0
    assert float(errors[0.02].norm() / errors[0.01].norm()) == pytest.approx(2, rel=0.1)


class Endless(LatentSampler):
    def _sample(self, hamiltonian, num_samples):
        while True:
            pass


def test_a_candidate_that_fails_or_takes_too_long_is_told(truth, made):
    hamiltonian = make_problem("rbm-weak:3x3").hamiltonian

    def fail(seed):
        raise RuntimeError("no.")

    found = judge(made(fail), hamiltonian, truth, 1.0, 10, 0.001, 1.0)
    assert (found.repeats, found.why) == (0, "RuntimeError: no")
    found = judge(made(lambda seed: Endless()), hamiltonian, truth, 1.0, 10, 0.001, 0.2)
    assert "takes longer than its share" in found.why
