"""Frechet distances against closed forms, the classifier with its files, and Inception with and without its packages."""

import dataclasses
import hashlib
import math
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from qvae.config.schema import DataConfig
from qvae.data import dataset_from_arrays, load_data
from qvae.errors import ConfigError, DataError, QvaeError
from qvae.evaluation import frechet
from qvae.evaluation.frechet import (
    FeatureStatistics,
    LeNet,
    check_inception,
    feature_classifier,
    frechet_distance,
    frechet_table,
    inception_table,
    train_classifier,
)

MNIST = Path(__file__).parents[2].parent / "shared" / "data" / "mnist"
needs_mnist = pytest.mark.skipif(not MNIST.is_dir(), reason=f"needs the idx files of MNIST in {MNIST}")


# The distance ---------------------------------------------------------------------------------------------------------


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


def test_table_of_few_images():
    pair = torch.tensor([[0.0], [2.0]])
    found = frechet_table(as_features, torch.tensor([[3.0], [7.0]]), {"pair": pair})["pair"]
    assert found.value == pytest.approx(18)
    assert found.to_dict() == {"value": found.value, "num_images": 2, "num_reference": 2, "stderr": None, "bias": None}
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


# The classifier -------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the user's."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "qvae" / "classifiers"


@pytest.fixture
def quick(monkeypatch):
    monkeypatch.setattr(frechet, "_STEPS", 25)


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
    (train, train_labels), (test, test_labels) = stripes(count, 0, shape), stripes(50, 1, shape)
    return dataset_from_arrays(train, test, train_labels, test_labels, name="stripes", **keys)


@pytest.mark.parametrize("shape", [(8, 8), (9, 40), (28, 28), (64, 24), (3, 8, 11), (3, 32, 32)])
def test_network_takes_images_of_any_shape(shape):
    network = LeNet(shape, 5).eval()
    images = torch.rand(4, *shape)
    assert network.features(images).shape == (4, 84)
    assert network(images).shape == (4, 5)
    assert torch.equal(network.features(images.flatten(1)), network.features(images))
    heights = []
    pooling = next(layer for layer in network.layers if isinstance(layer, torch.nn.AdaptiveAvgPool2d))
    pooling.register_forward_pre_hook(lambda layer, inputs: heights.append(min(inputs[0].shape[-2:])))
    network(images)
    assert 4 <= heights[0] <= 6


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (3, 12, 16)])
def test_training_learns_grey_and_coloured_images(shape, quick):
    steps = []
    with torch.no_grad():
        classifier = train_classifier(striped(shape), lambda done, total: steps.append((done, total)))
    assert steps == [(k, 25) for k in range(1, 26)]
    assert classifier.classes == (-3, 7)
    assert classifier.test_accuracy > 0.9
    assert classifier.source == "trained"
    assert not classifier.network.training
    assert not classifier(torch.rand(3, *shape, dtype=torch.float64)).requires_grad


def test_training_depends_on_the_images_alone(quick):
    state = torch.get_rng_state()
    first = train_classifier(striped())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert train_classifier(striped()).weights == first.weights
    assert train_classifier(striped(count=190)).weights != first.weights


def test_small_sets_end_after_a_number_of_epochs():
    steps = []
    train_classifier(striped(count=2), lambda done, total: steps.append(total))
    assert steps == [frechet._EPOCHS] * frechet._EPOCHS


def test_a_classifier_is_trained_once_and_cached(cache, quick):
    dataset, steps = striped(), []
    trained = feature_classifier(dataset, progress=lambda done, total: steps.append(done))
    assert trained.source == "trained"
    assert len(steps) == 25
    cached = feature_classifier(dataset, progress=lambda done, total: pytest.fail("it was trained again"))
    assert cached.source == "cached"
    assert cached.to_dict() == {**trained.to_dict(), "source": "cached"}
    assert cached.classes == trained.classes
    assert len(cached.weights) == 12
    assert not cached.network.training
    images = torch.rand(5, 8, 8)
    assert torch.equal(cached(images), trained(images))
    (file,) = cache.iterdir()
    assert file.suffix == ".safetensors"


@pytest.mark.parametrize("damage", [lambda c: c[:-40], lambda c: c[:-1] + bytes([c[-1] ^ 1]), lambda c: b"", lambda c: b"{}"])
def test_a_damaged_cache_is_trained_anew_and_mended(cache, quick, damage):
    first = feature_classifier(striped())
    (file,) = cache.iterdir()
    file.write_bytes(damage(file.read_bytes()))
    assert feature_classifier(striped()).to_dict() == first.to_dict()
    assert feature_classifier(striped()).to_dict() == {**first.to_dict(), "source": "cached"}


def test_a_file_of_another_data_set_is_not_used(cache, quick):
    feature_classifier(striped())
    (file,) = cache.iterdir()
    feature_classifier(striped(count=190))
    (other,) = set(cache.iterdir()) - {file}
    other.write_bytes(file.read_bytes())
    assert feature_classifier(striped(count=190)).source == "trained"


def test_images_labels_and_shape_make_a_data_set(cache, quick):
    first = striped()
    keys = {frechet._key(first)}
    others = [
        dataclasses.replace(first, train=first.train.flip(0)),
        dataclasses.replace(first, train_labels=first.train_labels.flip(0)),
        dataclasses.replace(first, train_labels=first.train_labels + 1),
        dataclasses.replace(first, train=first.train.view(200, 4, 16)[:, :, :].reshape(200, 16, 4).repeat(1, 1, 2)),
        striped(binarize="threshold"),
    ]
    for dataset in others:
        keys.add(frechet._key(dataset))
    assert len(keys) == 6
    assert frechet._key(dataclasses.replace(first, name="another name")) in keys


def test_accuracy_is_that_of_the_test_images_at_hand(cache, quick):
    dataset = striped()
    accuracy = feature_classifier(dataset).test_accuracy
    swapped = dataclasses.replace(dataset, test_labels=4 - dataset.test_labels)  # -3 and 7 change places
    found = feature_classifier(swapped)
    assert found.source == "cached"
    assert found.test_accuracy == pytest.approx(1 - accuracy)
    assert feature_classifier(dataclasses.replace(dataset, test_labels=None)).test_accuracy is None


def test_a_cache_that_cannot_be_written_is_no_error(tmp_path, monkeypatch, quick):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert feature_classifier(striped()).source == "trained"
    assert feature_classifier(striped()).source == "trained"


def test_data_sets_without_a_classifier(cache):
    dataset = striped()
    with pytest.raises(DataError, match=r"stripes has no labels of its training images, .* give train_labels"):
        feature_classifier(dataclasses.replace(dataset, train_labels=None))
    with pytest.raises(DataError, match="all training images of stripes have the label 4"):
        feature_classifier(dataclasses.replace(dataset, train_labels=torch.full((200,), 4)))
    with pytest.raises(DataError, match="the images of stripes have 7x9 pixels; .* at least 8x8"):
        feature_classifier(striped((7, 9)))


def test_the_classifier_of_the_digits_is_shipped(cache):
    dataset = load_data(DataConfig(name="digits"))
    classifier = feature_classifier(dataset, progress=lambda done, total: pytest.fail("it was trained"))
    assert classifier.source == "shipped"
    assert not cache.exists()
    assert classifier.test_accuracy > 0.94
    # Other processors round otherwise, which may change one of 297 close decisions.
    predicted = classifier.network(dataset.grey(dataset.test)).argmax(1)
    assert classifier.test_accuracy == pytest.approx(float((predicted == dataset.test_labels).double().mean()), abs=0.004)
    # Published distances belong to these weights: to change them is to make them incomparable.
    assert classifier.weights == "89fbe9f65d43"
    test = dataset.grey(dataset.test)
    noise = torch.rand(test.shape, generator=torch.Generator().manual_seed(0))
    table = frechet_table(classifier, test, {"train": dataset.grey(dataset.train[:297]), "noisy": test.lerp(noise, 0.5)})
    assert table["noisy"].value - table["noisy"].bias > 5 * table["noisy"].stderr
    assert table["train"].value - table["train"].bias < 3 * table["train"].stderr


@needs_mnist
def test_the_classifier_of_mnist_is_shipped(cache):
    dataset = load_data(DataConfig(name="mnist", root=str(MNIST)))
    classifier = feature_classifier(dataset, progress=lambda done, total: pytest.fail("it was trained"))
    assert classifier.source == "shipped"
    assert classifier.weights == "a417e622ed16"
    assert classifier.test_accuracy > 0.992
    # Other processors round otherwise, which may change a few of 10,000 close decisions.
    measured = frechet._accuracy(classifier.network, classifier.classes, dataset)
    assert measured == pytest.approx(classifier.test_accuracy, abs=5e-4)
    reference, train = (dataset.grey(images[:2000]) for images in (dataset.test, dataset.train))
    table = frechet_table(classifier, reference, {"train": train, "mirrored": reference.flip(2)})
    assert table["mirrored"].value > 5 * table["train"].value


def test_shipped_files_are_small():
    files = list((Path(frechet.__file__).parent / "classifiers").glob("*.safetensors"))
    assert {file.name.rsplit("-", 1)[0] for file in files} == {"digits", "mnist"}
    assert all(file.stat().st_size < 400_000 for file in files)


# Inception ------------------------------------------------------------------------------------------------------------


class Trap:
    """Fails the test when it is unpickled."""

    def __reduce__(self):
        return pytest.fail, ("a pickle was run",)


def test_a_wrong_file_of_weights_is_not_unpickled(tmp_path):
    path = tmp_path / "weights.pth"
    torch.save(Trap(), path)
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    official = r"the weights of Inception are the file pt_inception-2015-12-05-6726825d\.pth, as released by pytorch-fid"
    for call in (check_inception, lambda path: inception_table(path, torch.rand(2, 8, 8), {})):
        with pytest.raises(ConfigError, match=rf"weights\.pth has SHA-256 {found}, not 6726825d.*; {official}"):
            call(path)
        with pytest.raises(ConfigError, match=rf"none\.pth can't be read \(No such file or directory\); {official}"):
            call(tmp_path / "none.pth")
        with pytest.raises(ConfigError, match=r"can't be read \(Is a directory\)"):
            call(tmp_path)


def test_the_checksum_is_that_in_the_name_of_the_file():
    assert frechet.INCEPTION_FILE.endswith(f"-{frechet.INCEPTION_SHA256[:8]}.pth")
    assert len(frechet.INCEPTION_SHA256) == 64


@pytest.fixture
def accepted(tmp_path, monkeypatch):
    """Save an object as weights that pass for the official ones."""

    def save(weights):
        torch.save(weights, tmp_path / "weights.pth")
        content = (tmp_path / "weights.pth").read_bytes()
        monkeypatch.setattr(frechet, "INCEPTION_SHA256", hashlib.sha256(content).hexdigest())
        return tmp_path / "weights.pth"

    return save


@pytest.fixture
def packages(tmp_path, monkeypatch):
    """Make modules of the given code importable, in place of those that may be installed."""

    def imported():
        return [name for name in sys.modules if name.partition(".")[0] in ("torchmetrics", "torch_fidelity")]

    def write(modules):
        for name in imported():
            monkeypatch.delitem(sys.modules, name)
        for name, code in modules.items():
            file = tmp_path / "packages" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(textwrap.dedent(code))
        monkeypatch.syspath_prepend(str(tmp_path / "packages"))

    yield write
    for name in imported():
        del sys.modules[name]


def test_missing_packages_are_named_with_their_extra(accepted, packages, monkeypatch):
    path = accepted({})
    packages({})
    monkeypatch.setitem(sys.modules, "torch_fidelity", None)
    with pytest.raises(QvaeError, match=r"needs torch_fidelity, which can't be imported .*: pip install -e '\.\[fid\]' in"):
        check_inception(path)


def test_a_torchvision_of_another_torch_is_named(accepted, packages):
    packages({"torch_fidelity.py": "raise RuntimeError('operator torchvision::nms does not exist')"})
    with pytest.raises(QvaeError, match=r"torchvision, which fails here \(operator .*\); install torch and torchvision from"):
        check_inception(accepted({}))


METRIC = """
    import torch

    class FrechetInceptionDistance:
        calls = []

        def __init__(self, feature, feature_extractor_weights_path, reset_real_features):
            assert feature == 2048 and not reset_real_features
            torch.load(feature_extractor_weights_path, weights_only=False)

        def to(self, device):
            return self

        def update(self, images, real):
            self.calls.append((images, real))

        def compute(self):
            return torch.tensor(float(len(self.calls)))

        def reset(self):
            self.calls.append("reset")
"""


@pytest.fixture
def recorded(packages):
    """The calls of an imitation of torchmetrics' class."""
    empty = ["torch_fidelity.py", "torchmetrics/__init__.py", "torchmetrics/image/__init__.py"]
    packages({**dict.fromkeys(empty, ""), "torchmetrics/image/fid.py": METRIC})
    return frechet._import_inception().calls


@pytest.mark.parametrize("shape", [(5, 4), (1, 5, 4), (3, 5, 4)])
def test_inception_sees_bytes_in_three_channels_and_the_reference_once(recorded, accepted, shape):
    levels = torch.arange(256).div(255).mul(2**15).round().div(2**15)  # as a Dataset keeps them
    images = levels[torch.arange(40 * math.prod(shape)) % 256].view(40, *shape)
    done = []
    sets = {"train": images[:20], "samples": iter([images[:0], *images[:5].split(2)])}
    table = inception_table(accepted({"w": torch.zeros(1)}), images, sets, progress=done.append)
    sizes = [call if call == "reset" else (len(call[0]), call[1]) for call in recorded]
    resets = [(32, True), (8, True), (20, False), "reset", (2, False), (2, False), (1, False), "reset"]
    assert sizes == resets
    assert done == [32, 8, 20, 2, 2, 1]
    seen = recorded[0][0]
    assert seen.dtype == torch.uint8
    assert seen.shape == (32, 3, 5, 4)
    expected = torch.arange(40 * math.prod(shape)).remainder(256).view(40, -1, 5, 4)[:32]
    assert torch.equal(seen, expected.expand(-1, 3, -1, -1).to(torch.uint8))
    assert [(d.value, d.num_images, d.num_reference, d.stderr) for d in table.values()] == [(3, 20, 40, None), (7, 5, 40, None)]


def test_inception_needs_two_images(recorded, accepted):
    with pytest.raises(DataError, match="samples: .* at least 2 images, but there are 1"):
        inception_table(accepted({}), torch.rand(3, 8, 8), {"samples": torch.rand(1, 8, 8)})


@pytest.mark.parametrize("forced", [None, "TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"])
def test_weights_are_unpickled_as_tensors_whatever_the_package_asks(recorded, accepted, forced, monkeypatch):
    if forced:
        monkeypatch.setenv(forced, "1")
    environment = dict(frechet.os.environ)
    with pytest.raises(Exception, match="[Ww]eights only load failed|weights_only"):
        inception_table(accepted(Trap()), torch.rand(2, 8, 8), {})
    assert dict(frechet.os.environ) == environment


def test_the_whole_way_through_torchmetrics_with_random_weights(accepted, tmp_path, monkeypatch):
    try:
        metric_class = frechet._import_inception()
    except QvaeError as error:
        pytest.skip(str(error))
    torch.save({}, tmp_path / "none.pth")
    torch.manual_seed(0)
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.Module, "load_state_dict", lambda *arguments: None)
        random = metric_class(feature=2048, feature_extractor_weights_path=str(tmp_path / "none.pth")).inception
    path = accepted(random.state_dict())
    reference, images = torch.rand(3, 8, 8), torch.rand(2, 3, 8, 8)
    found = inception_table(path, reference, {"samples": images})["samples"]
    features = [random(frechet._as_bytes(part)) for part in (images, reference)]
    expected = frechet_distance(*(FeatureStatistics.of(part) for part in features))
    assert (found.num_images, found.num_reference) == (2, 3)
    # torchmetrics takes the root of a product without full rank, whose 2,000 zero eigenvalues are rounding errors.
    scale = sum(float(FeatureStatistics.of(part).covariance.trace()) for part in features)
    assert found.value == pytest.approx(expected, abs=1e-3 * scale)
