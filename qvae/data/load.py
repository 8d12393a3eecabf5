"""The data set that a configuration names."""

from __future__ import annotations

import numpy as np

from qvae.config.schema import DataConfig
from qvae.data.arrays import load_array_file
from qvae.data.dataset import SPLIT_SEED, Dataset, codes_of_levels, make_dataset, permutation
from qvae.data.idx import IDX_SETS, load_idx_set


def load_data(config: DataConfig) -> Dataset:
    """The data set that a configuration names.

    ``digits`` are the 1,797 digits of 8x8 pixels and 17 grey levels in scikit-learn, split once and for all into 1,500
    training and 297 test images. ``mnist`` and ``fashion-mnist`` are read from the usual idx files. Arrays in a .npy or
    .npz file are taken as :func:`~qvae.data.arrays.dataset_from_arrays` says; an .npz holds ``train`` (or ``x_train``)
    and perhaps ``test``, ``train_labels`` and ``test_labels`` (or ``x_test``, ``y_train``, ``y_test``), or one array of
    any name.

    Raises:
        DataError: files are missing, damaged or not what they should be, or values are out of range.
    """
    if config.name == "digits":
        return _load_digits(config)
    if config.name in IDX_SETS:
        return load_idx_set(config)
    return load_array_file(config)


def _load_digits(config: DataConfig) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = permutation(len(digits.images), SPLIT_SEED)
    images, labels = codes_of_levels(digits.images.astype(np.uint8), white=16)[order], digits.target[order]
    return make_dataset("digits", images[:1500], images[1500:], labels[:1500], labels[1500:], config.binarization)
