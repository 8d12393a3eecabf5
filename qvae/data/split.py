"""Training rows, test rows and labels of a data set, and how a tenth is held out where there is no test set."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from qvae.data.dataset import permutation
from qvae.errors import DataError

SPLIT_SEED = 0  # the split is part of the results: it is the same in every run


@dataclass(frozen=True)
class Split:
    """Training and test rows, (N, *shape), with their labels, (N,), as NumPy arrays."""

    train: np.ndarray
    test: np.ndarray
    train_labels: np.ndarray | None = None
    test_labels: np.ndarray | None = None


def hold_out(rows: np.ndarray, labels: np.ndarray | None, name: str) -> Split:
    """Rows and a tenth of them to test on: chosen by a fixed seed, or the last ones of a memory map, which isn't copied.

    Raises:
        DataError: there are fewer than ten.
    """
    if len(rows) < 10:
        raise DataError(f"{name} holds {len(rows)} {row_word(rows)}; at least 10 are needed to hold a tenth out.")
    first = len(rows) - len(rows) // 10
    if isinstance(rows, np.memmap):
        return Split(rows[:first], rows[first:], *((None, None) if labels is None else (labels[:first], labels[first:])))
    kept, held_out = np.split(permutation(len(rows), SPLIT_SEED), [first])
    return Split(rows[kept], rows[held_out], *((None, None) if labels is None else (labels[kept], labels[held_out])))


def require_fit(split: Split, name: str) -> None:
    """Raise a DataError where there are too few rows, or training and test rows differ in shape."""
    if len(split.train) < 2 or len(split.test) < 1:
        counts = f"{len(split.train)} training and {len(split.test)} test {row_word(split.train)}"
        raise DataError(f"{name} holds {counts}; at least 2 and 1 are needed.")
    if split.train.shape[1:] != split.test.shape[1:]:
        shapes = f"{split.train.shape[1:]} and {split.test.shape[1:]}"
        raise DataError(
            f"{name}: training and test {row_word(split.train)} have the shapes {shapes}; they must be of one shape."
        )


def row_word(rows: np.ndarray) -> str:
    """What rows are called in a message."""
    return "images" if rows.ndim > 2 else "rows"
