"""Frechet distances against closed forms, and tables of them."""

import math

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from qvae.errors import DataError
from qvae.evaluation import frechet
from qvae.evaluation.frechet import FeatureStatistics, frechet_distance, frechet_table


def gaussian(mean, covariance, count=100):
    """Statistics of an imagined set with just this mean and covariance."""
    mean, covariance = (torch.as_tensor(part, dtype=torch.float64) for part in (mean, covariance))
    return FeatureStatistics(count, mean, covariance * (count - 1))


def random_gaussian(size, seed):
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(size, size))
    return rng.normal(size=size), root @ root.T


def rows(count, size, seed=0):
    return torch.randn(count, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_distance_of_commuting_gaussians():
    a, b = np.array([4.0, 9.0, 0.25, 0.0]), np.array([1.0, 16.0, 0.0, 0.0])
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(4, 4)))[0]
    shift = np.array([1.0, -2.0, 0.5, 3.0])
    expected = (shift**2).sum() + ((np.sqrt(a) - np.sqrt(b)) ** 2).sum()
    found = frechet_distance(gaussian(shift, (axes * a) @ axes.T), gaussian(np.zeros(4), (axes * b) @ axes.T))
    assert found == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("size", [1, 2, 7, 40])
def test_distance_is_that_of_the_matrix_root(size):
    (mean_a, a), (mean_b, b) = random_gaussian(size, 1), random_gaussian(size, 2)
    expected = ((mean_a - mean_b) ** 2).sum() + np.trace(a + b - 2 * np.atleast_2d(sqrtm(a @ b)).real)
    # The matrix product squares the condition number of the roots, so scipy's is the less exact of both.
    assert frechet_distance(gaussian(mean_a, a), gaussian(mean_b, b)) == pytest.approx(expected, rel=1e-7)


def test_distance_of_covariances_without_full_rank():
    u, v = np.array([1.0, 2.0, -1.0, 0.0, 3.0]), np.array([0.5, -1.0, 4.0, 2.0, 0.0])
    zero = np.zeros(5)
    expected = u @ u + v @ v - 2 * abs(u @ v)
    found = frechet_distance(gaussian(zero, np.outer(u, u)), gaussian(zero, np.outer(v, v)))
    assert found == pytest.approx(expected, rel=1e-12)
    constant = FeatureStatistics.of(torch.tensor(u).expand(3, 5))
    assert frechet_distance(constant, FeatureStatistics.of(torch.tensor(v).expand(2, 5))) == pytest.approx(((u - v) ** 2).sum())
    assert frechet_distance(constant, constant) == 0


def test_fewer_images_than_features():
    a, b = rows(5, 84, 1), rows(9, 84, 2)
    # All 14 rows lie in 14 dimensions: in their basis scipy's root, made regular by 1e-13, is exact to about 1e-6.
    basis = torch.linalg.qr(torch.cat([a, b]).T).Q
    small_a, small_b = (np.cov((part @ basis).T) + 1e-13 * np.eye(14) for part in (a, b))
    expected = float((a.mean(0) - b.mean(0)).square().sum()) + np.trace(small_a + small_b - 2 * sqrtm(small_a @ small_b).real)
    assert frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b)) == pytest.approx(expected, rel=1e-5)


def test_distance_has_the_properties_of_a_squared_metric():
    a, b = rows(50, 6, 1) * torch.arange(1, 7), rows(40, 6, 2) + 1
    distance = frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))
    assert frechet_distance(FeatureStatistics.of(b), FeatureStatistics.of(a)) == pytest.approx(distance, rel=1e-12)
    rotation = torch.linalg.qr(rows(6, 6, 3)).Q
    moved = (FeatureStatistics.of(part @ rotation - 5) for part in (a, b))
    assert frechet_distance(*moved) == pytest.approx(distance, rel=1e-10)
    scaled = (FeatureStatistics.of(3 * part) for part in (a, b))
    assert frechet_distance(*scaled) == pytest.approx(9 * distance, rel=1e-12)
    assert frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(a)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("sizes", [[1] * 30, [7, 23], [29, 1], [30]])
def test_statistics_are_those_of_all_rows_however_they_come(sizes):
    # At 1e7 a sum of squares would be exact to 1e14 * 2^-53 = 1e-2 only; around the mean an error of 1e7 * 2^-53 is left.
    features = rows(30, 4) + 1e7
    first, *others = (FeatureStatistics.of(part) for part in features.split(sizes))
    whole = sum(others, first)
    assert whole.count == 30
    assert torch.allclose(whole.mean, features.mean(0), rtol=1e-14)
    assert torch.allclose(whole.covariance, torch.cov(features.T), atol=1e-7)


def test_statistics_of_single_precision_are_summed_in_double():
    features = rows(1000, 3).float() + 1000
    assert torch.allclose(FeatureStatistics.of(features).covariance, torch.cov(features.double().T), rtol=1e-10)


def test_what_has_no_distance():
    one = FeatureStatistics.of(torch.ones(1, 3))
    with pytest.raises(DataError, match="at least 2 images in each set, but one holds 1"):
        frechet_distance(one, one)
    with pytest.raises(DataError, match="1 of 2 images have features that are NaN or infinite"):
        FeatureStatistics.of(torch.tensor([[1.0, 2.0], [math.nan, math.inf]]))


# The table ------------------------------------------------------------------------------------------------------------


def as_features(images):
    return images.flatten(1)


def test_table_is_the_distance_of_all_images_in_batches_of_any_size(monkeypatch):
    monkeypatch.setattr(frechet, "_AT_ONCE", 16)
    reference, images = rows(70, 6, 1).view(70, 2, 3), rows(61, 6, 2).view(61, 2, 3) * 2
    largest, done = [], []

    def features(batch):
        largest.append(len(batch))
        return as_features(batch)

    batches = (part for part in images.split([1, 0, 40, 20]))
    sets = {"whole": images, "parts": batches, "same": reference}
    table = frechet_table(features, iter(reference.split(9)), sets, done.append)
    exact = frechet_distance(FeatureStatistics.of(images.flatten(1)), FeatureStatistics.of(reference.flatten(1)))
    for name in ("whole", "parts"):
        assert table[name].value == pytest.approx(exact, rel=1e-10)
        assert (table[name].num_images, table[name].num_reference) == (61, 70)
        assert table[name].stderr == pytest.approx(table["whole"].stderr, rel=1e-6)
    assert table["same"].value == pytest.approx(0, abs=1e-10)
    assert max(largest) == 16
    assert sum(done) == 70 + 61 + 61 + 70


def test_standard_error_and_bias_are_those_of_repeated_experiments():
    repeats, size, count = 100, 8, 60
    scale, shift = torch.linspace(3, 0.5, size), torch.ones(size)
    wider = scale * torch.tensor([1.0] * 7 + [3.0])
    exact = size + float((wider - scale).square().sum())
    table = [
        frechet_table(as_features, rows(count, size, k) * scale, {"": rows(count, size, repeats + k) * wider + shift})[""]
        for k in range(repeats)
    ]
    values, errors, biases = (np.array([getattr(d, key) for d in table]) for key in ("value", "stderr", "bias"))
    deviation = values.std(ddof=1)
    assert abs(np.sqrt((errors**2).mean()) / deviation - 1) < 5 / math.sqrt(2 * repeats)
    corrected = values - biases
    error = corrected.std(ddof=1) / math.sqrt(repeats)
    assert abs(corrected.mean() - exact) < 5 * error
    assert values.mean() - exact > 10 * error  # so that a wrong correction is seen


def test_error_and_bias_are_the_jackknife_s():
    reference, images = rows(5, 2), rows(7, 2, 1)
    found = frechet_table(as_features, reference, {"": images})[""]
    variance = bias = 0.0
    for place, part in enumerate((reference, images)):
        sets = [reference, images]
        left = []
        for row in range(len(part)):
            sets[place] = torch.cat([part[:row], part[row + 1 :]])
            left.append(frechet_distance(*map(FeatureStatistics.of, sets)))
        variance += (len(left) - 1) / len(left) * sum((each - np.mean(left)) ** 2 for each in left)
        bias += (len(left) - 1) * (np.mean(left) - found.value)
    assert found.stderr == pytest.approx(math.sqrt(variance), rel=1e-6)
    assert found.bias == pytest.approx(bias, rel=1e-6)


def test_table_of_few_images():
    pair = torch.tensor([[0.0], [2.0]])
    found = frechet_table(as_features, torch.tensor([[3.0], [7.0]]), {"pair": pair})["pair"]
    assert found.value == pytest.approx(18)
    sizes = {"num_images": 2, "num_reference": 2, "num_features": 1}
    assert found.to_dict() == sizes | {"value": found.value, "stderr": None, "bias": None}
    three = frechet_table(as_features, rows(3, 2), {"three": rows(3, 2, 1)})["three"]
    assert math.isfinite(three.stderr)
    for images in (pair[:1], pair[:0], []):
        with pytest.raises(DataError, match=rf"samples: .* at least 2 images, but there are {len(images)}\."):
            frechet_table(as_features, pair, {"samples": images})
        with pytest.raises(DataError, match="reference: .* at least 2 images"):
            frechet_table(as_features, images, {})


def test_a_set_with_nan_is_named():
    images = torch.rand(30, 1, 2)
    images[7, 0, 1] = math.nan
    with pytest.raises(DataError, match="samples: 1 of 2 images have features that are NaN"):
        frechet_table(as_features, torch.rand(30, 1, 2), {"train": torch.rand(30, 1, 2), "samples": images})
