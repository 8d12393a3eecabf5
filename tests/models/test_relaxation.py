"""Each relaxation against its own definition: distribution of zeta, bit behind it, gradients."""

import math

import pytest
import torch

from qvae.config.schema import RelaxationConfig
from qvae.models.relaxation import Gumbel, OverlappingExponentials, SpikeAndExponential, make_relaxation

RELAXATIONS = [Gumbel(0.5), OverlappingExponentials(6.0), SpikeAndExponential(6.0)]
NUM = 200_000


def draw(relaxation, logit, seed=0):
    logits = torch.full((NUM,), logit, requires_grad=True)
    return logits, relaxation.sample(logits, torch.Generator().manual_seed(seed))


def cdf(relaxation, logit, x):
    q = 1 / (1 + math.exp(-logit))
    if isinstance(relaxation, Gumbel):  # zeta < x when the noise is below temperature * logit(x) - l
        return 1 / (1 + math.exp(-(relaxation.temperature * math.log(x / (1 - x)) - logit)))
    b = relaxation.beta
    if isinstance(relaxation, SpikeAndExponential):
        return (1 - q) + q * math.expm1(b * x) / math.expm1(b)
    near_zero = math.expm1(-b * x) / math.expm1(-b)
    near_one = 1 - math.expm1(-b * (1 - x)) / math.expm1(-b)
    return q * near_one + (1 - q) * near_zero


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("logit", [-2.0, 0.3, 3.0])
def test_zeta_follows_its_distribution(relaxation, logit):
    _, zeta = draw(relaxation, logit)
    assert zeta.min() >= 0
    assert zeta.max() <= 1
    for x in (0.05, 0.3, 0.5, 0.8, 0.95):
        expected = cdf(relaxation, logit, x)
        error = math.sqrt(max(expected * (1 - expected), 1e-6) / NUM)
        assert abs((zeta <= x).float().mean().item() - expected) < 5 * error


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("logit", [-1.5, 0.4, 2.0])
def test_pathwise_gradient_is_that_of_the_mean(relaxation, logit):
    logits, zeta = draw(relaxation, logit)
    (grads,) = torch.autograd.grad(zeta.sum(), logits)
    step, x = 1e-4, torch.linspace(0, 1, 20001, dtype=torch.float64)[1:-1]

    def mean(shifted):  # E[zeta] = integral of 1 - CDF
        return 1 - sum(cdf(relaxation, shifted, v) for v in x.tolist()) / len(x)

    slope = (mean(logit + step) - mean(logit - step)) / (2 * step)
    error = grads.std().item() / math.sqrt(NUM)
    assert abs(grads.mean().item() - slope) < 5 * error + 1e-4


@pytest.mark.parametrize(
    "relaxation", [Gumbel(0.7), OverlappingExponentials(1.5), SpikeAndExponential(1.5)], ids=lambda r: type(r).__name__
)
def test_each_draw_has_the_slope_at_which_its_quantile_stays(relaxation):
    """Of wide and overlapping distributions, whose every term counts: d zeta/d l = -(dF/d l) / (dF/d zeta)."""
    logits = torch.linspace(-2, 2, 40, dtype=torch.float64, requires_grad=True)
    zeta = relaxation.sample(logits, torch.Generator().manual_seed(0))
    (slopes,) = torch.autograd.grad(zeta.sum(), logits)
    step, seen = 1e-5, 0
    for logit, value, slope in zip(logits.tolist(), zeta.tolist(), slopes.tolist(), strict=True):
        if value == 0:
            assert slope == 0
            continue
        in_logit = cdf(relaxation, logit + step, value) - cdf(relaxation, logit - step, value)
        in_value = cdf(relaxation, logit, value + step) - cdf(relaxation, logit, value - step)
        assert slope == pytest.approx(-in_logit / in_value, rel=1e-4)
        seen += 1
    assert seen > 10


@pytest.mark.parametrize("relaxation", RELAXATIONS[1:], ids=lambda r: type(r).__name__)
def test_bit_mean_averages_to_q_with_the_right_gradient(relaxation):
    logits, zeta = draw(relaxation, 0.7)
    nu = relaxation.bit_mean(logits, zeta)
    q = torch.sigmoid(torch.tensor(0.7)).item()
    assert abs(nu.mean().item() - q) < 5 * nu.std().item() / math.sqrt(NUM)
    (grads,) = torch.autograd.grad(nu.sum(), logits)
    assert abs(grads.mean().item() - q * (1 - q)) < 5 * grads.std().item() / math.sqrt(NUM)


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda r: type(r).__name__)
def test_a_one_smooths_to_near_one_and_a_zero_to_near_zero(relaxation):
    assert draw(relaxation, 12.0)[1].mean() > 0.8
    assert draw(relaxation, -12.0)[1].mean() < 0.2


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda r: type(r).__name__)
def test_extreme_logits_give_finite_gradients(relaxation):
    logits = torch.tensor([-90.0, -30.0, 30.0, 90.0]).repeat(1000).requires_grad_()
    zeta = relaxation.sample(logits, torch.Generator().manual_seed(1))
    (zeta.sum() + relaxation.bit_mean(logits, zeta).sum()).backward()
    assert torch.isfinite(zeta).all()
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("kind", ["gumbel", "overlapping", "spike-exponential"])
def test_configuration_names_each(kind):
    config = RelaxationConfig(kind=kind, temperature=0.3, beta=5.0)
    relaxation = make_relaxation(config)
    assert getattr(relaxation, "temperature", None) == 0.3 or relaxation.beta == 5.0


@pytest.mark.parametrize("relaxation", RELAXATIONS, ids=lambda r: type(r).__name__)
def test_given_bits_are_smoothed_as_in_training(relaxation):
    bits = torch.tensor([0.0, 1.0]).repeat_interleave(NUM)
    smoothed = relaxation.smooth(bits, torch.Generator().manual_seed(1)).view(2, NUM)
    for row, logit in zip(smoothed, (-16.0, 16.0), strict=True):
        for x in (0.05, 0.3, 0.5, 0.8, 0.95):
            expected = cdf(relaxation, logit, x)
            error = math.sqrt(max(expected * (1 - expected), 1e-6) / NUM)
            assert abs((row <= x).float().mean().item() - expected) < 5 * error
    assert smoothed[0].mean() < 0.2  # a zero near zero
    assert smoothed[1].mean() > 0.8  # a one near one
