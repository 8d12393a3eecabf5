"""Counts: the Poisson and the negative binomial likelihood.

Terms such as lgamma(x) and x log(mean) are a million where their sum is ten, so log-probabilities are summed in float64.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.models.likelihoods.likelihood import Likelihood, Statistics, usable_scale

_MAX_LOG_MEAN = 30.0  # 1e13: above any count that float32 tells from its neighbours, and far from overflow
_MIN_MEAN = 1e-4  # at the start: a feature that never was counted may be counted later
_MIN_DISPERSION = 1e-8  # a Poisson distribution up to means of millions; lgamma of the inverse still has its digits


class Counts(Likelihood):
    """Counts whose mean is exp(output).

    Beyond an output of 30 the mean grows linearly, e^30 (output - 29), so that neither it nor its gradient overflows.
    The encoder sees log(1 + x), standardised as if 1 + x were log-normal with the data's mean and standard deviation.
    """

    kind = "counts"
    centre: Tensor
    scale: Tensor

    def __init__(self, statistics: Statistics) -> None:
        super().__init__(statistics)
        mean, std = statistics.mean.reshape(-1).float(), statistics.std.reshape(-1).float()
        log_variance = (std / (1 + mean)).square().log1p()
        self.register_buffer("centre", mean.log1p() - log_variance / 2)
        self.register_buffer("scale", usable_scale(self.centre, log_variance.sqrt()))

    def initial_bias(self) -> Tensor:
        """Logarithms of the data's mean, or of 0.0001 where that is larger."""
        mean = self.statistics.mean.reshape(-1).float()
        return mean.clamp(_MIN_MEAN, math.exp(_MAX_LOG_MEAN)).log()

    def log_mean(self, output: Tensor) -> Tensor:
        """log E[x | output], (..., D)."""
        return output.clamp_max(_MAX_LOG_MEAN) + F.relu(output - _MAX_LOG_MEAN).log1p()

    def mean(self, output: Tensor) -> Tensor:
        """E[x | output], no whole number."""
        return self.log_mean(output).exp()

    @abstractmethod
    def tails(self, output: Tensor, count: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """P(x < count) and P(x >= count) where they are ``asked`` for, (2, B, D), of outputs and counts of 1 or more (B, D).

        The smaller of the two has all its digits, however small it is.
        """

    def features(self, x: Tensor) -> Tensor:
        """log(1 + x), centred and scaled."""
        return (x.log1p() - self.centre) / self.scale

    def input_mean(self) -> Tensor:
        """Zeros: features are centred."""
        return torch.zeros_like(self.centre)


class Poisson(Counts):
    """x_d ~ Poisson(exp(output_d)): the variance is the mean."""

    name = "poisson"

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_d x_d log m_d - m_d - log x_d!, m the means."""
        log_mean, count = self.log_mean(output.double()), x.double()
        terms = count * log_mean - log_mean.exp() - torch.lgamma(count + 1)
        return terms.sum(-1).to(output.dtype)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Whole numbers, as floats."""
        return torch.poisson(self.mean(output), generator=generator)

    def tails(self, output: Tensor, count: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """The incomplete gamma functions of count and mean."""
        from scipy import special  # here, since it takes time, and compression alone asks for it

        return _tails(special.gammaincc, special.gammainc, asked, count, self.mean(output).numpy())


class NegativeBinomial(Counts):
    """A Poisson distribution whose rate is Gamma-distributed: mean m = exp(output_d), variance m + a_d m^2.

    The dispersion a is a parameter of the model, one for each feature: a = 1e-8 + exp(``log_dispersion``). It starts where
    the variance is the data's, within 0.01 to 100.
    """

    name = "negative-binomial"

    def __init__(self, statistics: Statistics) -> None:
        super().__init__(statistics)
        mean = statistics.mean.reshape(-1).float().clamp_min(_MIN_MEAN)
        dispersion = (statistics.std.reshape(-1).float().square() - mean) / mean.square()
        self.log_dispersion = nn.Parameter(dispersion.clamp(0.01, 100.0).log())

    @property
    def dispersion(self) -> Tensor:
        """a, (D,)."""
        return _MIN_DISPERSION + self.log_dispersion.exp()

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_d log [Gamma(x+r) / (Gamma(r) x!)] + r log(r / (r+m)) + x log(m / (r+m)), with r = 1/a and means m."""
        r, count = 1 / self.dispersion.double(), x.double()
        log_odds = self.log_mean(output.double()) - r.log()  # of m / (r+m)
        coefficient = torch.lgamma(count + r) - torch.lgamma(r) - torch.lgamma(count + 1)
        terms = coefficient - r * F.softplus(log_odds) - count * F.softplus(-log_odds)
        return terms.sum(-1).to(output.dtype)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Whole numbers, as floats."""
        mean, r = self.mean(output), 1 / self.dispersion
        # torch.distributions.Gamma draws by the same function, but takes no generator.
        gamma = torch._standard_gamma(r.expand_as(mean).contiguous(), generator=generator)
        return torch.poisson(mean * gamma / r, generator=generator)

    def tails(self, output: Tensor, count: np.ndarray, asked: np.ndarray) -> np.ndarray:
        """The incomplete beta functions of count and r, at m / (r+m)."""
        from scipy import special

        mean, r = self.mean(output).numpy(), 1 / self.dispersion.numpy()
        return _tails(special.betaincc, special.betainc, asked, count, r, mean / (r + mean))


def _tails(
    below: Callable[..., np.ndarray], above: Callable[..., np.ndarray], asked: np.ndarray, *arguments: np.ndarray
) -> np.ndarray:
    """Both of them, the second computed only where it is the smaller one."""
    chosen = [np.broadcast_to(argument, asked.shape)[asked] for argument in arguments]
    lower = below(*chosen)
    upper, is_smaller = 1 - lower, lower > 0.5
    upper[is_smaller] = above(*(argument[is_smaller] for argument in chosen))
    tails = np.zeros((2, *asked.shape))
    tails[:, asked] = lower, upper
    return tails
