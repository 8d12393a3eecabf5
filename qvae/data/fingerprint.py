"""A fingerprint of a data set: another file of the same shape has another one."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from torch import Tensor

from qvae.data.dataset import Dataset, chunks

_VERSION = "1"  # of how a fingerprint is taken; those of another version say nothing
_MOST_BYTES = 2**27  # that are read of an array


def fingerprint(dataset: Dataset) -> str:
    """A hash of what training and test rows are stored as: kind, levels, types, shapes, and all numbers.

    Of an array of more than 128 MiB, which may be mapped from a file, it sees rows at even distances, so many as that holds.
    """
    digest = hashlib.sha256(json.dumps([dataset.kind, dataset.levels, dataset.binarization]).encode())
    if dataset.alphabet is not None:
        digest.update(dataset.alphabet.characters.encode())
    for rows in (dataset.train, dataset.test):
        digest.update(json.dumps([str(rows.dtype), list(rows.shape)]).encode())
        for part in chunks(_spread(rows)):
            digest.update(np.ascontiguousarray(part.numpy()).data)
    return f"{_VERSION}:{digest.hexdigest()}"


def are_the_same(first: str | None, second: str | None) -> bool:
    """Whether two fingerprints may be of the same data; one that isn't known, or of another version, is of any.

    >>> are_the_same("1:ab", "1:cd"), are_the_same(None, "1:cd"), are_the_same("0:ab", "1:cd")
    (False, True, True)
    """
    if first is None or second is None or first.partition(":")[0] != second.partition(":")[0]:
        return True
    return first == second


def _spread(rows: Tensor) -> Tensor:
    """All rows, or as many of them as may be read, at even distances."""
    step = -(-rows.nbytes // _MOST_BYTES)
    return rows[:: max(1, step)]
