"""The critic of a game: a network that gives a score to data and samples, of a class if it is told one."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from qvae.config.gan import CriticConfig


class Critic(nn.Module):
    """Rows (B, n) to scores (B,): the higher, the more they look like data.

    It has no batch norm: a gradient penalty is about the score of one row, whatever stands beside it (Gulrajani et al. 2017).

    Args:
        num_inputs: n, the classes included.
        config: widths, and whether each layer has the spectral norm 1 (Miyato et al. 2018).
    """

    def __init__(self, num_inputs: int, config: CriticConfig) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise([num_inputs, *config.hidden, 1]):
            linear = nn.Linear(inputs, outputs)
            layers += [spectral_norm(linear) if config.penalty == "spectral" else linear, nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers[:-1])

    def forward(self, rows: Tensor) -> Tensor:
        """Scores (B,)."""
        return self.layers(rows).squeeze(1)


def with_class(rows: Tensor, classes: Tensor | None) -> Tensor:
    """Rows (B, n) beside their classes (B, K), each a one among zeros; as they are without classes."""
    return rows if classes is None else torch.cat([rows, classes], 1)
