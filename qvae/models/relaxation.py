"""Relaxations: bits smoothed to zeta in [0, 1] so that gradients pass from the decoder to the posterior."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from qvae.config.schema import RelaxationConfig
from qvae.models.passes import binary_concrete, open_uniform

_CERTAIN = 16.0  # a logit of which sigmoid is 0 or 1 to a ten-millionth


class Relaxation(ABC):
    """A smoothed Bernoulli variable with logits l, q = sigmoid(l).

    ``is_unbiased`` says whether the surrogate's gradient is that of the smoothed model's bound
    E_q[log p(x|zeta)] - KL(q(z|x) || p(z)), zeta ~ r(zeta|z), in expectation.
    """

    is_unbiased: ClassVar[bool]

    @abstractmethod
    def sample(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One zeta for each logit, differentiable in the logits."""

    def smooth(self, bits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """zeta ~ r(zeta|z) of given bits: what training makes of a posterior that is certain of them."""
        return self.sample(_CERTAIN * (2 * bits - 1), generator)

    @abstractmethod
    def bit_mean(self, logits: Tensor, zeta: Tensor) -> Tensor:
        """A stand-in for the bit behind ``zeta`` in products with functions of ``zeta``: E[z|zeta] and its gradient."""


def make_relaxation(config: RelaxationConfig) -> Relaxation:
    if config.kind == "gumbel":
        return Gumbel(config.temperature)
    if config.kind == "overlapping":
        return OverlappingExponentials(config.beta)
    return SpikeAndExponential(config.beta)


class Gumbel(Relaxation):
    """zeta = sigmoid((l + log u - log(1-u)) / temperature): binary Concrete, as in GumBolt (Khoshaman & Amin 2018).

    Biased: the decoder and, between the levels of a hierarchy, the energy see zeta where the model has bits. The bias
    falls with the temperature, while the gradient's variance grows.
    """

    is_unbiased = False

    def __init__(self, temperature: float = 0.5) -> None:
        self.temperature = temperature

    def sample(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        return binary_concrete(logits, self.temperature, generator)

    def bit_mean(self, logits: Tensor, zeta: Tensor) -> Tensor:
        """zeta itself: the relaxation treats it as the bit."""
        return zeta


class OverlappingExponentials(Relaxation):
    """r(zeta|0) = b exp(-b zeta) / (1 - exp(-b)) on [0, 1], r(zeta|1) = r(1-zeta|0) (DVAE++, Vahdat et al. 2018).

    Sampled ancestrally; the gradient is the implicit one,
    d zeta/d q = (R0(zeta) - R1(zeta)) / (q r1(zeta) + (1-q) r0(zeta)), R the cumulative distributions.
    """

    is_unbiased = True

    def __init__(self, beta: float = 8.0) -> None:
        self.beta = beta

    def sample(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        b, scale = self.beta, -math.expm1(-self.beta)
        q = torch.sigmoid(logits)
        with torch.no_grad():
            near_zero = -torch.log1p(-scale * open_uniform(q, generator)) / b
            zeta = torch.where(open_uniform(q, generator) < q, 1 - near_zero, near_zero)
            r0, r1 = b / scale * torch.exp(-b * zeta), b / scale * torch.exp(-b * (1 - zeta))
            below0 = -torch.expm1(-b * zeta) / scale
            below1 = (torch.exp(-b * (1 - zeta)) - math.exp(-b)) / scale
            slope = (below0 - below1) / (q * r1 + (1 - q) * r0)
        return zeta + slope * (q - q.detach())

    def bit_mean(self, logits: Tensor, zeta: Tensor) -> Tensor:
        """sigmoid(l + log r(zeta|1)/r(zeta|0))."""
        return torch.sigmoid(logits + self.beta * (2 * zeta - 1))


class SpikeAndExponential(Relaxation):
    """zeta = 0 for z = 0 and r(zeta|1) = b exp(b zeta) / (exp(b) - 1) on [0, 1] for z = 1 (DVAE, Rolfe 2016).

    With one uniform rho: zeta = 0 if rho <= 1-q, else log(((rho+q-1)/q)(exp(b) - 1) + 1) / b.
    """

    is_unbiased = True

    def __init__(self, beta: float = 8.0) -> None:
        self.beta = beta

    def sample(self, logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
        # q -> 0 would divide by zero in a branch whose gradient is then multiplied by zero: keep it finite.
        q = torch.sigmoid(logits).clamp_min(1e-6)
        rho = open_uniform(logits, generator)
        above = F.relu(rho + q - 1) / q
        return torch.log1p(above * math.expm1(self.beta)) / self.beta

    def bit_mean(self, logits: Tensor, zeta: Tensor) -> Tensor:
        """1 where zeta > 0, with the gradient (1-z)/(1-q) dq that makes E[z f(zeta)] differentiable (Rolfe 2016, app. D)."""
        q = torch.sigmoid(logits)
        z = (zeta > 0).to(q.dtype)
        return z + (1 - z) / (1 - q.detach()).clamp_min(1e-6) * (q - q.detach())
