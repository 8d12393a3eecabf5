"""Frechet distances of images of every kind: in the same grey levels, from the rows that they claim."""

import numpy as np
import pytest
import torch
from striped_images import stripes

from qvae.config.schema import DataConfig, EvaluationConfig, ModelConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.data.load import load_data
from qvae.evaluation import classifier_files
from qvae.evaluation import distances as module
from qvae.evaluation.classifier import measure_accuracy, train_classifier
from qvae.evaluation.distances import PriorSamples, frechet_distances
from qvae.evaluation.grey_scale import GreyScale
from qvae.models.likelihoods.likelihood import Statistics
from qvae.progress import Progress
from qvae.runs.assemble import make_model

LIKELIHOODS = {"bits": "bernoulli", "counts": "poisson", "categories": "categorical", "reals": "gaussian"}


def images(kind):
    """The same pictures of 17 grey levels as each likelihood takes them."""
    (train, train_labels), (test, test_labels) = stripes(200, 0), stripes(50, 1)
    levels = [np.rint(16 * part / part.max()) for part in (train, test)]
    if kind == "bits":
        levels = [(part / 16).astype(np.float32) for part in levels]
    elif kind == "reals":
        levels = [(0.3 * part - 2).astype(np.float32) for part in levels]
    else:
        levels = [part.astype(np.int64) for part in levels]
    return dataset_from_arrays(*levels, train_labels, test_labels, name="stripes", kind=kind)


def distances(kind):
    dataset = images(kind)
    torch.manual_seed(0)
    latent = {"latent": {"sizes": [3, 3]}, "network": {"hidden": [8]}, "likelihood": LIKELIHOODS[kind]}
    model = make_model(ModelConfig.model_validate(latent), Statistics.of(dataset)).eval()
    spins = torch.ones(30, 6, dtype=torch.int8)
    settings = EvaluationConfig(num_generated=30, num_test=20)  # which is of the likelihood alone
    return frechet_distances(model, dataset, settings, lambda n: PriorSamples(spins), Progress())


@pytest.mark.parametrize("kind", ["counts", "categories", "reals"])
def test_distances_mean_the_same_for_every_kind_of_numbers(kind, cache, quick):
    bits, other = distances("bits"), distances(kind)
    floor = "training images (the floor)"
    assert other.distances[floor].value == pytest.approx(bits.distances[floor].value, rel=1e-3)
    assert other.classifier.test_accuracy == bits.classifier.test_accuracy > 0.9
    # An untrained model predicts about the mean image whatever its likelihood, so that these are comparable, too.
    if kind != "categories":
        blurred = "reconstructions"
        assert other.distances[blurred].value == pytest.approx(bits.distances[blurred].value, rel=0.3)


def test_a_classifier_belongs_to_the_kind_of_its_images(cache, quick):
    """Digits are stored as the same bytes whether they are counts, categories or grey levels of a density."""
    stored = {kind: load_data(DataConfig(), kind) for kind in ("counts", "categories", "reals")}
    assert torch.equal(stored["counts"].train, stored["reals"].train)
    assert len({classifier_files._key(dataset) for dataset in stored.values()}) == 3
    assert train_classifier(images("counts")).weights == train_classifier(images("bits")).weights


def test_black_and_white_are_those_of_the_training_images():
    assert GreyScale.of(images("bits")) == GreyScale(0.0, 1.0)
    assert GreyScale.of(images("counts")) == GreyScale(0.0, 16.0)
    bright = images("counts")
    bright.train.clamp_(min=3)
    assert GreyScale.of(bright) == GreyScale(0.0, 16.0)  # nothing is black, and black is still nothing
    ends = GreyScale.of(images("reals"))
    assert ends.black == pytest.approx(-2)
    assert ends.white == pytest.approx(2.8)
    assert ends(torch.tensor([-3.0, 0.4, 9.0])).tolist() == pytest.approx([0.0, 0.5, 1.0])


def test_accuracy_is_measured_in_the_grey_levels_of_training():
    dataset, seen = images("reals"), []
    measure_accuracy(lambda rows: seen.append(rows) or torch.ones(len(rows), 2), (-3, 7), dataset)
    assert torch.equal(seen[0], GreyScale.of(dataset)(dataset.values(dataset.test)))


def test_the_reference_is_the_test_images(cache, quick, monkeypatch):
    dataset, seen = images("counts"), []

    def remember(features, reference, sets, progress):
        seen.append(torch.cat(reference))
        return {name: torch.cat(list(batches)) for name, batches in sets.items()}

    monkeypatch.setattr(module, "frechet_table", remember)
    sets = distances("counts").distances
    assert torch.equal(seen[0], dataset.test.float() / 16)
    floor = {tuple(image.tolist()) for image in sets["training images (the floor)"].flatten(1)}
    assert floor <= {tuple(image.tolist()) for image in dataset.train.float().flatten(1) / 16}
    assert len(floor) == 30


def test_what_is_compared_and_with_what(cache, quick):
    found = distances("counts").distances
    numbers = {name: (distance.num_images, distance.num_reference) for name, distance in found.items()}
    assert numbers == {
        "training images (the floor)": (30, 50),
        "reconstructions": (50, 50),
        "samples of the prior": (30, 50),
        "independent bits, same decoder (factorized prior)": (30, 50),
    }


def test_independent_bits_have_each_the_mean_of_its_code():
    dataset = images("bits")
    torch.manual_seed(0)
    latent = {"latent": {"sizes": [3, 3]}, "network": {"hidden": [8]}}
    model = make_model(ModelConfig.model_validate(latent), Statistics.of(dataset)).eval()
    with torch.no_grad():
        model.posterior.levels[0].bias.copy_(torch.tensor([-6.0, 6.0, 0.0, -1.0, 1.0, 3.0]))
    model.decode_codes = lambda bits, generator: bits
    count = 4000
    sets = module._image_sets(model, dataset, EvaluationConfig(num_generated=count), lambda n: PriorSamples(torch.ones(n, 6)))
    bits = torch.cat(list(sets["independent bits, same decoder (factorized prior)"][1]()))
    means = model.code_means(dataset.prepare(dataset.train.flatten(1), torch.Generator().manual_seed(0))).mean(0)
    assert bits.shape == (count, 6)
    assert ((bits.mean(0) - means).abs() < 5 * 0.5 / count**0.5 + 0.02).all()  # binarization is drawn anew
    assert float(means.max() - means.min()) > 0.8
