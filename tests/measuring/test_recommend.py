"""Recommendations: what accuracy is needed, when more chains help, and which candidate is named."""

import math

import pytest
import torch

from qvae.config.schema import BackendSpec
from qvae.measuring import recommend as module
from qvae.measuring.problems import make_problem
from qvae.measuring.recommend import Candidate, Recommendation, recommend, recommendation_table, recommendation_text
from qvae.measuring.truth import find_truth
from qvae.sampling.sampler import Capabilities, LatentSampler, Moments, Samples

PARAMETERS = 500


@pytest.fixture(scope="module")
def truth():
    return find_truth(make_problem("rbm-weak:3x3").hamiltonian, 1.0)


def candidate_of(errors, truth, allowed, chains=100):
    return module._candidate(BackendSpec(name="gibbs"), errors, [0.002, 0.003, 0.004], truth, allowed, chains)


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


def test_the_cheapest_is_best_and_the_most_accurate_of_equals():
    def candidate(name, milliseconds, noise, reaches=True):
        return Candidate(BackendSpec(name=name), 100, milliseconds, noise, 0.0, reaches, 8)

    def best(*candidates):
        found = Recommendation("", "", "", list(candidates), BackendSpec(name="a"), "c.yaml")
        return found.best and found.best.spec.name

    assert best(candidate("a", 1.0, 0.5), candidate("b", 2.0, 0.1)) == "a"
    assert best(candidate("a", 1.0, 0.5), candidate("b", 1.1, 0.1)) == "b"
    assert best(candidate("a", 1.0, 3.0, False), candidate("b", 9.0, 0.1)) == "b"
    assert best(candidate("a", 1.0, 3.0, False)) is None


def test_the_positive_phase_of_two_kinds_of_images(truth):
    """Half of the codes are all up, half all down: each mean varies by 1, and no correlation varies."""

    class Model:
        prior = type("Prior", (), {"hamiltonian": lambda self: make_problem("rbm-weak:3x3").hamiltonian})()

        def code_means(self, images, generator):
            return images[:, :1].expand(-1, 6)

    class Data:
        train = torch.cat([torch.zeros(50, 1, 2, 2), torch.ones(50, 1, 2, 2)])

    original, module.binarize_fixed = module.binarize_fixed, lambda dataset, images, seed: images
    try:
        allowed, how = module._allowed_variance(Model(), Data(), 10, truth)
    finally:
        module.binarize_fixed = original
    assert allowed == pytest.approx(6 * 1 / 10)
    assert "a batch of 10 images (from the codes of 100)" in how
    allowed, how = module._allowed_variance(Model(), None, 10, truth)
    assert allowed == pytest.approx(float((1 - truth.moments.spins**2).sum() + (1 - truth.moments.pairs**2).sum()) / 10)
    assert "10 samples of the prior" in how


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
        return Moments(found.spins, found.pairs)


def test_chains_that_lag_behind_a_moving_prior_are_biased(truth, made):
    hamiltonian = make_problem("rbm-weak:3x3").hamiltonian
    errors = {}
    for step in (0.01, 0.02):
        spec = made(lambda seed: Lagging())
        (errors[step],) = module._repetitions(spec, hamiltonian, truth, 10, step, 5.0, [])
    # One step of the prior's own size along itself, in linear order.
    assert float(errors[0.01].norm()) > 0
    assert float(errors[0.02].norm() / errors[0.01].norm()) == pytest.approx(2, rel=0.1)


def test_a_candidate_that_fails_or_takes_too_long_is_told(truth, made):
    hamiltonian = make_problem("rbm-weak:3x3").hamiltonian

    def fail(seed):
        raise RuntimeError("no.")

    found = module._judge(made(fail), hamiltonian, truth, 1.0, 10, 0.001, 1.0)
    assert (found.repeats, found.why) == (0, "RuntimeError: no")
    found = module._judge(made(lambda seed: Endless()), hamiltonian, truth, 1.0, 10, 0.001, 0.2)
    assert "takes longer than its share" in found.why


class Endless(LatentSampler):
    def _sample(self, hamiltonian, num_samples):
        while True:
            pass


def test_six_spins_and_a_run(command, trained, tmp_path):
    (tmp_path / "six.yaml").write_text("model: {latent: {sizes: [3, 3]}, network: {hidden: [16]}}\n")
    found = recommend("six.yaml", 5.0, ["training.batch_size=200", "training.chains=128"])
    exact = next(candidate for candidate in found.candidates if candidate.spec.name == "exact")
    assert exact.reaches
    assert exact.noise == pytest.approx(0, abs=1e-9)
    assert found.best is not None
    text, line = recommendation_text(found)
    # It is either taken, or named with its cost among those that are not.
    assert "exact" in text
    assert line.startswith(f"qvae train six.yaml --sampler {found.best.spec.name}")
    assert "--set training.batch_size=200" in line  # what was asked for stays, and what is recommended replaces
    assert line.count("training.chains") == 1
    assert "this prior was trained for a moment" in found.warnings[0]
    assert "Truth: enumeration of 2^6 states" in recommendation_table(found).note
    code, out, err = command("samplers", "recommend", trained, "--seconds", 3)
    assert (code, err) == (0, "")
    assert f"qvae train {trained}/config.yaml --sampler" in out
    code, _, err = command("samplers", "recommend", "nothing.yaml")
    assert code == 2
    assert "nothing.yaml" in err
