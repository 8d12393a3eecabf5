"""A data set: what its stored numbers mean, what a model is given of them, and in which order they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from qvae.data import grey
from qvae.data.alphabet import Alphabet

Kind = Literal["bits", "reals", "counts", "categories", "strings"]
Binarization = Literal["dynamic", "fixed-seed", "threshold", "none"]

Rows = TypeVar("Rows", Tensor, np.ndarray)

_CHUNK = 2**20  # numbers that are looked at in one piece


@dataclass(frozen=True)
class Dataset:
    """Training and test data as they are stored, and what they mean.

    Rows are stored as small as they can be, or lie in a memory-mapped file as they came. :meth:`values` says what they
    mean, :meth:`prepare` what networks and likelihoods see of them; both take any rows of ``train`` or ``test``, flattened
    or not, on any device. Of a mapped file only the rows that are used are read: index ``train``, never convert it whole.

    Attributes:
        name: as in the configuration.
        train: stored rows, (N, *shape).
        test: the same of rows that training doesn't see.
        train_labels: int64, (N,), or None.
        test_labels: the same of ``test``.
        binarization: ``dynamic`` draws pixels anew at every use; ``fixed-seed`` drew them once, ``threshold`` cuts them
            at 0.5; ``none`` where data are no bits. Likelihoods under different binarizations can't be compared.
        kind: what the model's likelihood takes.
        feature_names: of the columns of a table.
        levels: of ``categories`` and of the symbols of ``strings``, how many there are. Of ``reals``, stored numbers are grey
            levels 0..levels-1, or real numbers if None. Of ``bits``, stored numbers are grey levels, too, or 15-bit codes of
            them if None.
        category_names: of the columns that held text, in the order of their numbers, by the names of the columns.
        class_names: what the labels were called that were numbered from 0, in the order of their numbers; empty if none were.
        remarks: sentences on how the data were taken that its user should read.
        alphabet: of ``strings``, what their numbers stand for; a row is as long as the longest string.
        rate: of sound, whose spectrograms the rows are, samples a second.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None
    test_labels: Tensor | None
    binarization: Binarization
    kind: Kind = "bits"
    feature_names: tuple[str, ...] | None = None
    levels: int | None = None
    remarks: tuple[str, ...] = ()
    category_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    alphabet: Alphabet | None = None
    rate: int | None = None
    class_names: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of a row: (H, W) or (C, H, W) of an image, (D,) of anything else."""
        return tuple(self.train.shape[1:])

    @property
    def is_image(self) -> bool:
        """Whether a row can be shown as a picture."""
        return len(self.shape) >= 2

    def values(self, rows: Tensor) -> Tensor:
        """What stored ``rows`` mean, float32: grey levels in [0, 1], real numbers, counts, or numbers of categories or symbols.

        A grey level of ``reals`` stands in the middle of its step: the mean of what :meth:`prepare` makes of it.
        """
        if self.kind == "bits":
            return grey.levels_of_codes(self._codes(rows))
        if self.kind == "reals" and self.levels is not None:
            return (rows.float() + 0.5) / self.levels
        return rows.float()

    def binarize(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits as float32 in the shape of stored ``rows`` of ``bits``: 1 with the probability of the grey level.

        Images that are binarized once come out as they are, and draw nothing from the generator.
        """
        codes = self._codes(rows)
        if self.binarization == "dynamic":
            return grey.draw(codes, generator)
        return torch.gt(codes, 0, out=torch.empty(codes.shape, device=codes.device))

    def prepare(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """What networks and likelihoods see of stored ``rows``, float32 in their shape.

        Bits are drawn (:meth:`binarize`). Grey levels of ``reals`` get uniform noise over their step, so that a density
        of them has a meaning: L. Theis, A. van den Oord, M. Bethge, "A note on the evaluation of generative models".
        """
        if self.kind == "bits":
            return self.binarize(rows, generator)
        if self.kind == "reals" and self.levels is not None:
            noise = torch.rand(rows.shape, generator=generator, device=rows.device, dtype=torch.float32)
            return noise.add_(rows).div_(self.levels)
        return self.values(rows)

    def prepare_in_training(self, rows: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """As :meth:`prepare`, where no draw is to be met again: bits come from the quickest kernels that there are."""
        if self.binarization == "dynamic":
            return grey.draw_quickly(self._codes(rows), generator)
        return self.prepare(rows, generator)

    def mean(self) -> Tensor:
        """Mean of the values of the training rows, float32, of one row's shape; of bits, their probability."""
        return self._average(lambda values: values).float()

    def standard_deviation(self) -> Tensor:
        """Standard deviation of the values of the training rows, float32, of one row's shape."""
        mean = self._average(lambda values: values)
        return self._average(lambda values: (values.double() - mean).square()).sqrt().float()

    def _average(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        total = torch.zeros(self.shape, dtype=torch.float64)
        for rows in chunks(self.train):
            total += function(self.values(rows)).sum(0, dtype=torch.float64)
        return total / len(self.train)

    def _codes(self, rows: Tensor) -> Tensor:
        if self.levels is None:
            return rows
        codes = grey.codes_of_levels(rows, self.levels)
        return grey.cut(codes) if self.binarization == "threshold" else codes


def prepare_fixed(dataset: Dataset, rows: Tensor, seed: int) -> Tensor:
    """What :meth:`Dataset.prepare` gives by the seed alone, whatever the device: the draw that an evaluation uses.

    The first rows are the same however many follow.
    """
    return dataset.prepare(rows.cpu(), torch.Generator().manual_seed(seed)).to(rows.device)


def same_shape(first: tuple[int, ...], second: tuple[int, ...]) -> bool:
    """Whether rows of two shapes fit; those of one row's height are flat rows, as version 0.1.0 stored them.

    >>> same_shape((1, 10), (10,)), same_shape((2, 5), (10,))
    (True, False)
    """
    return _flat(first) == _flat(second)


def _flat(shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(shape[1:] if len(shape) == 2 and shape[0] == 1 else shape)


def epoch_permutation(num_images: int, epoch: int, seed: int) -> Tensor:
    """The order of the training images in an epoch, int64, (num_images,): a function of its arguments and nothing else.

    >>> epoch_permutation(5, epoch=0, seed=0).tolist() == epoch_permutation(5, epoch=0, seed=0).tolist()
    True
    """
    return torch.from_numpy(permutation(num_images, [seed, epoch]))


def permutation(count: int, seed: int | list[int]) -> np.ndarray:
    """An order of 0..count-1, the same for all versions of NumPy."""
    # NumPy promises the raw stream of a bit generator for all its versions, but not what its distributions make of it.
    # No two of its 64-bit numbers are equal, so that every way to sort them gives this order; NumPy's own is the quickest.
    return np.argsort(np.random.PCG64(seed).random_raw(count))


def chunks(rows: Rows) -> Iterator[Rows]:
    """The rows of an array, a few megabytes at a time."""
    step = max(1, _CHUNK // max(1, int(np.prod(rows.shape[1:]))))
    for start in range(0, len(rows), step):
        yield rows[start : start + step]
