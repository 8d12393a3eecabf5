"""Real numbers: the Gaussian likelihood, whose variance is learned."""

from __future__ import annotations

import math
from typing import Literal, Self

import torch
from torch import Tensor, nn

from qvae.config.schema import ModelConfig
from qvae.models.likelihoods.likelihood import Likelihood, Statistics, usable_scale


class Gaussian(Likelihood):
    """x_d ~ Normal(mean_d + std_d * output_d, std_d^2 v_d), with mean and std those of the training data.

    The variance v is a parameter of the model, not an output of the decoder, as in the sigma-VAE (Rybkin et al. 2021,
    arXiv:2006.13202): v = ``min_variance`` + exp(``log_variance``), which starts at 1, the data's own. The floor keeps the
    density finite where the decoder can predict a feature without error, and the exponential has a gradient at any depth.
    A feature that never varies has no unit of its own; its std counts as 1.

    Log-densities are in nats per row in the data's own units: they change when the data are rescaled.

    Args:
        statistics: of the training data.
        variance: "shared", one v for all features, or "features", one for each.
        min_variance: floor of v; the default is a noise of a hundredth of the standard deviation.

    Raises:
        ValueError: ``variance`` is neither, or ``min_variance`` isn't between 0 and 1.
    """

    name = "gaussian"
    kind = "reals"
    is_density = True
    centre: Tensor
    scale: Tensor

    def __init__(
        self, statistics: Statistics, variance: Literal["shared", "features"] = "shared", min_variance: float = 1e-4
    ) -> None:
        super().__init__(statistics)
        if variance not in ("shared", "features"):
            raise ValueError(f"variance is {variance!r}; it must be 'shared' or 'features'")
        if not 0 < min_variance < 1:
            raise ValueError(f"min_variance is {min_variance}; it must be between 0 and 1")
        mean, std = statistics.mean.reshape(-1).float(), statistics.std.reshape(-1).float()
        self.register_buffer("centre", mean.clone())
        self.register_buffer("scale", usable_scale(mean, std))
        self.min_variance = min_variance
        size = self.num_features if variance == "features" else 1
        self.log_variance = nn.Parameter(mean.new_full((size,), math.log1p(-min_variance)))

    @classmethod
    def from_config(cls, config: ModelConfig, statistics: Statistics) -> Self:
        """With the variance that ``config`` names."""
        return cls(statistics, config.variance)

    @property
    def variance(self) -> Tensor:
        """v, in units of the data's variance, (1,) or (D,)."""
        return self.min_variance + self.log_variance.exp()

    def initial_bias(self) -> Tensor:
        """Zeros: outputs are relative to the data's mean."""
        return torch.zeros_like(self.centre)

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """The log-density, (...,)."""
        variance = self.variance
        log_norm = (0.5 * (2 * math.pi * variance).log() + self.scale.log()).sum()
        return -((self.features(x) - output).square() / (2 * variance)).sum(-1) - log_norm

    def mean(self, output: Tensor) -> Tensor:
        """In the data's units."""
        return self.centre + self.scale * output

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """In the data's units, noise included."""
        noise = torch.randn(output.shape, generator=generator, device=output.device, dtype=output.dtype)
        return self.mean(output + self.variance.sqrt() * noise)

    def features(self, x: Tensor) -> Tensor:
        """x in standard deviations from the mean, as outputs are."""
        return (x - self.centre) / self.scale

    def input_mean(self) -> Tensor:
        """Zeros: features are centred."""
        return torch.zeros_like(self.centre)
