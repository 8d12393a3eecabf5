"""How samples lie among data: precision, recall, density and coverage, by nearest neighbours in any space of features."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_AT_ONCE = 2000  # rows of a table of distances


@dataclass(frozen=True)
class Coverage:
    """How samples lie among data, each row with the ball that reaches its k-th neighbour in its own set.

    Attributes:
        precision: share of the samples in some ball of the data: are they plausible? Kynkaanniemi et al. 2019.
        recall: share of the data in some ball of the samples: is everything there? (arXiv:1904.06991)
        density: in how many balls of data a sample is, over k; 1 for samples from the data, above where they gather at modes.
        coverage: share of the data whose ball holds a sample; outliers of the samples don't raise it. Naeem et al. 2020
            (arXiv:2002.09797).
        neighbours: k.
        num_samples: in each of the two sets, whose sizes shift all four numbers.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    neighbours: int
    num_samples: int


@torch.no_grad()
def coverage(data: Tensor, samples: Tensor, neighbours: int = 5) -> Coverage:
    """Precision, recall, density and coverage of features of data (N, F) and of samples (M, F); the sets are cut to one size.

    Args:
        data: at least ``neighbours + 1`` rows.
        samples: likewise.
        neighbours: k.

    >>> rows = torch.randn(100, 3)
    >>> coverage(rows, rows).recall, coverage(rows, rows + 100).recall
    (1.0, 0.0)
    """
    size = min(len(data), len(samples))
    data, samples = data[:size].float(), samples[:size].float()
    of_data, of_samples = (_radii(rows, neighbours) for rows in (data, samples))
    in_balls_of_data = torch.zeros(size, device=data.device)
    is_covered, is_recalled = [], []
    for rows, radii in zip(data.split(_AT_ONCE), of_data.split(_AT_ONCE), strict=True):
        distances = _distances(rows, samples)
        inside = distances <= radii.unsqueeze(1)
        in_balls_of_data += inside.sum(0)
        is_covered.append(inside.any(1))
        is_recalled.append((distances <= of_samples).any(1))
    return Coverage(
        float((in_balls_of_data > 0).float().mean()),
        float(torch.cat(is_recalled).float().mean()),
        float(in_balls_of_data.mean()) / neighbours,
        float(torch.cat(is_covered).float().mean()),
        neighbours,
        size,
    )


def nearest_distances(rows: Tensor, others: Tensor) -> Tensor:
    """Euclidean distance of each row (N, F) to its nearest one of others (M, F), (N,)."""
    return torch.cat([_distances(part, others).amin(1) for part in rows.split(_AT_ONCE)])


def _radii(rows: Tensor, neighbours: int) -> Tensor:
    """Distance of each row to its k-th neighbour, itself left out, (N,)."""
    return torch.cat([_distances(part, rows).kthvalue(neighbours + 1, dim=1).values for part in rows.split(_AT_ONCE)])


def _distances(rows: Tensor, others: Tensor) -> Tensor:
    return torch.cdist(rows, others)
