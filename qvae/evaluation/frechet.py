"""The Frechet distance between sets of images, on features of any kind, with its standard error and bias."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from qvae.errors import DataError

Batches = Tensor | Iterable[Tensor]
"""Images with values in [0, 1], (B, H, W) or (B, C, H, W): one tensor, or batches that needn't be of one size."""

_JACKKNIFE_GROUPS = 20  # a standard error from 20 groups is itself good to 16 %
_AT_ONCE = 500  # images whose features are found at once: tens of MB


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and scatter of rows of features, float64 on the features' device; sums of them are those of all rows.

    Two sets are merged around their own means (Chan, Golub, LeVeque 1983), so that features far from zero lose no digits.

    Attributes:
        count: rows.
        mean: (F,).
        scatter: sum over rows of (x - mean)(x - mean)', (F, F).

    >>> rows = torch.randn(10, 3)
    >>> parts = FeatureStatistics.of(rows[:4]) + FeatureStatistics.of(rows[4:])
    >>> torch.allclose(parts.covariance, torch.cov(rows.T).double(), atol=1e-5)
    True
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Statistics of features (B, F), B at least 1.

        Raises:
            DataError: a feature is NaN or infinite.
        """
        rows = features.double()
        faulty = int((~torch.isfinite(rows)).any(1).sum())
        if faulty:
            remedy = "look for NaN in the images or in the model that made them"
            raise DataError(f"{faulty} of {len(rows)} images have features that are NaN or infinite; {remedy}.")
        mean = rows.mean(0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        count = self.count + other.count
        step = other.mean - self.mean
        between = torch.outer(step, step) * (self.count * other.count / count)
        return FeatureStatistics(count, self.mean + step * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Tensor:
        """Unbiased, (F, F).

        Raises:
            DataError: there are fewer than two rows.
        """
        if self.count < 2:
            raise DataError(f"a Frechet distance needs at least 2 images in each set, but one holds {self.count}.")
        return self.scatter / (self.count - 1)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|m_a - m_b|^2 + tr[C_a + C_b - 2 (C_a C_b)^(1/2)]: the squared Frechet distance of two Gaussians.

    Source: Dowson & Landau (1982), as used on features of images by Heusel et al. (2017). With C = R R' the trace of the
    root is the sum of the singular values of R_a' R_b, so that covariances needn't have full rank: fewer images than
    features will do.

    Raises:
        DataError: a set has fewer than two images.

    >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])
    >>> frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))  # 4 * 4 + (sqrt(2) - sqrt(8))^2
    18.0
    """
    overlap = torch.linalg.svdvals(_root(a.covariance).T @ _root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return float((a.mean - b.mean).square().sum() + spread.clamp(min=0))


def _root(covariance: Tensor) -> Tensor:
    """R of the smallest size with R R' = C: eigenvalues that are nothing but rounding errors are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


@dataclass(frozen=True)
class FrechetDistance:
    """A Frechet distance with what is needed to judge it.

    A distance between finite sets is too large on average, by about a constant over the number of images: compare only
    distances of sets of the same sizes, and look at ``bias``. Both estimates take the sets for independent draws; for
    reconstructions of the reference itself, which follow it, they are too large.

    Attributes:
        value: the squared Frechet distance of the Gaussians fitted to both sets' features.
        num_images: in the set.
        num_reference: in the set it is compared with.
        stderr: standard error over the images of both sets (jackknife), not over trained models or classifiers; None
            where it isn't estimated.
        bias: the jackknife's estimate of how much of ``value`` is due to the finite sets; None where it isn't estimated.
        num_features: on which it is measured; a covariance of no more images than that has not full rank. None: not known.
    """

    value: float
    num_images: int
    num_reference: int
    stderr: float | None = None
    bias: float | None = None
    num_features: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def frechet_table(
    features: Callable[[Tensor], Tensor],
    reference: Batches,
    sets: Mapping[str, Batches],
    progress: Callable[[int], None] = lambda images: None,
) -> dict[str, FrechetDistance]:
    """Frechet distance of each of ``sets`` from ``reference``, in features (B, F) that ``features`` finds in images.

    Nothing is kept of a batch but the sums of its features, so that any number of images needs the memory of one batch.
    Sums are kept for twenty groups of images: leaving out one group at a time gives standard error and bias. Every
    twentieth image is in the same group, so a set must not repeat itself with that period.

    Args:
        features: such as a :class:`~qvae.evaluation.classifier.FeatureClassifier`.
        reference: the images that all sets are compared with: the test images.
        sets: by name, for instance training images, reconstructions and samples.
        progress: called with the number of images done since the last call.

    Raises:
        DataError: a set has fewer than two images, or features that are NaN or infinite; the message names it.
    """
    against = _grouped(features, reference, "reference", progress)
    table = {}
    for name, images in sets.items():
        table[name] = _jackknife(_grouped(features, images, name, progress), against)
    return table


def _grouped(
    features: Callable[[Tensor], Tensor], images: Batches, name: str, progress: Callable[[int], None]
) -> list[FeatureStatistics]:
    """Statistics of the groups of the jackknife; only of those that have images."""
    groups: dict[int, FeatureStatistics] = {}
    count = 0
    for batch in in_batches(images, _AT_ONCE):
        rows = features(batch)
        for offset in range(min(_JACKKNIFE_GROUPS, len(rows))):
            group = (count + offset) % _JACKKNIFE_GROUPS
            with _naming(name):
                new = FeatureStatistics.of(rows[offset::_JACKKNIFE_GROUPS])
            groups[group] = groups[group] + new if group in groups else new
        count += len(batch)
        progress(len(batch))
    if count < 2:
        raise DataError(f"{name}: a Frechet distance needs at least 2 images, but there are {count}.")
    return list(groups.values())


def in_batches(images: Batches, size: int) -> Iterator[Tensor]:
    """The same images, at most ``size`` at a time."""
    for batch in [images] if isinstance(images, Tensor) else images:
        yield from batch.split(size) if len(batch) else ()


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _jackknife(a: list[FeatureStatistics], b: list[FeatureStatistics]) -> FrechetDistance:
    """The distance with the delete-a-group jackknife's standard error and bias (Efron & Tibshirani 1993, ch. 11)."""
    all_a, all_b = reduce(operator.add, a), reduce(operator.add, b)
    value = frechet_distance(all_a, all_b)
    sizes = all_a.count, all_b.count
    if min(sizes) < 3:
        return FrechetDistance(value, *sizes, num_features=len(all_a.mean))
    variance = bias = 0.0
    for leaving in (
        [frechet_distance(part, all_b) for part in _without_each(a)],
        [frechet_distance(all_a, part) for part in _without_each(b)],
    ):
        distances = torch.tensor(leaving, dtype=torch.float64)
        variance += (len(leaving) - 1) * float(distances.var(correction=0))
        bias += (len(leaving) - 1) * float(distances.mean() - value)
    return FrechetDistance(value, *sizes, stderr=math.sqrt(variance), bias=bias, num_features=len(all_a.mean))


def _without_each(groups: list[FeatureStatistics]) -> Iterator[FeatureStatistics]:
    for left_out in range(len(groups)):
        yield reduce(operator.add, groups[:left_out] + groups[left_out + 1 :])
