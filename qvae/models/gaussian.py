"""Latents that are real numbers: a Gaussian posterior, the standard normal prior, and a posterior without noise."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qvae.errors import CapabilityError
from qvae.models.passes import at_least_single
from qvae.sampling.sampler import LatentSampler

_LOG_2PI = math.log(2 * math.pi)


@dataclass
class GaussianCode:
    """Latents u = mean + exp(log_variance / 2) * noise, K of each row side by side; differentiable in both.

    Attributes:
        mean: (B, n).
        log_variance: (B, n).
        latents: (B K, n).
    """

    mean: Tensor
    log_variance: Tensor
    latents: Tensor

    def log_prob(self) -> Tensor:
        """log q(u|x), (B K,): a density."""
        draws = len(self.latents) // len(self.mean)
        mean, log_variance = (part.repeat_interleave(draws, dim=0) for part in (self.mean, self.log_variance))
        squares = (self.latents - mean).square() * (-log_variance).exp()
        return -0.5 * (squares + log_variance + _LOG_2PI).sum(-1)

    def entropy(self) -> Tensor:
        """-E_q[log q(u|x)], (B,)."""
        return 0.5 * (self.log_variance + 1 + _LOG_2PI).sum(-1)

    def means(self) -> Tensor:
        """(B, n)."""
        return self.mean

    def variances(self) -> Tensor:
        """(B, n)."""
        return self.log_variance.exp()


class GaussianPosterior(nn.Module):
    """q(u|x) = prod_i Normal(mean_i(x), variance_i(x)).

    Args:
        num_features: F.
        num_latents: n.
        initial_log_variance: where all variances start; noise as wide as the prior would hide the first codes.
    """

    def __init__(self, num_features: int, num_latents: int, initial_log_variance: float = -2.0) -> None:
        super().__init__()
        self.num_latents = num_latents
        self.moments = nn.Linear(num_features, 2 * num_latents)
        nn.init.constant_(self.moments.bias[num_latents:], initial_log_variance)

    def forward(
        self, features: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1
    ) -> GaussianCode:
        """Latents of features (B, F); ``relaxed`` has no meaning here."""
        mean, log_variance = at_least_single(self.moments(features)).chunk(2, dim=-1)
        noise = torch.randn(len(mean), draws, mean.shape[1], generator=generator, device=mean.device)
        latents = mean.unsqueeze(1) + (0.5 * log_variance).exp().unsqueeze(1) * noise
        return GaussianCode(mean, log_variance, latents.flatten(0, 1))


class NormalPrior(nn.Module):
    """p(u) = Normal(0, 1) of each of n latents; nothing of it is learned."""

    origin: Tensor

    def __init__(self, num_latents: int) -> None:
        super().__init__()
        self.register_buffer("origin", torch.zeros(num_latents), persistent=False)

    def draw(
        self,
        num_samples: int,
        sampler: LatentSampler | None = None,
        generator: torch.Generator | None = None,
        bias: Tensor | None = None,
    ) -> Tensor:
        """u ~ p(u), (num_samples, n).

        Raises:
            CapabilityError: a sampler or fields are given, which are of Boltzmann priors.
        """
        if sampler is not None or bias is not None:
            what = "sampler" if sampler is not None else "label, or fields,"
            raise CapabilityError(f"this model's latents have a normal prior, which takes no {what}; leave it out.")
        size = (num_samples, *self.origin.shape)
        return torch.randn(size, generator=generator, device=self.origin.device, dtype=self.origin.dtype)

    def log_prob(self, latents: Tensor) -> Tensor:
        """log p(u) of latents (B, n), (B,): a density."""
        return -0.5 * (latents.square() + _LOG_2PI).sum(-1)

    def expected_energy(self, code: GaussianCode) -> Tensor:
        """E_q[-log p(u)], (B,), in closed form."""
        return 0.5 * (code.mean.square() + code.variances() + _LOG_2PI).sum(-1)


@dataclass
class PointCode:
    """Latents that are certain, (B, n)."""

    latents: Tensor

    def log_prob(self) -> Tensor:
        """Of a point there is no density."""
        raise CapabilityError("a deterministic autoencoder has no q(z|x); train with model.variant=variational or discrete.")

    def means(self) -> Tensor:
        """(B, n)."""
        return self.latents

    def variances(self) -> Tensor:
        """Zeros, (B, n)."""
        return torch.zeros_like(self.latents)


class IdentityPosterior(nn.Module):
    """Features as they are, for a model that compresses nothing."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_latents = num_features

    def forward(self, features: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1) -> PointCode:
        """Latents of features (B, F); all draws are the same."""
        return PointCode(features.float().repeat_interleave(draws, dim=0))


class PointPosterior(nn.Module):
    """One code of each row: an autoencoder's."""

    def __init__(self, num_features: int, num_latents: int) -> None:
        super().__init__()
        self.num_latents = num_latents
        self.point = nn.Linear(num_features, num_latents)

    def forward(self, features: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1) -> PointCode:
        """Latents of features (B, F); all draws are the same."""
        return PointCode(at_least_single(self.point(features)).repeat_interleave(draws, dim=0))
