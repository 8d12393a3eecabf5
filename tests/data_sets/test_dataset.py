import hashlib
import math

import numpy as np
import pytest
import torch

from qvae.config.schema import DataConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import epoch_permutation, prepare_fixed
from qvae.data.load import load_data


def test_digits_are_split_once_and_for_all():
    from sklearn.datasets import load_digits

    dataset = load_data(DataConfig(binarize="dynamic"))
    assert dataset.train.shape == (1500, 8, 8)
    assert dataset.test.shape == (297, 8, 8)
    assert dataset.shape == (8, 8)
    assert dataset.binarization == "dynamic"
    together = np.concatenate([dataset.values(dataset.train), dataset.values(dataset.test)]) * 16
    order = np.lexsort(together.reshape(1797, -1).T)
    original = load_digits()
    expected = np.lexsort(original.images.reshape(1797, -1).T)
    assert np.array_equal(together[order], original.images[expected])
    labels = np.concatenate([dataset.train_labels, dataset.test_labels])
    assert np.array_equal(labels[order], original.target[expected])
    # The split is part of the published results: it must not change with a version of NumPy or of ours.
    assert hashlib.sha256(dataset.test.numpy().astype("<i2").tobytes()).hexdigest()[:16] == "a40d71fb51d477b3"


def test_mean_image_is_that_of_the_training_images():
    dataset = load_data(DataConfig())
    assert dataset.mean().dtype == torch.float32
    assert torch.allclose(dataset.mean(), dataset.values(dataset.train).mean(0), atol=1e-5)


def test_bits_have_the_grey_level_as_their_probability():
    levels = np.array([0.0, 1 / 255, 0.1, 0.5, 0.9, 254 / 255, 1.0])
    draws = 100_000
    dataset = dataset_from_arrays(np.tile(levels, (draws, 1)), levels[None])
    bits = dataset.binarize(dataset.train, torch.Generator().manual_seed(0)).double().flatten(1)
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    error = np.sqrt(levels * (1 - levels) / draws)
    assert (np.abs(bits.mean(0).numpy() - levels) <= 5 * error + 2**-16).all()
    # Pixels share 64-bit random numbers, but are independent: the correlation of n pairs has standard error 1/sqrt(n).
    middle = bits[:, 1:-1]
    correlations = torch.corrcoef(middle.T) - torch.eye(middle.shape[1])
    assert correlations.abs().max() < 5 / math.sqrt(draws)
    again = dataset.binarize(dataset.train, torch.Generator().manual_seed(0)).flatten(1)
    assert torch.equal(again.double(), bits)


@pytest.mark.usefixtures("kernels")
@pytest.mark.parametrize("width", [7, 8])
def test_bits_of_a_training_have_the_grey_level_as_their_probability(width):
    levels = np.array([0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 0.5, 0.9])[:width]
    draws = 100_000
    dataset = dataset_from_arrays(np.tile(levels, (draws, 1)), levels[None])
    rows = dataset.train.flatten(1)
    bits = dataset.prepare_in_training(rows, torch.Generator().manual_seed(0))
    assert bits.dtype == torch.float32
    assert set(bits.unique().tolist()) == {0.0, 1.0}
    error = np.sqrt(levels * (1 - levels) / draws)
    assert (np.abs(bits.double().mean(0).numpy() - levels) <= 5 * error + 2**-16).all()
    middle = bits.double()[:, (levels > 0) & (levels < 1)]
    after = torch.cat([middle[:-1], middle[1:]], 1)  # pixels share words, and rows go on with streams
    assert (torch.corrcoef(after.T) - torch.eye(after.shape[1])).abs().max() < 5 / math.sqrt(draws)
    assert torch.equal(dataset.prepare_in_training(rows, torch.Generator().manual_seed(0)), bits)
    assert not torch.equal(dataset.prepare_in_training(rows, torch.Generator().manual_seed(1)), bits)


@pytest.mark.usefixtures("kernels")
def test_what_is_not_drawn_in_every_step_is_the_same_in_a_training():
    dataset = load_data(DataConfig())
    rows = dataset.train[:20].flatten(1)
    assert torch.equal(dataset.prepare_in_training(rows, torch.Generator()), dataset.prepare(rows))


def test_an_evaluation_draws_the_same_bits_with_all_kernels(monkeypatch):
    dataset = load_data(DataConfig(binarize="dynamic"))
    found = prepare_fixed(dataset, dataset.test, seed=3)
    monkeypatch.setenv("QVAE_KERNELS", "torch")
    assert torch.equal(prepare_fixed(dataset, dataset.test, seed=3), found)


@pytest.mark.parametrize("shape", [(0, 3, 3), (1, 1, 1), (3, 5, 7), (2, 3, 4, 5)])
def test_binarize_takes_any_rows_flattened_or_not(shape):
    dataset = dataset_from_arrays(np.full((10, 3, 3), 0.5))
    images = torch.full(shape, 2**14 - 1, dtype=torch.int16)
    bits = dataset.binarize(images, torch.Generator().manual_seed(1))
    assert bits.shape == shape
    assert bits.dtype == torch.float32
    flat = dataset.binarize(images.flatten(1), torch.Generator().manual_seed(1))
    assert torch.equal(flat, bits.flatten(1))


def test_auto_binarizes_digits_at_the_threshold_and_draws_all_else(tmp_path):
    assert load_data(DataConfig()).binarization == "threshold"
    np.save(tmp_path / "grey.npy", np.full((20, 2, 2), 0.3))
    assert load_data(DataConfig(name=str(tmp_path / "grey.npy"))).binarization == "dynamic"


def test_an_evaluation_draws_the_same_bits_for_the_same_images():
    dataset = load_data(DataConfig(binarize="dynamic"))
    whole = prepare_fixed(dataset, dataset.test, seed=3)
    assert torch.equal(prepare_fixed(dataset, dataset.test[:50].flatten(1), seed=3), whole[:50].flatten(1))
    assert not torch.equal(prepare_fixed(dataset, dataset.test, seed=4), whole)


def test_fixed_binarization_depends_on_no_seed_of_the_run():
    fixed = load_data(DataConfig(binarize="fixed"))
    assert fixed.binarization == "fixed-seed"
    first = fixed.binarize(fixed.train, torch.Generator().manual_seed(0))
    torch.manual_seed(7)
    again = load_data(DataConfig(binarize="fixed"))
    assert torch.equal(again.binarize(again.train, torch.Generator().manual_seed(1)), first)
    assert torch.equal(fixed.values(fixed.train), first)
    # Bits of mean g and variance g(1-g): the mean over all pixels lies within 5 standard errors.
    grey = load_data(DataConfig(binarize="dynamic")).train.double().add(1).div(2**15)
    error = (grey * (1 - grey)).sum().sqrt() / grey.numel()
    assert abs(first.double().mean() - grey.mean()) < 5 * error
    half = (grey > 0.4) & (grey < 0.6)
    assert 0.4 < first[half].mean() < 0.6


def test_fixed_bits_of_training_and_of_test_rows_are_drawn_apart():
    grey = np.full((50, 8, 8), 0.5)
    fixed = dataset_from_arrays(grey, grey, binarize="fixed")
    train, test = (fixed.binarize(rows) for rows in (fixed.train, fixed.test))
    assert abs((train == test).double().mean() - 0.5) < 5 * 0.5 / train.numel() ** 0.5


def test_threshold_cuts_at_a_half():
    images = np.tile(np.array([[0.0, 0.49, 0.5, 1.0]]), (10, 1))
    dataset = dataset_from_arrays(images, binarize="threshold")
    assert dataset.binarization == "threshold"
    assert dataset.binarize(dataset.train[0]).flatten().tolist() == [0, 0, 1, 1]


def test_the_order_of_an_epoch_depends_on_seed_and_epoch_alone():
    orders = [epoch_permutation(1000, epoch, seed) for epoch, seed in [(0, 0), (1, 0), (0, 1), (1, 1)]]
    for order in orders:
        assert torch.equal(order.sort().values, torch.arange(1000))
    assert len({tuple(order.tolist()) for order in orders}) == 4
    torch.manual_seed(3)
    assert torch.equal(epoch_permutation(1000, 1, 0), orders[1])
    # A run that is resumed with another version finds the same order.
    assert epoch_permutation(8, epoch=2, seed=1).tolist() == [5, 6, 3, 2, 1, 0, 4, 7]
