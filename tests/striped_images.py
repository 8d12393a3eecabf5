"""A data set that a classifier learns in a moment: horizontal stripes and vertical ones, with noise."""

import numpy as np

from qvae.data.arrays import dataset_from_arrays


def stripes(count, seed, shape=(8, 8), labels=(-3, 7)):
    """Noisy horizontal stripes of one label and vertical ones of the other."""
    rng = np.random.default_rng(seed)
    truth = np.arange(count) % 2
    across = np.arange(shape[-1]) % 2 * np.ones((shape[-2], 1))
    down = np.arange(shape[-2])[:, None] % 2 * np.ones(shape[-1])
    pictures = np.where(truth[:, None, None] > 0, across, down)
    pictures = np.broadcast_to(pictures.reshape(count, *[1] * (len(shape) - 2), *shape[-2:]), (count, *shape))
    return 0.7 * pictures + 0.3 * rng.random((count, *shape)), np.array(labels)[truth]


def striped(shape=(8, 8), count=200, **keys):
    """With labels, ``count`` images to train and 50 to test."""
    (train, train_labels), (test, test_labels) = stripes(count, 0, shape), stripes(50, 1, shape)
    return dataset_from_arrays(train, test, train_labels, test_labels, name="stripes", **keys)
