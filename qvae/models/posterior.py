"""The approximating posterior q(z|x): Bernoulli bits in one or more levels, each level seeing those before it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.models.passes import at_least_single, bernoulli_entropy
from qvae.models.relaxation import Relaxation


@dataclass
class BernoulliCode:
    """Latent bits, or their relaxation, drawn for a batch of images.

    Attributes:
        logits: of each bit given the levels before it, (B, n).
        latents: zeta in [0, 1] or bits z in {0, 1}, (B, n).
    """

    logits: Tensor
    latents: Tensor

    def log_prob(self) -> Tensor:
        """log q(z|x) of discrete latents, (B,)."""
        return -F.binary_cross_entropy_with_logits(self.logits, self.latents, reduction="none").sum(-1)

    def means(self) -> Tensor:
        """q(z_i = 1|x), (B, n)."""
        return torch.sigmoid(self.logits)

    def variances(self) -> Tensor:
        """q (1 - q) of each bit, (B, n)."""
        return torch.sigmoid(self.logits) * torch.sigmoid(-self.logits)

    def entropy(self) -> Tensor:
        """Sum over bits of each Bernoulli's entropy in nats, (B,): E[-log q(z|x)] given the levels before."""
        return bernoulli_entropy(self.logits)


class Posterior(nn.Module):
    """q(z|x) = prod_l q(z_l | x, zeta_<l), each level a product of Bernoullis.

    Args:
        num_features: width of the encoder's features.
        level_sizes: bits in each level; one level makes the factorial posterior.
    """

    def __init__(self, num_features: int, level_sizes: list[int]) -> None:
        super().__init__()
        self.level_sizes, self.num_latents = level_sizes, sum(level_sizes)
        self.levels = nn.ModuleList([nn.Linear(num_features, level_sizes[0])])
        seen = level_sizes[0]
        for size in level_sizes[1:]:
            hidden = nn.Linear(num_features + seen, num_features)
            self.levels.append(nn.Sequential(hidden, nn.SiLU(), nn.Linear(num_features, size)))
            seen += size

    def forward(
        self,
        features: Tensor,
        relaxation: Relaxation | None,
        generator: torch.Generator | None = None,
        draws: int = 1,
    ) -> BernoulliCode:
        """Draw latents level by level: smoothed by ``relaxation``, or bits where it is None.

        With several ``draws`` per image the code has B * draws rows, those of one image side by side.
        """
        logits: list[Tensor] = []
        latents: list[Tensor] = []
        for depth in range(len(self.levels)):
            if depth == 1:
                features = features.repeat_interleave(draws, dim=0)
            level_logits = self.level_logits(depth, features, latents)
            # The first level is the same for all draws of an image, so its layer is applied once.
            is_shared = depth == 0 and draws > 1
            logits.append(level_logits.repeat_interleave(draws, dim=0) if is_shared else level_logits)
            if relaxation is None:
                latents.append(draw_bits(logits[-1], generator))
            else:
                latents.append(relaxation.sample(logits[-1], generator))
        return BernoulliCode(_joined(logits), _joined(latents))

    def level_logits(self, depth: int, features: Tensor, latents: Sequence[Tensor]) -> Tensor:
        """Of the bits of one level, (B, n_depth), given features (B, F) and the latents of each level before."""
        return at_least_single(self.levels[depth](_joined([features, *latents])))


def _joined(parts: list[Tensor]) -> Tensor:
    """Side by side; a part that is alone isn't copied, there and back in every step."""
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-1)


def draw_bits(logits: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Bits z ~ Bernoulli(sigmoid(logits)), as floats."""
    uniform = torch.rand(logits.shape, generator=generator, device=logits.device)
    return (uniform < torch.sigmoid(logits)).to(logits.dtype)


def split_levels(num_spins: int, levels: int, layers: list[int]) -> list[int]:
    """Spins in each level: the graph's own ``layers`` where there are as many, otherwise parts as equal as can be.

    Raises:
        ValueError: more levels than spins.

    >>> split_levels(5, 2, [5])
    [3, 2]
    """
    if levels > num_spins:
        raise ValueError(f"a posterior of {levels} levels needs at least {levels} latent spins, but there are {num_spins}")
    if len(layers) == levels and sum(layers) == num_spins:
        return list(layers)
    share, rest = divmod(num_spins, levels)
    return [share + (level < rest) for level in range(levels)]
