"""The rows of a data set that are looked at, as networks see them, and what a model makes of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset, epoch_permutation, prepare_fixed
from qvae.models.autoencoder import Autoencoder

AT_ONCE = 1000
"""Rows that are encoded or decoded together."""


def evaluation_rows(dataset: Dataset, settings: EvaluationConfig, count: int | None = None) -> Tensor:
    """The test rows (N, D) that an evaluation uses, on the CPU, prepared with its seed; ``count`` overrides ``num_test``."""
    return prepare_fixed(dataset, dataset.test.flatten(1)[: count or settings.num_test], settings.seed)


def training_rows(dataset: Dataset, count: int, seed: int) -> Tensor:
    """Places (N,) of up to ``count`` training rows in an order of the seed, since files may be sorted by class."""
    return epoch_permutation(len(dataset.train), 0, seed)[:count]


def prepared(dataset: Dataset, places: Tensor, seed: int) -> Tensor:
    """The training rows at ``places`` (N,), prepared with a seed, (N, D)."""
    return prepare_fixed(dataset, dataset.train[places].flatten(1), seed)


def values_in_batches(dataset: Dataset, rows: Tensor) -> Iterator[Tensor]:
    """What stored rows (N, ...) mean, a thousand at a time."""
    return (dataset.values(batch) for batch in rows.split(AT_ONCE))


def short_seed(seed: int) -> int:
    """A seed of any size as scikit-learn takes it: below 2^32, and those that are stay themselves."""
    return seed % 2**32


def device_of(model: nn.Module) -> torch.device:
    """Where a model is."""
    return next(model.parameters()).device


def code_means(model: Autoencoder, rows: Tensor, seed: int) -> np.ndarray:
    """E_q[z|x] of prepared rows (N, D), (N, n)."""
    return code_moments(model, rows, seed)[0]


def code_moments(model: Autoencoder, rows: Tensor, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Means and variances of q(z|x) of prepared rows (N, D), (N, n) both."""
    device = device_of(model)
    generator = torch.Generator(device).manual_seed(seed)
    moments = [model.code_moments(batch.to(device), generator) for batch in rows.split(AT_ONCE)]
    means, variances = (torch.cat(parts).cpu().numpy() for parts in zip(*moments, strict=True))
    return means, variances
