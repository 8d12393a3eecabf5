"""The Frechet distance between sets of images, on features of any kind, with its standard error and bias."""

from __future__ import annotations

import contextlib
import math
import operator
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from typing import Any

import torch
from torch import Tensor

<<<<<<< HEAD
from qvae.errors import DataError
=======
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.data import Dataset
from qvae.errors import ConfigError, DataError, QvaeError, RunError, install_line
>>>>>>> helper-s2

Batches = Tensor | Iterable[Tensor]
"""Images with values in [0, 1], (B, H, W) or (B, C, H, W): one tensor, or batches that needn't be of one size."""

_JACKKNIFE_GROUPS = 20  # a standard error from 20 groups is itself good to 16 %
_AT_ONCE = 500  # images whose features are found at once: tens of MB


@dataclass(frozen=True)
class FeatureStatistics:
    """Mean and scatter of rows of features, float64 on the features' device; sums of them are those of all rows.

    Two sets are merged around their own means (Chan, Golub, LeVeque 1983), so that features far from zero lose no digits.

    Attributes:
        count: rows.
        mean: (F,).
        scatter: sum over rows of (x - mean)(x - mean)', (F, F).

    >>> rows = torch.randn(10, 3)
    >>> parts = FeatureStatistics.of(rows[:4]) + FeatureStatistics.of(rows[4:])
    >>> torch.allclose(parts.covariance, torch.cov(rows.T).double(), atol=1e-5)
    True
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    def of(cls, features: Tensor) -> FeatureStatistics:
        """Statistics of features (B, F), B at least 1.

        Raises:
            DataError: a feature is NaN or infinite.
        """
        rows = features.double()
        faulty = int((~torch.isfinite(rows)).any(1).sum())
        if faulty:
            remedy = "look for NaN in the images or in the model that made them"
            raise DataError(f"{faulty} of {len(rows)} images have features that are NaN or infinite; {remedy}.")
        mean = rows.mean(0)
        centred = rows - mean
        return cls(len(rows), mean, centred.T @ centred)

    def __add__(self, other: FeatureStatistics) -> FeatureStatistics:
        count = self.count + other.count
        step = other.mean - self.mean
        between = torch.outer(step, step) * (self.count * other.count / count)
        return FeatureStatistics(count, self.mean + step * (other.count / count), self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Tensor:
        """Unbiased, (F, F).

        Raises:
            DataError: there are fewer than two rows.
        """
        if self.count < 2:
            raise DataError(f"a Frechet distance needs at least 2 images in each set, but one holds {self.count}.")
        return self.scatter / (self.count - 1)


def frechet_distance(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """|m_a - m_b|^2 + tr[C_a + C_b - 2 (C_a C_b)^(1/2)]: the squared Frechet distance of two Gaussians.

    Source: Dowson & Landau (1982), as used on features of images by Heusel et al. (2017). With C = R R' the trace of the
    root is the sum of the singular values of R_a' R_b, so that covariances needn't have full rank: fewer images than
    features will do.

    Raises:
        DataError: a set has fewer than two images.

    >>> a, b = torch.tensor([[0.0], [2.0]]), torch.tensor([[3.0], [7.0]])
    >>> frechet_distance(FeatureStatistics.of(a), FeatureStatistics.of(b))  # 4 * 4 + (sqrt(2) - sqrt(8))^2
    18.0
    """
    overlap = torch.linalg.svdvals(_root(a.covariance).T @ _root(b.covariance)).sum()
    spread = a.covariance.trace() + b.covariance.trace() - 2 * overlap
    return float((a.mean - b.mean).square().sum() + spread.clamp(min=0))


def _root(covariance: Tensor) -> Tensor:
    """R of the smallest size with R R' = C: eigenvalues that are nothing but rounding errors are left out."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > values[-1] * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()


@dataclass(frozen=True)
class FrechetDistance:
    """A Frechet distance with what is needed to judge it.

    A distance between finite sets is too large on average, by about a constant over the number of images: compare only
    distances of sets of the same sizes, and look at ``bias``. Both estimates take the sets for independent draws; for
    reconstructions of the reference itself, which follow it, they are too large.

    Attributes:
        value: the squared Frechet distance of the Gaussians fitted to both sets' features.
        num_images: in the set.
        num_reference: in the set it is compared with.
        stderr: standard error over the images of both sets (jackknife), not over trained models or classifiers; None
            where it isn't estimated.
        bias: the jackknife's estimate of how much of ``value`` is due to the finite sets; None where it isn't estimated.
    """

    value: float
    num_images: int
    num_reference: int
    stderr: float | None = None
    bias: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


@torch.no_grad()
def frechet_table(
    features: Callable[[Tensor], Tensor],
    reference: Batches,
    sets: Mapping[str, Batches],
    progress: Callable[[int], None] = lambda images: None,
) -> dict[str, FrechetDistance]:
    """Frechet distance of each of ``sets`` from ``reference``, in features (B, F) that ``features`` finds in images.

    Nothing is kept of a batch but the sums of its features, so that any number of images needs the memory of one batch.
    Sums are kept for twenty groups of images: leaving out one group at a time gives standard error and bias. Every
    twentieth image is in the same group, so a set must not repeat itself with that period.

    Args:
        features: such as a :class:`~qvae.evaluation.classifier.FeatureClassifier`.
        reference: the images that all sets are compared with: the test images.
        sets: by name, for instance training images, reconstructions and samples.
        progress: called with the number of images done since the last call.

    Raises:
        DataError: a set has fewer than two images, or features that are NaN or infinite; the message names it.
    """
    against = _grouped(features, reference, "reference", progress)
    table = {}
    for name, images in sets.items():
        table[name] = _jackknife(_grouped(features, images, name, progress), against)
    return table


def _grouped(
    features: Callable[[Tensor], Tensor], images: Batches, name: str, progress: Callable[[int], None]
) -> list[FeatureStatistics]:
    """Statistics of the groups of the jackknife; only of those that have images."""
    groups: dict[int, FeatureStatistics] = {}
    count = 0
    for batch in in_batches(images, _AT_ONCE):
        rows = features(batch)
        for offset in range(min(_JACKKNIFE_GROUPS, len(rows))):
            group = (count + offset) % _JACKKNIFE_GROUPS
            with _naming(name):
                new = FeatureStatistics.of(rows[offset::_JACKKNIFE_GROUPS])
            groups[group] = groups[group] + new if group in groups else new
        count += len(batch)
        progress(len(batch))
    if count < 2:
        raise DataError(f"{name}: a Frechet distance needs at least 2 images, but there are {count}.")
    return list(groups.values())


def in_batches(images: Batches, size: int) -> Iterator[Tensor]:
    """The same images, at most ``size`` at a time."""
    for batch in [images] if isinstance(images, Tensor) else images:
        yield from batch.split(size) if len(batch) else ()


@contextlib.contextmanager
def _naming(name: str) -> Iterator[None]:
    try:
        yield
    except DataError as error:
        raise DataError(f"{name}: {error}") from None


def _jackknife(a: list[FeatureStatistics], b: list[FeatureStatistics]) -> FrechetDistance:
    """The distance with the delete-a-group jackknife's standard error and bias (Efron & Tibshirani 1993, ch. 11)."""
    all_a, all_b = reduce(operator.add, a), reduce(operator.add, b)
    value = frechet_distance(all_a, all_b)
    sizes = all_a.count, all_b.count
    if min(sizes) < 3:
        return FrechetDistance(value, *sizes)
    variance = bias = 0.0
    for leaving in (
        [frechet_distance(part, all_b) for part in _without_each(a)],
        [frechet_distance(all_a, part) for part in _without_each(b)],
    ):
        distances = torch.tensor(leaving, dtype=torch.float64)
        variance += (len(leaving) - 1) * float(distances.var(correction=0))
        bias += (len(leaving) - 1) * float(distances.mean() - value)
    return FrechetDistance(value, *sizes, stderr=math.sqrt(variance), bias=bias)


def _without_each(groups: list[FeatureStatistics]) -> Iterator[FeatureStatistics]:
    for left_out in range(len(groups)):
        yield reduce(operator.add, groups[:left_out] + groups[left_out + 1 :])
<<<<<<< HEAD
=======


# The classifier -------------------------------------------------------------------------------------------------------

_RECIPE = 1  # part of a data set's key: count up when network or training change, and old weights aren't found any more
_STEPS, _EPOCHS, _BATCH = 2800, 80, 128  # whichever of steps and epochs ends first
_LEARNING_RATE = 4e-3
_SEED = 0
_SMALLEST = 8  # pixels of height and width


class LeNet(nn.Module):
    """LeNet-5 with rectifiers (LeCun et al. 1998): images to the logits of classes, 84 features before the last layer.

    On 28x28 pixels it is 6 and 16 channels, 400-120-84; smaller images are pooled less, larger ones are averaged down.

    Args:
        image_shape: (H, W) or (C, H, W), H and W at least 8.
        num_classes: at least 2.
    """

    def __init__(self, image_shape: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        channels, height, width = self.image_shape = (1, *image_shape) if len(image_shape) == 2 else image_shape
        is_small = min(height, width) < 20
        side = 4 if is_small else 5
        second = nn.Conv2d(6 * channels, 16 * channels, 3 if is_small else 5, padding=1 if is_small else 0)
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 6 * channels, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            second,
            nn.ReLU(),
            nn.Identity() if is_small else nn.MaxPool2d(2),
            nn.AdaptiveAvgPool2d(side),
            nn.Flatten(),
            nn.Linear(16 * channels * side * side, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
        )
        self.classify = nn.Linear(84, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The 84 features of images with values in [0, 1], (B, *image_shape) or (B, D)."""
        return self.layers(images.reshape(-1, *self.image_shape))

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the classes, (B, num_classes)."""
        return self.classify(self.features(images))


@dataclass(frozen=True)
class FeatureClassifier:
    """A trained classifier as a source of features: call it with a batch of images (B, *image_shape) or (B, D).

    A Frechet distance belongs to its classifier: distances can be compared only where ``weights`` are the same.

    Attributes:
        network: in evaluation mode.
        classes: the labels, in the order of the logits.
        test_accuracy: on the test images of the data set; None if those have no labels.
        source: ``shipped`` with qvae, ``cached`` in the user's cache folder, or ``trained`` just now.
    """

    network: LeNet
    classes: tuple[int, ...]
    test_accuracy: float | None
    source: Literal["shipped", "cached", "trained"]

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features, (B, 84), float32, on the classifier's device."""
        return self.network.features(images.to(self.network.classify.weight.device).float())

    @torch.no_grad()
    def predict(self, images: Tensor) -> Tensor:
        """The labels of images (B, *image_shape) or (B, D), (B,), on the CPU."""
        logits = self.network(images.to(self.network.classify.weight.device).float())
        return torch.tensor(self.classes)[logits.argmax(1).cpu()]

    @property
    def weights(self) -> str:
        """The first twelve hexadecimal digits of the weights' SHA-256: which classifier this is."""
        state = self.network.state_dict()
        return _sha256(json.dumps(list(state)).encode(), *state.values())[:12]

    def to_dict(self) -> dict[str, Any]:
        """What a result must say of the classifier: its weights, accuracy and source."""
        return {"weights": self.weights, "test_accuracy": self.test_accuracy, "source": self.source}


def feature_classifier(
    dataset: Dataset,
    device: torch.device | str = "cpu",
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> FeatureClassifier:
    """The classifier of a data set's training images: shipped, cached or else trained, and then cached.

    Data sets are recognised by their training images and labels. Training takes about a minute on one core for MNIST
    and seconds for small sets; the cache is ``qvae/classifiers`` in the user's cache folder, and one that can't be
    written is no error.

    Args:
        dataset: with labels.
        device: of the network.
        progress: called with the steps done and their total, in training alone.

    Raises:
        DataError: the images have no labels, only one class, or are smaller than 8x8 pixels.
    """
    key = _key(dataset)
    found = _read_shipped(key, dataset) or _read(_cache_file(key), key, dataset, "cached")
    if found is None:
        found = train_classifier(dataset, progress)
        with contextlib.suppress(OSError, RunError):
            _cache_file(key).parent.mkdir(parents=True, exist_ok=True)
            save_classifier(_cache_file(key), found, dataset)
    found.network.to(device)
    return found


@torch.enable_grad()
def train_classifier(
    dataset: Dataset, progress: Callable[[int, int], None] = lambda done, total: None
) -> FeatureClassifier:
    """Train the classifier of a data set on the CPU, whatever the device of the run: its weights follow from the images.

    Another kind of processor or number of threads may round otherwise, which gives other weights of the same quality.

    Args:
        dataset: with labels.
        progress: called with the steps done and their total.

    Raises:
        DataError: as for :func:`feature_classifier`.
    """
    images, classes, labels = _labelled(dataset)
    generator = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = LeNet(dataset.image_shape, len(classes))
    batch_size = min(_BATCH, len(images))
    steps = min(_STEPS, _EPOCHS * (len(images) // batch_size))
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, _LEARNING_RATE, total_steps=steps, pct_start=0.2)
    order: Iterator[Tensor] = iter(())
    for step in range(steps):
        rows = next(order, None)
        if rows is None or len(rows) < batch_size:
            order = iter(torch.randperm(len(images), generator=generator).split(batch_size))
            rows = next(order)
        loss = F.cross_entropy(network(dataset.grey(images[rows])), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)
    network.eval()
    return FeatureClassifier(network, classes, _accuracy(network, classes, dataset), "trained")


def _labelled(dataset: Dataset) -> tuple[Tensor, tuple[int, ...], Tensor]:
    """Coded training images, the classes, and the place of each image's label among the classes."""
    if dataset.train_labels is None:
        remedy = "give train_labels to have a Frechet distance on its features"
        raise DataError(f"{dataset.name} has no labels of its training images, so no classifier can be trained; {remedy}.")
    height, width = dataset.image_shape[-2:]
    if min(height, width) < _SMALLEST:
        least = f"a classifier of them needs at least {_SMALLEST}x{_SMALLEST}"
        raise DataError(f"the images of {dataset.name} have {height}x{width} pixels; {least}.")
    classes, labels = dataset.train_labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"all training images of {dataset.name} have the label {int(classes[0])}; two classes are needed.")
    return dataset.train, tuple(classes.tolist()), labels


@torch.no_grad()
def _accuracy(network: LeNet, classes: tuple[int, ...], dataset: Dataset) -> float | None:
    if dataset.test_labels is None:
        return None
    right = 0
    for images, labels in zip(dataset.test.split(_AT_ONCE), dataset.test_labels.split(_AT_ONCE), strict=True):
        predicted = torch.tensor(classes)[network(dataset.grey(images)).argmax(1)]
        right += int((predicted == labels).sum())
    return right / len(dataset.test)


# Files of classifiers -------------------------------------------------------------------------------------------------


def _key(dataset: Dataset) -> str:
    """SHA-256 of the recipe, the training images and their labels."""
    images, classes, labels = _labelled(dataset)
    return _sha256(json.dumps([_RECIPE, list(images.shape), list(classes)]).encode(), images, labels)


def _test_key(dataset: Dataset) -> str:
    """SHA-256 of the test images and their labels: what an accuracy belongs to."""
    return _sha256(b"", dataset.test, *([] if dataset.test_labels is None else [dataset.test_labels]))


def _sha256(head: bytes, *tensors: Tensor) -> str:
    digest = hashlib.sha256(head)
    for tensor in tensors:
        array = tensor.cpu().numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).data)
    return digest.hexdigest()


def save_classifier(path: Path, classifier: FeatureClassifier, dataset: Dataset) -> None:
    """Write a classifier of ``dataset`` to a safetensors file: weights as the body, all else in the header.

    Raises:
        RunError: the file can't be written.
    """
    state = {
        "key": _key(dataset),
        "test_key": _test_key(dataset),
        "test_accuracy": classifier.test_accuracy,
        "classes": list(classifier.classes),
        "weights": dict(classifier.network.state_dict()),
    }
    save_checkpoint(path, state)


def shipped_name(dataset: Dataset) -> str:
    """The file name under which the classifier of ``dataset`` is shipped, if it is."""
    return f"{dataset.name}-{_key(dataset)[:12]}.safetensors"


def _read_shipped(key: str, dataset: Dataset) -> FeatureClassifier | None:
    for file in (resources.files("qvae.evaluation") / "classifiers").iterdir():
        if file.name.endswith(f"-{key[:12]}.safetensors"):
            with resources.as_file(file) as path:
                return _read(path, key, dataset, "shipped")
    return None


def _cache_file(key: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "qvae" / "classifiers" / f"{key}.safetensors"


def _read(path: Path, key: str, dataset: Dataset, source: Literal["shipped", "cached"]) -> FeatureClassifier | None:
    """The classifier in a file; None if there is no file, or if it is damaged or of another data set."""
    try:
        state = load_checkpoint(path)
    except RunError:
        return None
    if state.get("key") != key:
        return None
    classes = tuple(state["classes"])
    network = LeNet(dataset.image_shape, len(classes))
    network.load_state_dict(state["weights"])
    network.eval()
    same_test = state["test_key"] == _test_key(dataset)
    accuracy = state["test_accuracy"] if same_test else _accuracy(network, classes, dataset)
    return FeatureClassifier(network, classes, accuracy, source)


# Inception ------------------------------------------------------------------------------------------------------------

INCEPTION_FILE = "pt_inception-2015-12-05-6726825d.pth"
INCEPTION_SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
_INCEPTION_AT_ONCE = 32  # images of 299x299 pixels: about 1 GB


def check_inception(weights: str | Path) -> None:
    """See that :func:`inception_table` could run: before hours of training, not after.

    Raises:
        ConfigError: the file is missing or isn't the official one.
        QvaeError: the packages of the extra ``fid`` are missing or can't be imported.
    """
    _check_inception_file(Path(os.path.expanduser(weights)))
    _import_inception()


@torch.no_grad()
def inception_table(
    weights: str | Path,
    reference: Batches,
    sets: Mapping[str, Batches],
    device: torch.device | str = "cpu",
    progress: Callable[[int], None] = lambda images: None,
) -> dict[str, FrechetDistance]:
    """Frechet inception distance (FID, Heusel et al. 2017) of each of ``sets`` from ``reference``, by torchmetrics.

    On the 2,048 features of the usual weights: images are rounded to 256 levels, grey ones repeated to three channels.
    An image costs 11 GFLOP: 10,000 of them take seconds on a GPU and about an hour on a CPU core.

    Args:
        weights: the file ``pt_inception-2015-12-05-6726825d.pth`` of pytorch-fid, or its copy in torch-fidelity.
        reference: the images that all sets are compared with, which are looked at once.
        sets: by name.
        device: of the network.
        progress: called with the number of images done since the last call.

    Raises:
        ConfigError: the file is missing or isn't the official one; it isn't unpickled then.
        QvaeError: the packages of the extra ``fid`` are missing or can't be imported.
        DataError: a set has fewer than two images; the message names it.
    """
    path = Path(os.path.expanduser(weights))
    _check_inception_file(path)
    metric_class = _import_inception()
    with _tensors_only():
        metric = metric_class(feature=2048, feature_extractor_weights_path=str(path), reset_real_features=False)
    metric = metric.to(device)

    def update(images: Batches, name: str, real: bool) -> int:
        count = 0
        for batch in _split(images, _INCEPTION_AT_ONCE):
            metric.update(_as_bytes(batch).to(device), real=real)
            count += len(batch)
            progress(len(batch))
        if count < 2:
            raise DataError(f"{name}: a Frechet distance needs at least 2 images, but there are {count}.")
        return count

    num_reference = update(reference, "reference", real=True)
    table = {}
    for name, images in sets.items():
        count = update(images, name, real=False)
        table[name] = FrechetDistance(float(metric.compute()), count, num_reference)
        metric.reset()
    return table


def _as_bytes(images: Tensor) -> Tensor:
    """Grey levels in [0, 1], (B, H, W) or (B, C, H, W) with C = 1 or 3, as bytes (B, 3, H, W)."""
    pictures = images.unsqueeze(1) if images.ndim == 3 else images
    # Rounded here, because torchmetrics cuts off: a level of 7/255 that is 1e-7 too small would become 6.
    return (pictures * 255).round().to(torch.uint8).expand(-1, 3, -1, -1)


def _check_inception_file(path: Path) -> None:
    what = f"the weights of Inception are the file {INCEPTION_FILE}, as released by pytorch-fid"
    try:
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"evaluation.inception_weights: {path} can't be read ({error.strerror}); {what}.") from None
    if found != INCEPTION_SHA256:
        checksums = f"has SHA-256 {found}, not {INCEPTION_SHA256}: it is damaged or another file"
        raise ConfigError(f"evaluation.inception_weights: {path} {checksums}; {what}.")


def _import_inception() -> type[Any]:
    try:
        import torch_fidelity  # noqa: F401 (torchmetrics says too late that it is missing)
        from torchmetrics.image.fid import FrechetInceptionDistance
    except ImportError as error:
        missing = error.name or "a module"
        extra = f"which can't be imported ({error}): {install_line('fid')}"
        raise QvaeError(f"evaluation.inception_weights needs {missing}, {extra}.") from error
    except (RuntimeError, OSError, AttributeError) as error:
        # A torchvision that was built for another torch, such as one for CUDA beside one for the CPU.
        remedy = f"install torch and torchvision from the same place, then {install_line('fid')}"
        raise QvaeError(f"evaluation.inception_weights needs torchvision, which fails here ({error}); {remedy}.") from error
    return FrechetInceptionDistance


@contextlib.contextmanager
def _tensors_only() -> Iterator[None]:
    """Have torch.load unpickle tensors and nothing else, though torch-fidelity asks it to run whatever a file says."""
    names = ("TORCH_FORCE_WEIGHTS_ONLY_LOAD", "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ[names[0]] = "1"
    try:
        yield
    finally:
        del os.environ[names[0]]
        os.environ.update(before)
>>>>>>> helper-s2
