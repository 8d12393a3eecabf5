"""p(seen | z) against sums and integrals over all rows x that may be behind what was seen."""

import itertools
from types import SimpleNamespace

import pytest
import torch

from qvae.applications.observation import Flipped, Noisy, PartlyHidden, Pooled
from qvae.config.schema import TrainingConfig
from qvae.errors import CapabilityError
from qvae.models.likelihoods.bernoulli import Bernoulli
from qvae.models.likelihoods.categorical import Categorical
from qvae.models.likelihoods.gaussian import Gaussian
from qvae.models.likelihoods.likelihood import Statistics
from qvae.training.objectives.variational import _corruption

SHAPE = (2, 4)
ALL = torch.tensor(list(itertools.product([0.0, 1.0], repeat=8)))  # (256, 8)


@pytest.fixture
def output():
    return 2 * torch.randn(3, 5, 8, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def bits():
    return Bernoulli(Statistics.blank(SHAPE))


@pytest.fixture
def gaussian():
    found = Gaussian(Statistics(torch.linspace(-1, 1, 8), torch.linspace(0.5, 2, 8)), variance="features")
    with torch.no_grad():
        found.log_variance.copy_(torch.linspace(-2, 1, 8))
    return found


def rows(seed, size=(3, 8)):
    return (torch.rand(size, generator=torch.Generator().manual_seed(seed)) < 0.5).float()


def require_equal_up_to_constants(found, expected, tolerance=1e-4):
    found, expected = (values - values.mean(1, keepdim=True) for values in (found, expected))
    torch.testing.assert_close(found, expected.to(found), atol=tolerance, rtol=0)


def by_sums(likelihood, output, log_channel):
    """log sum over x of p(x | output) p(seen | x), log_channel (B, 256)."""
    log_p = likelihood.log_prob(output.unsqueeze(2), ALL)  # (B, K, 256)
    return (log_p.double() + log_channel.double().unsqueeze(1)).logsumexp(2)


def test_hidden_bits_are_summed_out(bits, output):
    seen, hidden = rows(1), rows(2).bool()
    agrees = ((seen.unsqueeze(1) == ALL) | hidden.unsqueeze(1)).all(2)
    found = PartlyHidden(bits, seen, hidden)
    require_equal_up_to_constants(found.log_prob(output), by_sums(bits, output, agrees.float().log()))
    means = bits.mean(output)
    for done, x, mean, is_hidden in zip(found.completed(means), seen, means, hidden, strict=True):
        assert torch.equal(done, torch.where(is_hidden, mean, x))


@pytest.mark.parametrize(("damage", "amount"), [("hidden", 0.3), ("coarse", 2)])
def test_a_trained_encoder_is_shown_damage_as_in_its_training(gaussian, damage, amount):
    model = SimpleNamespace(likelihood=gaussian, parameters=gaussian.parameters, shape=SHAPE)
    corruption = _corruption(model, TrainingConfig(corruption=damage, corruption_amount=amount))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(4))
    damaged = corruption(x, torch.Generator().manual_seed(1))
    if damage == "hidden":
        observation = PartlyHidden(gaussian, x, damaged != x)
        assert 0 < int((damaged != x).sum()) < x.numel()
    else:
        observation = Pooled(gaussian, x.unflatten(1, (2, 2, 2)).mean((1, 3)), 2, SHAPE)
    torch.testing.assert_close(observation.picture(), damaged)


def test_hidden_features_of_any_likelihood_don_t_matter(gaussian, output):
    hidden = rows(2).bool()
    categorical = Categorical(Statistics.blank(SHAPE, levels=3))
    several = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1))
    x = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    for likelihood, given, seen in ((gaussian, output, x), (categorical, several, 2 * rows(1))):
        found = PartlyHidden(likelihood, seen, hidden)
        value = found.log_prob(given)
        numbers = given.unflatten(-1, (likelihood.outputs, 8))
        other = torch.where(hidden[:, None, None], numbers + 3, numbers).flatten(-2)
        torch.testing.assert_close(found.log_prob(other), value)
        nothing = PartlyHidden(likelihood, seen, torch.zeros_like(hidden)).log_prob(given)
        torch.testing.assert_close(nothing, likelihood.log_prob(given, seen.unsqueeze(1)))
        assert not torch.allclose(found.log_prob(2 * given), value)


@pytest.mark.parametrize("ones", [0.5, 0.0])
def test_flipped_bits_are_summed_out(bits, output, ones):
    seen, rate = rows(1), 0.3
    channel = rate * torch.where(seen == 1, ones, 1 - ones).unsqueeze(1) + (1 - rate) * (seen.unsqueeze(1) == ALL)
    log_channel = channel.log().sum(2)
    found = Flipped(bits, seen, rate, ones)
    require_equal_up_to_constants(found.log_prob(output), by_sums(bits, output, log_channel))
    joint = (bits.log_prob(output.unsqueeze(2), ALL) + log_channel.unsqueeze(1)).softmax(2)
    torch.testing.assert_close(found.completed(bits.mean(output)), joint @ ALL, atol=1e-5, rtol=0)


def test_noise_on_bits_is_summed_out(bits, output):
    seen, sigma = torch.randn(3, 8, generator=torch.Generator().manual_seed(3)), 0.6
    log_channel = -((seen.unsqueeze(1) - ALL) ** 2).sum(2) / (2 * sigma**2)
    found = Noisy(bits, seen, sigma)
    require_equal_up_to_constants(found.log_prob(output), by_sums(bits, output, log_channel))
    joint = (bits.log_prob(output.unsqueeze(2), ALL) + log_channel.unsqueeze(1)).softmax(2)
    torch.testing.assert_close(found.completed(bits.mean(output)), joint @ ALL, atol=1e-5, rtol=0)


@pytest.mark.parametrize("factor", [1, 2])
def test_means_of_squares_of_bits_are_counted(bits, output, factor):
    hidden = rows(1)
    squares = {1: lambda x: x, 2: lambda x: x.unflatten(-1, SHAPE).unflatten(-1, (2, 2)).mean((-3, -1))}[factor]
    seen = squares(hidden)
    agrees = (seen.unsqueeze(1) == squares(ALL)).all(2)
    found = Pooled(bits, seen, factor, SHAPE)
    require_equal_up_to_constants(found.log_prob(output), by_sums(bits, output, agrees.float().log()))
    done = found.completed(torch.full((1, 1, 8), 0.5))
    torch.testing.assert_close(squares(done.squeeze(1)), seen)


@pytest.mark.parametrize("white", [0.0, 0.5, 1.0])
def test_what_no_latents_explain_has_a_probability_still(white):
    """196 pixels that are surely black or white: P(98 are white) is less than float64 has numbers for."""
    observation = Pooled(Bernoulli(Statistics.blank((14, 14))), torch.full((1, 1), white), 14, (14, 14))
    output = torch.tensor([-20.0, 20.0]).view(1, 2, 1).repeat(1, 1, 196).requires_grad_()
    found = observation.log_prob(output)
    assert bool(found.isfinite().all())
    assert float(found.detach()[0, 0] - found.detach()[0, 1]) * (0.5 - white) >= 0  # black pixels explain a black image
    assert bool(torch.autograd.grad(found.sum(), output)[0].isfinite().all())


def test_grey_levels_stand_for_the_bits_drawn_of_them(bits, output):
    grey = torch.rand(3, 8, generator=torch.Generator().manual_seed(4))
    draws = (torch.rand(4000, 3, 8, generator=torch.Generator().manual_seed(5)) < grey).float()
    for make in (
        lambda seen: Pooled(bits, seen, 1, SHAPE),
        lambda seen: Flipped(bits, seen, 0.2, 0.5),
        lambda seen: PartlyHidden(bits, seen, torch.zeros(3, 8, dtype=torch.bool)),
    ):
        values = torch.stack([make(draw).log_prob(output) for draw in draws])
        error = values.std(0) / len(draws) ** 0.5
        assert ((make(grey).log_prob(output) - values.mean(0)).abs() < 5 * error).all()


def test_noise_and_means_of_normal_reals_are_normal(gaussian, output):
    """Against the density of a joint normal, by its covariance matrix."""
    seen = torch.randn(3, 8, generator=torch.Generator().manual_seed(3))
    variance = (gaussian.scale**2 * gaussian.variance).detach()
    pool = torch.zeros(2, 8)
    for pixel in range(8):
        pool[(pixel % 4) // 2, pixel] = 0.25
    for found, matrix, noise, values in (
        (Noisy(gaussian, seen, 0.6), torch.eye(8), 0.36 * torch.eye(8), seen),
        (Pooled(gaussian, seen[:, :2], 2, SHAPE), pool, torch.zeros(2, 2), seen[:, :2]),
    ):
        covariance = matrix @ torch.diag(variance) @ matrix.T + noise
        normal = torch.distributions.MultivariateNormal(gaussian.mean(output) @ matrix.T, covariance)
        require_equal_up_to_constants(found.log_prob(output).detach(), normal.log_prob(values.unsqueeze(1)).detach(), 1e-3)
        mean = gaussian.mean(output)
        gain = torch.diag(variance) @ matrix.T @ torch.linalg.inv(covariance)
        if noise.any():
            expected = mean + (values.unsqueeze(1) - mean @ matrix.T) @ gain.T
            torch.testing.assert_close(found.completed(mean), expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(found.completed(mean) @ pool.T, values.unsqueeze(1).expand(3, 5, 2), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("shape", "factor"), [((4, 6), 2), ((3, 4, 6), 2), ((2, 3, 6), 3)])
def test_squares_are_those_of_each_channel_in_the_order_of_the_coarse_pixels(shape, factor):
    """Against loops over channels, squares and the pixels of each."""
    *channels, height, width = shape
    number = channels[0] if channels else 1
    rows = torch.randn(2, number * height * width, generator=torch.Generator().manual_seed(0))
    pixels = rows.view(2, number, height, width)
    coarse = torch.zeros(2, number, height // factor, width // factor)
    for channel, i, j in itertools.product(range(number), range(height // factor), range(width // factor)):
        square = pixels[:, channel, factor * i : factor * (i + 1), factor * j : factor * (j + 1)]
        coarse[:, channel, i, j] = square.mean((1, 2))
    found = Pooled(Gaussian(Statistics.blank(shape)), coarse.flatten(1), factor, shape)
    torch.testing.assert_close(found._squares(rows).mean(-1), coarse.flatten(1))
    picture = found.picture().view(2, number, height, width)
    for i, j in itertools.product(range(height), range(width)):
        assert torch.equal(picture[:, :, i, j], coarse[:, :, i // factor, j // factor])


def test_a_channel_that_a_likelihood_lacks_is_refused(gaussian):
    categorical = Categorical(Statistics.blank(SHAPE, levels=3))
    for make in (lambda: Flipped(gaussian, rows(0), 0.1, 0.5), lambda: Noisy(categorical, rows(0), 1.0)):
        with pytest.raises(CapabilityError):
            make()
