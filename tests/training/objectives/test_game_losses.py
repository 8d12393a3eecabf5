"""Losses of a game beside closed forms on two Gaussians, and penalties beside finite differences of finite differences."""

import math

import pytest
import torch

from qvae.config.gan import CriticConfig
from qvae.models.critic import Critic
from qvae.training.objectives.game_losses import (
    critic_loss,
    generator_loss,
    gradient_norms,
    penalised_rows,
    slope_penalty,
)

DISTANCE = 1.6  # between the means of two Gaussians of variance 1
SAMPLES = 200_000


def gaussians():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(2, SAMPLES, generator=generator, dtype=torch.float64)
    return noise[0] + DISTANCE / 2, noise[1] - DISTANCE / 2


def test_the_best_wasserstein_critic_of_two_gaussians_tells_their_distance():
    real, fake = gaussians()  # of equal variance: the best critic of slope 1 is x itself
    value = critic_loss(real, fake, "wasserstein")
    assert abs(float(value) + DISTANCE) < 5 * math.sqrt(2 / SAMPLES)


def test_the_best_logistic_critic_of_two_gaussians_tells_their_divergence():
    real, fake = gaussians()  # the best critic is the log of the densities' ratio, DISTANCE x
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    p, q = (torch.exp(-((x - mean) ** 2) / 2) / math.sqrt(2 * math.pi) for mean in (DISTANCE / 2, -DISTANCE / 2))
    middle = (p + q) / 2
    divergence = float((p * (p / middle).log() + q * (q / middle).log()).sum() / 2 * (x[1] - x[0]))
    losses = torch.nn.functional.softplus(-DISTANCE * real) + torch.nn.functional.softplus(DISTANCE * fake)
    value = float(critic_loss(DISTANCE * real, DISTANCE * fake, "nonsaturating"))
    assert abs(value - (math.log(4) - 2 * divergence)) < 5 * float(losses.std()) / math.sqrt(SAMPLES)
    for slope in (0.8, 1.2):  # any other one is worse
        assert float(critic_loss(slope * DISTANCE * real, slope * DISTANCE * fake, "nonsaturating")) > value


def test_a_generator_lowers_its_loss_by_higher_scores():
    low, high = torch.zeros(5), torch.ones(5)
    for loss in ("wasserstein", "nonsaturating"):
        assert generator_loss(high, loss) < generator_loss(low, loss)
    assert float(generator_loss(low, "nonsaturating")) == pytest.approx(math.log(2))


@pytest.mark.parametrize("penalty", ["gradient", "r1"])
def test_penalties_and_their_gradients_are_those_of_finite_differences(penalty):
    torch.manual_seed(1)
    config = CriticConfig(hidden=[7, 5], penalty=penalty, penalty_weight=0.7)
    critic = Critic(3, config).double()
    real, fake = torch.randn(2, 6, 3, dtype=torch.float64)
    rows = penalised_rows(real, fake, config, torch.Generator().manual_seed(2))
    step = 1e-5

    def by_differences():
        with torch.no_grad():
            slopes = torch.stack(
                [(critic(rows + step * unit) - critic(rows - step * unit)) / (2 * step) for unit in torch.eye(3).double()], 1
            )
        norms = slopes.norm(dim=1)
        return float(0.7 * ((norms - 1) ** 2 if penalty == "gradient" else norms**2 / 2).mean())

    value = slope_penalty(gradient_norms(critic, rows), config)
    assert value.item() == pytest.approx(by_differences(), abs=1e-8)
    value.backward()
    for weight in critic.parameters():
        for place in range(0, weight.numel(), 3):
            flat = weight.data.view(-1)
            flat[place] += step
            above = by_differences()
            flat[place] -= 2 * step
            below = by_differences()
            flat[place] += step
            found = 0.0 if weight.grad is None else float(weight.grad.view(-1)[place])
            assert found == pytest.approx((above - below) / (2 * step), abs=1e-5)


def test_r1_looks_at_data_and_the_others_between():
    real, fake = torch.zeros(1000, 2), torch.ones(1000, 2)
    assert penalised_rows(real, fake, CriticConfig(penalty="r1"), None) is real
    between = penalised_rows(real, fake, CriticConfig(), torch.Generator().manual_seed(0))
    assert torch.equal(between[:, 0], between[:, 1])  # on a straight line
    assert 0 <= float(between.min()) < 0.02 < 0.98 < float(between.max()) <= 1


def test_spectral_norms_bound_the_slope_at_no_cost():
    torch.manual_seed(0)
    config = CriticConfig(hidden=[32], penalty="spectral")
    critic = Critic(4, config)
    for _ in range(50):
        critic(torch.zeros(1, 4))  # the power method goes on
    slopes = gradient_norms(critic, 3 * torch.randn(500, 4))
    assert float(slopes.max()) < 1.01
    assert float(slope_penalty(slopes, config)) == 0
