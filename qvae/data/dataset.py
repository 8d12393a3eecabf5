"""A data set: images as grey levels, how they become bits, and in which order they come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

Binarization = Literal["dynamic", "fixed-seed", "threshold"]

WHITE = 2**15  # grey levels are multiples of 1/32768, so that 15 random bits make a pixel
SPLIT_SEED = 0  # of the split into training and test images, where a data set has none
_FIXED_SEED = 0  # of binarize: fixed, whatever the seed of the training


@dataclass(frozen=True)
class Dataset:
    """Images as grey levels, and how they become bits.

    A grey level g in [0, 1] is kept as the integer round(32768 g) - 1 in int16: half the memory of float32, and a pixel
    is drawn by one comparison with 15 random bits. :meth:`grey` gives the level back, :meth:`binarize` gives bits; both
    take any rows of ``train`` or ``test``, flattened or not, on any device.

    Attributes:
        name: as in the configuration.
        train: coded grey levels, int16, (N, *image_shape).
        test: the same of images that training doesn't see.
        train_labels: int64, (N,), or None.
        test_labels: the same of ``test``.
        binarization: ``dynamic`` draws pixels anew at every use; ``fixed-seed`` drew them once, ``threshold`` cut them
            at 0.5, when the data was loaded. Likelihoods under different binarizations can't be compared.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None
    test_labels: Tensor | None
    binarization: Binarization

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (C, H, W)."""
        return tuple(self.train.shape[1:])

    @property
    def mean_image(self) -> Tensor:
        """Mean grey level of the training images, which is the mean of their bits, (*image_shape)."""
        mean = self.train.numpy().mean(0, dtype=np.float64)
        return torch.from_numpy((mean + 1) / WHITE).float()

    def grey(self, images: Tensor) -> Tensor:
        """Grey levels in [0, 1], float32, of coded ``images``."""
        return (images.float() + 1) / WHITE

    def binarize(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits as float32 in the shape of coded ``images``: 1 with the probability of the grey level.

        Images that were binarized when they were loaded come out as they are, and draw nothing from the generator.
        """
        bits = torch.empty(images.shape, device=images.device)
        if self.binarization != "dynamic":
            return torch.gt(images, 0, out=bits)
        # Four pixels from each 64-bit number: three times as fast as torch.rand and a comparison of floats.
        count = images.numel()
        noise = torch.empty(-(-count // 4), dtype=torch.int64, device=images.device).random_(generator=generator)
        noise = noise.bitwise_and_(0x7FFF_7FFF_7FFF_7FFF).view(torch.int16)[:count].view(images.shape)
        return torch.le(noise, images, out=bits)


    is_mapped = False
    def mean(self): return self.mean_image
    def statistics(self):
        from qvae.models.likelihoods.likelihood import Statistics
        return Statistics(self.mean_image, torch.ones_like(self.mean_image))
    def prepare(self, rows, generator=None): return self.binarize(rows, generator)


def binarize_fixed(dataset: Dataset, images: Tensor, seed: int) -> Tensor:
    """Bits that depend on the seed alone, and not on the device: the draw of the test images that an evaluation uses.

    The first rows are the same however many follow.
    """
    return dataset.binarize(images.cpu(), torch.Generator().manual_seed(seed)).to(images.device)


def epoch_permutation(num_images: int, epoch: int, seed: int) -> Tensor:
    """The order of the training images in an epoch, int64, (num_images,): a function of its arguments and nothing else.

    >>> epoch_permutation(5, epoch=0, seed=0).tolist() == epoch_permutation(5, epoch=0, seed=0).tolist()
    True
    """
    return torch.from_numpy(permutation(num_images, [seed, epoch]))


def permutation(count: int, seed: int | list[int]) -> np.ndarray:
    """An order of 0..count-1, the same for all versions of NumPy."""
    # NumPy promises the raw stream of a bit generator for all its versions, but not what its distributions make of it.
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count), kind="stable")


def make_dataset(
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    train_labels: np.ndarray | None,
    test_labels: np.ndarray | None,
    binarize: Literal["dynamic", "fixed", "threshold"],
) -> Dataset:
    """Binarize now what is to be binarized once."""
    if binarize == "fixed":
        train, test = (_binarize_once(images, [_FIXED_SEED, part]) for part, images in enumerate((train, test)))
    elif binarize == "threshold":
        train, test = (codes_of_bits(images >= WHITE // 2 - 1) for images in (train, test))
    return Dataset(
        name,
        torch.from_numpy(train),
        torch.from_numpy(test),
        None if train_labels is None else torch.from_numpy(train_labels.astype(np.int64)),
        None if test_labels is None else torch.from_numpy(test_labels.astype(np.int64)),
        "fixed-seed" if binarize == "fixed" else binarize,
    )


def _binarize_once(codes: np.ndarray, seed: list[int]) -> np.ndarray:
    generator = np.random.PCG64(np.random.SeedSequence(seed))
    noise = generator.random_raw(-(-codes.size // 4)).astype("<u8").view("<i2")[: codes.size]
    return codes_of_bits((noise & 0x7FFF).reshape(codes.shape) <= codes)


def codes_of_bits(bits: np.ndarray) -> np.ndarray:
    """Codes of black and white, int16."""
    return np.where(bits, np.int16(WHITE - 1), np.int16(-1))


def codes_of_levels(levels: np.ndarray, white: int) -> np.ndarray:
    """Codes of integer grey levels 0..white."""
    table = np.rint(np.arange(white + 1) * (WHITE / white)) - 1
    return table.astype(np.int16)[levels]
