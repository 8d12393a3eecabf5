"""Each likelihood against the formula it goes by, as others have written it (scipy), and against its own normalisation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch.nn import functional as F

from qvae.config.schema import ModelConfig
from qvae.models.likelihoods.bernoulli import Bernoulli
from qvae.models.likelihoods.categorical import Categorical
from qvae.models.likelihoods.counts import NegativeBinomial, Poisson
from qvae.models.likelihoods.gaussian import Gaussian
from qvae.models.likelihoods.likelihood import Statistics

NUM = 200_000


def rows(*values):
    return torch.tensor(values, dtype=torch.float32)


def test_bernoulli_keeps_the_bits_of_the_formulas_it_replaces():
    generator = torch.Generator().manual_seed(0)
    mean = torch.rand(8, 8, generator=generator).round(decimals=1)
    logits = 4 * torch.randn(50, 20, 64, generator=generator)
    x = torch.bernoulli(torch.rand(50, 64, generator=generator), generator=generator)
    likelihood = Bernoulli(Statistics(mean, torch.ones(8, 8)))
    assert likelihood.initial_bias().equal(torch.logit(mean.reshape(64).float().clamp(0.005, 0.995)))
    assert likelihood.input_mean().equal(mean.reshape(64))
    assert likelihood.features(x) is x
    assert likelihood.log_prob(logits[:, 0], x).equal(
        -F.binary_cross_entropy_with_logits(logits[:, 0], x, reduction="none").sum(-1)
    )
    many = torch.bmm(logits, x.unsqueeze(2)).squeeze(2) - F.softplus(logits).sum(2)
    assert likelihood.log_prob_draws(logits, x).equal(many)
    assert likelihood.mean(logits).equal(torch.sigmoid(logits))
    assert not likelihood.state_dict()  # models of 0.1.0 have no such keys


def test_bernoulli_against_scipy_and_normalised():
    likelihood = Bernoulli(Statistics.blank((2,)))
    logits = rows(0.3, -1.7)
    x = rows([0, 0], [0, 1], [1, 0], [1, 1])
    found = likelihood.log_prob(logits, x)
    expected = stats.bernoulli.logpmf(x.numpy(), torch.sigmoid(logits).numpy()).sum(1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.exp().sum().item() == pytest.approx(1, abs=1e-6)


def gaussian(variance="shared", log_variance=None, mean=(5.0, -200.0), std=(0.1, 40.0)):
    likelihood = Gaussian(Statistics(rows(*mean), rows(*std)), variance)
    if log_variance is not None:
        likelihood.log_variance.data = rows(*log_variance)
    return likelihood


@pytest.mark.parametrize(("variance", "log_variance"), [("shared", [-1.3]), ("features", [-1.3, 0.4])])
def test_gaussian_in_the_units_of_the_data(variance, log_variance):
    likelihood = gaussian(variance, log_variance)
    output, x = rows([0.5, -0.2], [2.0, 0.0]), rows([5.1, -230.0], [4.7, -90.0])
    deviation = np.array([0.1, 40.0]) * np.sqrt(1e-4 + np.exp(log_variance))
    mean = np.array([5.0, -200.0]) + np.array([0.1, 40.0]) * output.numpy()
    np.testing.assert_allclose(
        likelihood.log_prob(output, x).detach(), stats.norm.logpdf(x.numpy(), mean, deviation).sum(1), rtol=1e-4
    )
    np.testing.assert_allclose(likelihood.mean(output), mean, rtol=1e-6)
    samples = likelihood.sample(output[:1].expand(NUM, -1), torch.Generator().manual_seed(0)).detach().double().numpy()
    # The error of a normal sample's standard deviation is sigma / sqrt(2 N).
    assert (abs(samples.std(0) - deviation) < 5 * deviation / math.sqrt(2 * NUM)).all()


def test_gaussian_integrates_to_one():
    likelihood = gaussian(log_variance=[-0.7])
    x = torch.linspace(4, 6, 2001)
    fixed = torch.full_like(x, -200.0)
    density = likelihood.log_prob(torch.zeros(2), torch.stack([x, fixed], 1)).detach().double().exp()
    other = stats.norm.pdf(0, 0, 40 * math.sqrt(1e-4 + math.exp(-0.7)))
    assert torch.trapezoid(density, x.double()).item() == pytest.approx(other, rel=1e-4)


@pytest.mark.parametrize("variance", ["shared", "features"])
def test_gaussian_starts_at_the_variance_of_the_data(variance):
    likelihood = Gaussian.from_config(ModelConfig(likelihood="gaussian", variance=variance), Statistics.blank((3,)))
    torch.testing.assert_close(likelihood.variance, torch.ones(1 if variance == "shared" else 3))
    assert list(dict(likelihood.named_parameters())) == ["log_variance"]


def test_gaussian_variance_is_learned_from_the_data_and_stops_at_its_floor():
    likelihood = gaussian("features", [0.0, 0.0])
    x = rows(5.0, -200.0) + rows(0.05, 0.0) * torch.randn(4000, 2, generator=torch.Generator().manual_seed(0))
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.1)
    for _ in range(300):
        optimizer.zero_grad()
        (-likelihood.log_prob(torch.zeros(2), x).mean()).backward()
        optimizer.step()
    first, second = likelihood.variance.tolist()
    assert first == pytest.approx(((x[:, 0] - 5) / 0.1).square().mean().item(), rel=1e-3)
    assert 1e-4 < second < 1.1e-4
    assert likelihood.log_variance.grad.abs().max() < math.inf


def test_gaussian_units_of_a_feature_that_never_varies():
    likelihood = gaussian(mean=(0.1, 3.0), std=(3e-9, 2.0))  # 3e-9 is the rounding of a sum, no spread
    assert likelihood.scale.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("options", [{"variance": "each"}, {"min_variance": 0.0}, {"min_variance": 2.0}])
def test_gaussian_refuses(options):
    with pytest.raises(ValueError, match=f"{next(iter(options))} is"):
        Gaussian(Statistics.blank((1,)), **options)


MEANS = [0.01, 0.8, 35.0, 2e4, 3e6]


def counts_near(mean):
    spread = math.sqrt(mean)
    return np.unique(np.floor(np.clip([0, 1, mean - 2 * spread, mean, mean + 3 * spread], 0, None)))


@pytest.mark.parametrize("mean", MEANS)
def test_poisson_against_scipy(mean):
    likelihood = Poisson(Statistics.blank((1,)))
    output = rows(math.log(mean))
    for count in counts_near(mean):
        expected = stats.poisson.logpmf(count, math.exp(output.item()))
        assert likelihood.log_prob(output, rows(count)).item() == pytest.approx(expected, rel=1e-6, abs=1e-5)


def negative_binomial(dispersion):
    likelihood = NegativeBinomial(Statistics.blank((len(dispersion),)))
    likelihood.log_dispersion.data = rows(*dispersion).log()
    return likelihood


@pytest.mark.parametrize("mean", MEANS)
@pytest.mark.parametrize("dispersion", [1e-6, 0.02, 1.0, 40.0])
def test_negative_binomial_against_scipy(mean, dispersion):
    likelihood = negative_binomial([dispersion])
    r = 1 / likelihood.dispersion.item()
    output = rows(math.log(mean))
    m = math.exp(output.item())
    for count in counts_near(mean):
        expected = stats.nbinom.logpmf(count, r, r / (r + m))
        # 1 - r/(r+m) as scipy takes it loses digits of m where m is far below r: its error is about x eps r/m.
        allowed = 1e-5 + 4e-16 * count * (1 + r / m)
        assert likelihood.log_prob(output, rows(count)).item() == pytest.approx(expected, rel=2e-6, abs=allowed)


def test_a_negative_binomial_without_dispersion_is_a_poisson():
    likelihood, poisson = negative_binomial([1e-12]), Poisson(Statistics.blank((1,)))
    for mean in (0.5, 12.0, 300.0):
        output, x = rows(math.log(mean)), torch.arange(0.0, 400.0, 7).unsqueeze(1)
        torch.testing.assert_close(likelihood.log_prob(output, x), poisson.log_prob(output, x), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("likelihood", [Poisson(Statistics.blank((1,))), negative_binomial([0.5])], ids=lambda x: x.name)
@pytest.mark.parametrize("mean", [0.1, 3.0, 40.0])
def test_counts_sum_to_one_with_the_mean_they_say(likelihood, mean):
    x = torch.arange(3000.0).unsqueeze(1)
    probability = likelihood.log_prob(rows(math.log(mean)), x).detach().double().exp()
    assert probability.sum().item() == pytest.approx(1, abs=1e-5)
    assert (probability * x.squeeze(1)).sum().item() == pytest.approx(mean, rel=1e-4)
    assert likelihood.mean(rows(math.log(mean))).item() == pytest.approx(mean, rel=1e-5)


@pytest.mark.parametrize(
    ("likelihood", "dispersion"), [(Poisson(Statistics.blank((2,))), 0.0), (negative_binomial([0.5, 0.5]), 0.5)],
    ids=["poisson", "negative-binomial"],
)  # fmt: skip
def test_spread_of_samples(likelihood, dispersion):
    mean = np.array([0.6, 25.0])
    output = torch.tensor(mean).log().float().expand(NUM, -1)
    samples = likelihood.sample(output, torch.Generator().manual_seed(2)).detach().double().numpy()
    assert (samples == np.floor(samples)).all()
    variance = mean + dispersion * mean**2
    error = np.std((samples - mean) ** 2, axis=0) / math.sqrt(NUM)
    assert (abs(samples.var(0) - variance) < 5 * error).all()


def test_negative_binomial_starts_at_the_dispersion_of_the_data():
    likelihood = NegativeBinomial(Statistics(rows(4.0, 4.0, 0.0), rows(6.0, 1.0, 0.0)))
    assert likelihood.dispersion.tolist() == pytest.approx([32 / 16, 0.01, 0.01], rel=1e-5)
    assert list(dict(likelihood.named_parameters())) == ["log_dispersion"]


def test_a_mean_out_of_bounds_grows_on_without_overflow():
    likelihood = Poisson(Statistics.blank((3,)))
    output = rows(29.0, 31.0, 1000.0).requires_grad_()
    mean = likelihood.mean(output)
    torch.testing.assert_close(mean, math.exp(30) * rows(math.exp(-1), 2.0, 971.0), rtol=1e-5, atol=0)
    mean.sum().backward()
    assert (output.grad > 0).all()


def test_counts_are_log_normal_to_the_encoder():
    log = 1.5 + 0.8 * torch.randn(NUM, 1, generator=torch.Generator().manual_seed(5))
    x = torch.expm1(log)
    likelihood = Poisson(Statistics(x.mean(0), x.std(0)))
    assert likelihood.centre.item() == pytest.approx(1.5, abs=0.02)
    assert likelihood.scale.item() == pytest.approx(0.8, abs=0.02)


def test_categorical_is_a_multinomial_of_one():
    likelihood = Categorical(Statistics.blank((2,), levels=3))
    logits = torch.tensor([[0.2, -1.0], [1.4, 0.0], [-0.5, 2.0]])  # (K, D)
    probability = logits.double().softmax(0).numpy()
    x = torch.cartesian_prod(torch.arange(3.0), torch.arange(3.0))
    hot = likelihood.features(x).view(9, 3, 2).double().numpy()
    assert (hot.argmax(1) == x.numpy()).all()
    assert (hot.sum(1) == 1).all()
    found = likelihood.log_prob(logits.flatten(), x)
    expected = sum(stats.multinomial.logpmf(hot[:, :, d], 1, probability[:, d]) for d in range(2))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.double().exp().sum().item() == pytest.approx(1, abs=1e-6)
    assert likelihood.mean(logits.flatten()).tolist() == [1.0, 2.0]


def test_categorical_samples_have_their_probabilities():
    likelihood = Categorical(Statistics.blank((2,), levels=3))
    logits = torch.tensor([[0.2, -1.0], [1.4, 0.0], [-0.5, 2.0]])
    samples = likelihood.sample(logits.flatten().expand(NUM, -1), torch.Generator().manual_seed(0))
    for level in range(3):
        p = logits.softmax(0)[level]
        error = (p * (1 - p) / NUM).sqrt()
        assert (((samples == level).float().mean(0) - p).abs() < 5 * error).all()


def test_categorical_without_frequencies_starts_uniform_and_needs_the_number_of_categories():
    likelihood = Categorical(Statistics.blank((2, 2), levels=5))
    assert likelihood.initial_bias().equal(torch.zeros(20))
    assert likelihood.input_mean().equal(torch.full((20,), 0.2))
    with pytest.raises(ValueError, match="needs the number of categories"):
        Categorical(Statistics.blank((2,)))


def test_categorical_starts_at_the_frequencies_of_the_data():
    """Rare ones included; one that never was seen may be seen later."""
    frequencies = torch.tensor([[0.02, 0.0], [0.28, 0.5], [0.7, 0.5]])  # (K, D)
    likelihood = Categorical(Statistics(torch.zeros(2), torch.ones(2), 3, frequencies))
    torch.testing.assert_close(likelihood.initial_bias().view(3, 2).softmax(0), frequencies, atol=1.1e-4, rtol=0)
