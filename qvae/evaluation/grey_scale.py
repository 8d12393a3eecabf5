"""Values of any kind as grey levels in [0, 1], which is what classifiers of images see."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from qvae.data.dataset import Dataset, chunks


@dataclass(frozen=True)
class GreyScale:
    """Which value is black and which is white, so that a Frechet distance has one unit whatever the likelihood.

    >>> import torch
    >>> GreyScale(0, 16)(torch.tensor([0.0, 8.0, 20.0])).tolist()
    [0.0, 0.5, 1.0]
    """

    black: float
    white: float

    @classmethod
    def of(cls, dataset: Dataset) -> GreyScale:
        """Grey levels as they are; counts and categories from 0 to the largest of the training images, reals between theirs."""
        if dataset.kind == "bits" or (dataset.kind == "reals" and dataset.levels is not None):
            return cls(0.0, 1.0)
        ends = [dataset.values(rows).aminmax() for rows in chunks(dataset.train)]
        low = min(float(end.min) for end in ends) if dataset.kind == "reals" else 0.0
        high = max(float(end.max) for end in ends)
        return cls(low, high if high > low else low + 1)

    def __call__(self, values: Tensor) -> Tensor:
        """Values beyond black or white, as a decoder may predict, become black or white."""
        return ((values - self.black) / (self.white - self.black)).clamp(0, 1)
