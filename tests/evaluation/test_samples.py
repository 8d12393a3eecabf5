"""What samples are worth: data themselves, copies of training images, one class alone, and the table that says so."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from qvae.data.arrays import dataset_from_arrays
from qvae.evaluation import samples as module
from qvae.evaluation.classifier import FeatureClassifier
from qvae.evaluation.grey_scale import GreyScale
from qvae.evaluation.samples import sample_quality, samples_among_codes
from qvae.reporting.tables import quality_table
from qvae.sampling.coverage import coverage


class Halves(nn.Module):
    """Tells images that are bright above from those that are bright below; features are the pixels."""

    def __init__(self):
        super().__init__()
        self.classify = nn.Linear(1, 1)

    def features(self, images):
        return images.flatten(1)

    def forward(self, images):
        above, below = images.flatten(1).chunk(2, 1)
        return torch.stack([above.sum(1), below.sum(1)], 1)


CLASSIFIER = FeatureClassifier(Halves(), (3, 7), 1.0, "trained")


def images(count, seed, share=0.5):
    """Noise in the upper half, or, of the rest, in the lower one."""
    rows = 0.2 + 0.6 * torch.rand(count, 8, 8, generator=torch.Generator().manual_seed(seed))
    is_above = torch.arange(count) < share * count
    rows[is_above, 4:] = 0
    rows[~is_above, :4] = 0
    return rows, torch.where(is_above, 3, 7)


@pytest.fixture(scope="module")
def dataset():
    (train, labels), (test, test_labels) = images(400, 0), images(300, 1)
    arrays = (part.numpy() for part in (train, test))
    return dataset_from_arrays(*arrays, labels.numpy(), test_labels.numpy(), kind="reals", name="halves")


def quality(samples, dataset):
    scale = GreyScale.of(dataset)
    batches = map(scale, samples.split(70)), map(scale, dataset.values(dataset.test).split(90))
    return sample_quality(CLASSIFIER, *batches, dataset)


def test_more_of_the_data_are_as_good_as_training_images(dataset):
    found = quality(images(300, 2)[0], dataset)
    for name in ("precision", "recall", "coverage"):
        # Shares of 300 images each, of which neighbours go together: ten in a hundred at the very most.
        assert abs(getattr(found.coverage, name) - getattr(found.floor, name)) < 0.12
    assert found.classes == pytest.approx({3: 0.5, 7: 0.5})
    assert found.rarest[1] == pytest.approx(1.0)
    assert found.nearest == pytest.approx(found.nearest_of_test, rel=0.05)


def test_one_class_alone_is_seen(dataset):
    found = quality(images(300, 2, share=0.9)[0], dataset)
    assert found.rarest == (7, pytest.approx(0.2))
    found = quality(images(300, 2, share=1.0)[0], dataset)
    assert found.coverage.recall < 0.6
    assert found.classes[7] == 0
    rows = {row[0]: row[1:] for row in quality_table(found.to_dict()).rows}
    assert rows["rarest class, 7: its share"] == ("0.0%", "50.0%")
    assert rows["recall"][0] == f"{found.coverage.recall:.3f}"


def test_copies_of_training_images_are_at_distance_0(dataset):
    """All of them, or three of five: the distance is a median."""
    copies = dataset.values(dataset.train[:300])
    for samples in (copies, torch.cat([images(120, 2)[0], copies[:180]])):
        found = quality(samples, dataset)
        assert found.nearest < 1e-2 < found.nearest_of_test


def test_the_floor_is_of_as_many_training_images_as_there_are_test_images(dataset):
    found = quality(images(200, 2)[0], dataset)
    assert (found.coverage.num_samples, found.floor.num_samples) == (200, 300)


def test_copies_are_found_wherever_they_stand_in_a_large_set(dataset):
    (train, labels), (test, test_labels) = images(3000, 3), images(50, 1)
    arrays = (part.numpy() for part in (train, test))
    large = dataset_from_arrays(*arrays, labels.numpy(), test_labels.numpy(), kind="reals", name="halves")
    assert quality(large.values(large.train[::100]), large).nearest < 1e-3


def test_too_few_images_have_no_neighbours(dataset):
    assert quality(images(5, 0)[0], dataset) is None
    assert np.isfinite(quality(images(6, 0)[0], dataset).nearest)


def test_the_floor_is_what_training_images_would_be_as_samples():
    """Those of one class alone are plausible, and miss the other one."""
    (train, labels), (test, test_labels) = images(400, 0, share=1.0), images(300, 1)
    arrays = (part.numpy() for part in (train, test))
    narrow = dataset_from_arrays(*arrays, labels.numpy(), test_labels.numpy(), kind="reals", name="upper halves")
    floor = quality(images(300, 2)[0], narrow).floor
    assert floor.precision > 0.9
    assert floor.recall < 0.6


class Coded(nn.Module):
    """Two codes of a row: the means of its halves, the second one a hundred times as large; no noise."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def posterior_sample(self, x, relaxed, generator=None, draws=1):
        assert not relaxed
        assert generator is None or generator.initial_seed() == 6
        above, below = x.chunk(2, 1)
        return SimpleNamespace(latents=torch.stack([above.mean(1), 100 * below.mean(1)], 1))


def test_where_no_classifier_looks_samples_lie_among_codes_each_in_its_own_unit(dataset, monkeypatch):
    model, prepared, seeds = Coded(), module.prepared, []
    rows = torch.rand(300, 64, generator=torch.Generator().manual_seed(3))
    codes = model.posterior_sample(rows, False).latents

    def among(samples):
        return samples_among_codes(model, dataset, rows, samples, seed=6)

    assert among(codes).coverage == coverage(codes / codes.std(0), codes / codes.std(0))
    scattered = codes.clone()
    scattered[:, 0] += 10 * codes[:, 0].std() * torch.randn(300, generator=torch.Generator().manual_seed(4))
    # In raw units the first code is a hundredth of the second and its scatter a tenth; in its own unit it is ten deviations.
    assert among(scattered).coverage.precision < 0.3
    assert among(codes[:1].repeat(300, 1)).coverage.recall < 0.1
    assert among(codes[:5]) is None
    monkeypatch.setattr(module, "prepared", lambda dataset, places, seed: seeds.append(seed) or prepared(dataset, places, seed))
    few = among(codes[:200])
    assert seeds == [6]
    assert (few.coverage.num_samples, few.floor.num_samples) == (200, 300)
