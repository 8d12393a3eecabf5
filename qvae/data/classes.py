"""The classes of training rows as a model is told them: their places among the labels there are."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.data.dataset import Dataset
from qvae.errors import DataError

_MOST = 100  # that a stored byte can number, and a model be told by a one among zeros


def classes_of(dataset: Dataset, remedy: str) -> tuple[int, ...]:
    """The labels of the training rows, each once, in ascending order; none where there are no labels.

    Raises:
        DataError: there are more than a hundred, and a ``remedy`` is said.
    """
    labels = () if dataset.train_labels is None else tuple(dataset.train_labels.unique().tolist())
    if len(labels) > _MOST:
        raise DataError(f"{dataset.name} has {len(labels)} classes; a model can be told {_MOST} at most: {remedy}.")
    return labels


def places_of_labels(dataset: Dataset) -> Tensor:
    """The place of each training row's label among :func:`classes_of`, int64, (N,).

    Raises:
        DataError: there are no labels.
    """
    if dataset.train_labels is None:
        raise DataError(f"{dataset.name} has no labels of its training rows; train a model that isn't told any.")
    return dataset.train_labels.unique(return_inverse=True)[1]


def with_classes(rows: Tensor, places: Tensor) -> Tensor:
    """Stored rows (B, D) and the places of their classes (B,) in one, (B, D + 1)."""
    return torch.cat([rows, places.to(rows).unsqueeze(1)], 1)
