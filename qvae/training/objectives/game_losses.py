"""Losses of a game between generator and critic, the penalties that keep a critic smooth, and the players' gradients."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.config.gan import CriticConfig


def critic_loss(real: Tensor, fake: Tensor, loss: str) -> Tensor:
    """What a critic lowers, by its scores of data (B,) and of samples (B,).

    ``wasserstein``: E[fake] - E[real]; at its least, over critics of slope 1 at most, the negative of the distance of that
    name (Arjovsky et al. 2017). ``nonsaturating``: the logistic loss; at its least log 4 less twice the Jensen-Shannon
    divergence (Goodfellow et al. 2014).
    """
    if loss == "wasserstein":
        return fake.mean() - real.mean()
    return F.softplus(-real).mean() + F.softplus(fake).mean()


def generator_loss(fake: Tensor, loss: str) -> Tensor:
    """What a generator lowers, by the critic's scores of samples (B,)."""
    return -fake.mean() if loss == "wasserstein" else F.softplus(-fake).mean()


def penalised_rows(real: Tensor, fake: Tensor, config: CriticConfig, generator: torch.Generator | None) -> Tensor:
    """Where the slope of a critic is looked at, (B, n): r1 does at the data, others somewhere between a row and a sample."""
    if config.penalty == "r1":
        return real
    share = torch.rand(len(real), 1, generator=generator, device=real.device, dtype=real.dtype)
    return torch.lerp(real, fake, share)


def gradient_norms(score: Callable[[Tensor], Tensor], rows: Tensor) -> Tensor:
    """|d score(x) / dx| at each row x (B, n) of its own, (B,), differentiable in the weights of the score."""
    rows = rows.detach().requires_grad_()
    (gradients,) = torch.autograd.grad(score(rows).sum(), rows, create_graph=True)
    return (gradients.square().sum(1) + 1e-12).sqrt()  # whose own gradient is finite at 0


def slope_penalty(norms: Tensor, config: CriticConfig) -> Tensor:
    """What a critic pays for slopes (B,): E[(|.| - 1)^2] (Gulrajani et al. 2017, arXiv:1704.00028), or, of r1, E[|.|^2] / 2
    (Mescheder et al. 2018, arXiv:1801.04406); spectral norms bound them at no cost."""
    if config.penalty == "spectral":
        return torch.zeros_like(norms[0])
    square = (norms - 1).square() if config.penalty == "gradient" else norms.square() / 2
    return config.penalty_weight * square.mean()


def generator_backward(critic: nn.Module, fake: Tensor, loss: str, weight: float = 1.0) -> None:
    """Gradients of ``weight`` times what a generator lowers, by its samples as the critic sees them; the critic has none."""
    critic.requires_grad_(False)
    try:
        (weight * generator_loss(critic(fake), loss)).backward()
    finally:  # an executor may have failed
        critic.requires_grad_()


def critic_backward(
    score: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, config: CriticConfig, generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of what a critic lowers; its scores of data and of samples, and its slopes, (B,) each."""
    of_real, of_fake = score(real), score(fake)
    slopes = gradient_norms(score, penalised_rows(real, fake, config, generator))
    (critic_loss(of_real, of_fake, config.loss) + slope_penalty(slopes, config)).backward()
    return of_real, of_fake, slopes
