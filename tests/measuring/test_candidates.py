"""Candidates: noise and bias in units of what is allowed, more chains against noise, lag, and faults that are told."""

import math
from types import SimpleNamespace

import pytest
import torch

from qvae.config.backends import BackendSpec
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring import candidates
from qvae.measuring.candidates import judge, settings_to_try
from qvae.measuring.problems import make_problem
from qvae.measuring.truth import Truth, find_truth
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


def test_a_verdict_by_hand(truth):
    """Of two repetitions' errors a and b of one parameter the square is (a^2 + b^2) / 2, and the bias's a b."""

    def verdict(*errors, allowed=2.0, truth=truth):
        found = candidate_of(torch.tensor([[error] for error in errors]).double(), truth, allowed)
        return found.chains, found.milliseconds, found.noise, found.bias, found.reaches

    assert verdict(3.0, 1.0) == (100, 3.0, pytest.approx(1.0), pytest.approx(1.5), False)
    assert verdict(3.0, -1.0) == (400, 12.0, pytest.approx(2.5 / 4), 0.0, True)
    assert verdict(2.0) == (200, 6.0, 1.0, None, True)  # one says nothing of a bias, and as much as is allowed will do
    assert verdict(8.0, allowed=4.0) == (1600, 48.0, 1.0, None, True)
    assert verdict(8.0, allowed=3.9) == (100, 3.0, pytest.approx(64 / 3.9), None, False)
    assert verdict(8.0, 1.0, allowed=0.0) == (100, 3.0, 0.0, 0.0, True)  # where nothing varies, nothing can be wrong
    # The truth's own square of error, 0.25 + 0.25, is taken off, and half of it, that of one of two parameters, off the bias.
    known = Truth("by hand", truth.moments, *torch.tensor([[0.5], [0.5]]).double(), 0.0, 0.0, 1.0, None, 0.0)
    two = torch.tensor([[3.0, 3.0], [1.0, 1.0]]).double()
    found = candidate_of(two, known, allowed=2.0)
    assert found.bias == pytest.approx((3 - 0.25) * 2 / 2)
    assert found.total == pytest.approx((10 - 0.5) / 2)


def test_a_few_settings_of_each_local_sampler_that_takes_the_prior_are_tried(monkeypatch):
    local = [BackendSpec(name=name) for name in ("exact", "gibbs", "path_integral")]
    monkeypatch.setattr(candidates, "local_samplers", lambda: (local, {}))

    def tried(hamiltonian, configured=None):
        specs = settings_to_try(configured or BackendSpec(name="exact"), hamiltonian)
        return [(spec.name, dict(spec.options)) for spec in specs]

    sweeps = [{"sweeps": count} for count in (1, 5, 20, 80)]
    tempered = [{"tempering": 8, "sweeps": count} for count in (5, 20)]
    annealed = [{"annealing": count, "persistent": False} for count in (5, 20)]
    of_gibbs = [("gibbs", options) for options in (*sweeps, *tempered, *annealed)]
    # A transverse field is path_integral's trade; without one its defaults will do.
    assert tried(make_problem("rbm-weak:3x3").hamiltonian) == [("exact", {}), *of_gibbs, ("path_integral", {})]
    in_field = tried(make_problem("glass:n=6,gamma=1").hamiltonian)
    assert in_field == [("exact", {}), *(("path_integral", options) for options in sweeps)]
    large = tried(make_problem("rbm-weak:20x20").hamiltonian, BackendSpec(name="path_integral"))
    assert large == [("path_integral", {}), *of_gibbs]
    given = BackendSpec(name="gibbs", options={"sweeps": 20})
    same = tried(make_problem("rbm-weak:3x3").hamiltonian, given)
    assert same[0] == ("gibbs", {"sweeps": 20})
    assert same.count(same[0]) == 1


class Walking(LatentSampler):
    """Takes a hundredth of a second for each call, and remembers how large the fields were."""

    capabilities = Capabilities(persistent=True)

    def __init__(self, now, sizes):
        self.now, self.sizes = now, sizes

    def _sample(self, hamiltonian, num_samples):
        self.now[0] += 0.01
        self.sizes.append(float(hamiltonian.h[0]))
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


@pytest.mark.parametrize("persistent", [True, False])
def test_chains_follow_the_prior_for_as_many_steps_as_there_is_time_for(persistent, made, monkeypatch):
    """Of 0.84 s each of eight repetitions has 0.105: a first call and nine steps. h and J are 2: a step of 0.01 is half a %."""
    now, sizes, calls, seeds = [0.0], [], [], []
    monkeypatch.setattr(candidates, "time", SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0]))
    monkeypatch.setattr(Walking, "capabilities", Capabilities(persistent=persistent))
    hamiltonian = IsingHamiltonian([2.0, 2.0], [(0, 1)], [-2.0])
    truth = find_truth(hamiltonian, 1.0)
    spec = made(lambda seed: seeds.append(seed) or Walking(now, sizes))
    errors = list(candidates._repetitions(spec, hamiltonian, truth, 10, 0.01, 0.84, calls))
    assert seeds == [1000 + repeat for repeat in range(8)]
    way = [2.0 * (1 - 0.005 * left) for left in range(9, -1, -1)] if persistent else [2.0]
    assert sizes == pytest.approx([2.0] * (3 if persistent else 0) + 8 * way)
    # Of each the first call of the way is no call as training makes it.
    assert calls == pytest.approx([0.01] * 8 * max(1, len(way) - 1))
    all_up = [1 - float(truth.moments.spins[0])] * 2 + [1 - float(truth.moments.pairs[0])]
    assert all(error.tolist() == pytest.approx(all_up, abs=1e-6) for error in errors)
    assert len(list(candidates._repetitions(spec, hamiltonian, truth, 10, 0.01, 0.02, []))) == (1 if persistent else 2)


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
    assert (found.repeats, found.why, found.reaches) == (0, "RuntimeError: no", False)
    found = judge(made(lambda seed: Endless()), hamiltonian, truth, 1.0, 10, 0.001, 0.2)
    assert "takes longer than its share" in found.why
