"""Bits: the Bernoulli likelihood."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from qvae.models.likelihoods.likelihood import Likelihood
from qvae.models.passes import bernoulli_log_prob


class Bernoulli(Likelihood):
    """p(x_d = 1) = sigmoid(output_d).

    >>> from qvae.models.likelihoods.likelihood import Statistics
    >>> Bernoulli(Statistics.blank((3,))).log_prob(torch.zeros(2, 3), torch.ones(2, 3)).exp().tolist()
    [0.125, 0.125]
    """

    name = "bernoulli"
    kind = "bits"

    def initial_bias(self) -> Tensor:
        """Logits of the data's mean, which is kept between 0.005 and 0.995: a pixel that is never on may be on later."""
        return torch.logit(self.statistics.mean.reshape(-1).float().clamp(0.005, 0.995))

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_d x_d log p_d + (1 - x_d) log(1 - p_d)."""
        return bernoulli_log_prob(output, x)

    def log_prob_draws(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_d x_d l_d - softplus(l_d): the first term as a product, so that x needn't be repeated."""
        return torch.bmm(output, x.unsqueeze(2)).squeeze(2) - F.softplus(output).sum(2)

    def mean(self, output: Tensor) -> Tensor:
        """Probabilities that bits are one."""
        return torch.sigmoid(output)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits."""
        return torch.bernoulli(torch.sigmoid(output), generator=generator)
