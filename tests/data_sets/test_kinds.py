"""Four kinds of data: what is stored, what a model sees, and what is refused in favour of another likelihood."""

import numpy as np
import pytest
import torch

from qvae.config.schema import DataConfig
from qvae.data import dataset as pieces
from qvae.data.arrays import dataset_from_arrays
from qvae.data.dataset import chunks, prepare_fixed, same_shape
from qvae.data.fingerprint import fingerprint
from qvae.data.load import load_data
from qvae.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.random((40, 4, 6))
BYTES = RNG.integers(0, 256, (40, 4, 6), np.uint8)
BYTES[0, 0, :2] = 0, 255
COUNTS = RNG.poisson(3, (40, 5))
NORMAL = RNG.normal(2, 3, (40, 5))
BITS = RNG.integers(0, 2, (40, 5))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("kind", "stored", "levels", "values"),
    [("bits", torch.int16, None, 1 / 16), ("reals", torch.uint8, 17, 1 / 17), ("counts", torch.uint8, None, 1.0),
     ("categories", torch.uint8, 17, 1.0)],
)  # fmt: skip
def test_digits_are_of_every_kind(kind, stored, levels, values):
    dataset = load_data(DataConfig(), kind)
    assert dataset.kind == kind
    assert dataset.train.dtype == stored
    assert dataset.levels == levels
    assert dataset.binarization == ("threshold" if kind == "bits" else "none")
    assert dataset.shape == (8, 8)
    assert dataset.is_image
    if kind == "bits":
        dataset = load_data(DataConfig(binarize="dynamic"), kind)
    steps = dataset.values(dataset.train).unique()
    assert len(steps) == 17
    assert torch.allclose(steps.diff(), torch.tensor(values))
    assert torch.allclose(dataset.mean(), dataset.values(dataset.train).double().mean(0).float())
    spread = dataset.values(dataset.train).double().std(0, correction=0).float()
    assert torch.allclose(dataset.standard_deviation(), spread, atol=1e-6)


def test_counts_and_categories_are_seen_as_they_are():
    for kind in ("counts", "categories"):
        dataset = dataset_from_arrays(COUNTS, COUNTS, kind=kind)
        seen = dataset.prepare(dataset.train, generator())
        assert seen.dtype == torch.float32
        assert torch.equal(seen, torch.tensor(COUNTS, dtype=torch.float32))
    assert dataset.levels == COUNTS.max() + 1
    assert dataset_from_arrays(COUNTS.astype(float), kind="counts").train.dtype == torch.int32


def test_grey_levels_as_reals_are_dequantised():
    dataset = dataset_from_arrays(BYTES, BYTES, kind="reals")
    assert dataset.levels == 256
    noise = dataset.prepare(dataset.train, generator(3)) * 256 - torch.tensor(BYTES)
    assert noise.min() >= 0
    assert noise.max() <= 1
    # Uniform: mean 1/2 and variance 1/12, within five standard errors.
    assert abs(noise.mean() - 0.5) < 5 * (1 / 12 / noise.numel()) ** 0.5
    assert abs(noise.var() - 1 / 12) < 5 * (1 / 180 / noise.numel()) ** 0.5
    assert torch.allclose(dataset.values(dataset.train), (torch.tensor(BYTES) + 0.5) / 256)
    again = prepare_fixed(dataset, dataset.train[:7].flatten(1), 3)
    assert torch.equal(again, prepare_fixed(dataset, dataset.train, 3)[:7].flatten(1))


@pytest.mark.parametrize("images", [BYTES // 3, BYTES.astype(np.int32)])
def test_dark_bytes_and_whole_numbers_up_to_255_are_grey_levels_as_reals(images):
    assert dataset_from_arrays(images, kind="reals").levels == 256
    assert dataset_from_arrays((BYTES // 3).astype(np.int32), kind="reals").levels is None


def test_reals_are_seen_as_they_are():
    dataset = dataset_from_arrays(NORMAL, NORMAL, kind="reals")
    assert dataset.levels is None
    assert dataset.shape == (5,)
    assert not dataset.is_image
    assert torch.equal(dataset.prepare(dataset.train, generator()), torch.tensor(NORMAL, dtype=torch.float32))
    assert np.allclose(dataset.mean(), NORMAL.mean(0), atol=1e-6)
    assert np.allclose(dataset.standard_deviation(), NORMAL.std(0), atol=1e-6)


def test_bits_are_prepared_by_binarizing():
    dataset = dataset_from_arrays(GREY)
    assert torch.equal(dataset.prepare(dataset.train, generator()), dataset.binarize(dataset.train, generator()))


def with_one(value):
    """Counts, one of which is this."""
    changed = COUNTS.astype(np.int64)
    changed[3, 2] = value
    return changed


@pytest.mark.parametrize(
    ("kind", "array", "problem"),
    [
        # Another likelihood's, under bernoulli
        ("bits", COUNTS, r"train holds whole numbers up to \d+, which aren't grey levels .* model.likelihood=poisson or neg"),
        ("bits", COUNTS.astype(np.uint8), "model.likelihood=poisson"),
        ("bits", COUNTS.astype(float), r"outside \[0, 1\].*model.likelihood=poisson"),
        ("bits", COUNTS * 30, "model.likelihood=poisson|outside 0..255"),
        ("bits", COUNTS * 100, r"outside 0..255, .* model.likelihood=poisson \(counts\)"),
        ("bits", BYTES // 2, "up to 127, which aren't grey levels"),
        ("bits", BYTES // 15, "divide grey levels by their white"),
        ("bits", NORMAL, r"outside \[0, 1\].* model.likelihood=gaussian"),
        ("bits", COUNTS - 3, "outside 0..255.* model.likelihood=gaussian"),
        # under gaussian
        ("reals", BITS, "holds nothing but 0 and 1; set model.likelihood=bernoulli"),
        ("reals", BITS > 0, "set model.likelihood=bernoulli"),
        ("reals", np.where(NORMAL > 5, np.nan, NORMAL), "NaN or infinite"),
        ("reals", NORMAL * 1e200, "NaN or infinite"),
        # under poisson and negative-binomial
        ("counts", BITS, "set model.likelihood=bernoulli"),
        ("counts", NORMAL, "aren't whole, .* set model.likelihood=gaussian"),
        ("counts", GREY, "gaussian for real numbers, bernoulli for grey levels"),
        ("counts", COUNTS - 3, "below 0, the first .*=gaussian"),
        ("counts", COUNTS * 10_000_000, "above 16,777,216"),
        ("counts", with_one(-1), "below 0, the first -1"),
        ("counts", with_one(16_777_217), "above 16,777,216"),
        # under categorical
        ("categories", with_one(-1), "below 0, the first -1"),
        ("categories", NORMAL, "aren't whole, .* set model.likelihood=gaussian"),
        ("categories", COUNTS - 3, "below 0"),
        ("categories", COUNTS * 1000, "above 1023, .* model.likelihood=poisson"),
        ("categories", np.array([[0], [1024]] * 5), "5 of 10 values above 1023, the first 1024"),
    ],
)
def test_data_of_another_kind_are_refused_with_its_likelihood(kind, array, problem):
    with pytest.raises(DataError, match=problem) as caught:
        dataset_from_arrays(array, kind=kind)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "train", "test"),
    [("bits", BYTES, BYTES / 255), ("bits", BYTES / 255, BYTES), ("bits", BYTES, BYTES // 255), ("bits", BYTES // 128, BYTES),
     ("reals", BYTES, BYTES / 255), ("reals", BYTES / 255, BYTES.astype(float))],
)  # fmt: skip
def test_training_and_test_data_that_are_scaled_apart(kind, train, test):
    with pytest.raises(DataError, match="scaled apart; scale training and test data alike"):
        dataset_from_arrays(train, test, kind=kind)


def test_a_dark_test_set_is_scaled_as_its_training_set():
    dataset = dataset_from_arrays(BYTES, BYTES[:3] // 10)
    assert torch.allclose(dataset.values(dataset.test), torch.tensor(BYTES[:3] // 10) / 255, atol=2**-15)
    bits = dataset_from_arrays(BYTES > 100, (BYTES > 100).astype(int))
    assert torch.equal(bits.train, bits.test)


def test_what_is_lost_or_guessed_is_said():
    colour = RNG.random((20, 5, 7, 3))
    (remark,) = dataset_from_arrays(colour).remarks
    assert "eight colours; model.likelihood=gaussian keeps their shades" in remark
    assert dataset_from_arrays(colour, kind="reals").remarks == ()
    (remark,) = dataset_from_arrays(COUNTS, kind="reals").remarks
    assert "poisson and negative-binomial take counts" in remark
    assert dataset_from_arrays(GREY).remarks == ()
    assert load_data(DataConfig()).remarks == ()
    (remark,) = dataset_from_arrays(RNG.random((20, 64))).remarks
    assert "64 numbers are taken for images of 8x8" in remark
    assert dataset_from_arrays(RNG.random((20, 64)), feature_names=[f"x{i}" for i in range(64)]).remarks == ()
    for columns in (15, 16, 65):
        table = dataset_from_arrays(RNG.random((20, columns)))
        assert (table.remarks, table.shape) == ((), (columns,))


def test_columns_that_never_vary_are_told_under_a_density():
    table = RNG.normal(size=(40, 5))
    assert dataset_from_arrays(table, kind="reals").remarks == ()
    table[:, [1, 3]] = 7.5, 0.0
    (remark,) = dataset_from_arrays(table, kind="reals", feature_names=list("abcde")).remarks
    assert "2 of 5 features never vary (the first is b)" in remark
    dark = BYTES * (np.arange(BYTES.shape[-1]) > 0)
    assert dataset_from_arrays(dark, kind="reals").remarks == ()  # noise makes grey levels vary


def test_only_bits_are_binarized():
    with pytest.raises(DataError, match="data.binarize is threshold, but the model's likelihood takes counts"):
        load_data(DataConfig(binarize="threshold"), "counts")


def test_flat_rows_of_before_fit_those_of_now():
    assert same_shape((1, 10), (10,))
    assert same_shape((10,), (10,))
    assert same_shape((3, 4, 4), (3, 4, 4))
    assert not same_shape((4, 4), (16,))
    assert not same_shape((1, 4, 4), (4, 4))


def test_rows_that_are_taken_a_few_at_a_time_are_the_same(monkeypatch):
    """In pieces of three rows of 2 x 2: 3, 3 and 1."""
    rows, wrong = RNG.random((7, 2, 2)), np.zeros((7, 2, 2))
    wrong[4, 1, 0], wrong[6, 0, 1] = 2.5, -1.0
    made = [dataset_from_arrays(rows, test=rows[:2], kind=kind) for kind in ("bits", "reals")]
    whole = [(data.values(data.train), fingerprint(data)) for data in made]
    monkeypatch.setattr(pieces, "_CHUNK", 12)
    assert [len(piece) for piece in chunks(rows)] == [3, 3, 1]
    for (values, known), kind in zip(whole, ("bits", "reals"), strict=True):
        again = dataset_from_arrays(rows, test=rows[:2], kind=kind)
        assert torch.equal(again.values(again.train), values)
        assert np.allclose(values, rows, atol=2**-15)
        assert np.allclose(again.mean(), rows.mean(0), atol=2**-15)
        assert np.allclose(again.standard_deviation(), rows.std(0), atol=2**-15)
        assert fingerprint(again) == known
    with pytest.raises(DataError, match=r"2 of 28 values outside \[0, 1\], the first 2.5 at \[4, 1, 0\]"):
        dataset_from_arrays(wrong)
    wrong[4, 1, 0] = 2.0
    with pytest.raises(DataError, match=r"1 of 28 values below 0, the first -1.0 at \[6, 0, 1\]"):
        dataset_from_arrays(wrong, kind="counts")
    steps = np.repeat(np.arange(3.0), 3)[:7, None] + np.array([[0.0, 0.5]])  # constant within pieces, and over all
    steps[:, 1] = 0.5
    data = dataset_from_arrays(steps, test=steps[:2], kind="reals", feature_names=["stairs", "floor"])
    (told,) = [remark for remark in data.remarks if "never vary" in remark]
    assert "1 of 2 features never vary (the first is floor)" in told


def test_bits_are_no_counts_and_nor_are_counts_without_end():
    for kind in ("counts", "reals"):
        with pytest.raises(DataError, match="holds nothing but 0 and 1; set model.likelihood=bernoulli"):
            dataset_from_arrays(BITS, kind=kind)
    most = np.full((10, 2), 2**24)
    assert dataset_from_arrays(most, kind="counts").kind == "counts"
    with pytest.raises(DataError, match=r"20 of 20 values above 16,777,216, .*divide them, or set model.likelihood=gaussian"):
        dataset_from_arrays(most + 1, kind="counts")
    with pytest.raises(DataError, match="above 1023"):
        dataset_from_arrays(np.full((10, 2), 1024), kind="categories")
    assert dataset_from_arrays(np.full((10, 2), 1023), kind="categories").levels == 1024
