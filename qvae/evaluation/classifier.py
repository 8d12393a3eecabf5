"""A small classifier of a data set's images, whose features a Frechet distance is measured on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.data.dataset import Dataset
from qvae.errors import DataError
from qvae.evaluation.grey_scale import GreyScale

_STEPS, _EPOCHS, _BATCH = 2800, 80, 128  # whichever of steps and epochs ends first
_LEARNING_RATE = 4e-3
_SEED = 0
_SMALLEST = 8  # pixels of height and width
_AT_ONCE = 500  # images at once: tens of MB


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
        return sha256_of(json.dumps(list(state)).encode(), *state.values())[:12]

    def to_dict(self) -> dict[str, Any]:
        """What a result must say of the classifier: its weights, accuracy and source."""
        return {"weights": self.weights, "test_accuracy": self.test_accuracy, "source": self.source}


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
        DataError: the data are no images, or the images have no labels, only one class, or are smaller than 8x8 pixels.
    """
    images, classes, labels = labelled(dataset)
    scale = GreyScale.of(dataset)
    generator = torch.Generator().manual_seed(_SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_SEED)
        network = LeNet(dataset.shape, len(classes))
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
        loss = F.cross_entropy(network(scale(dataset.values(images[rows]))), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        progress(step + 1, steps)
    network.eval()
    return FeatureClassifier(network, classes, measure_accuracy(network, classes, dataset), "trained")


def labelled(dataset: Dataset) -> tuple[Tensor, tuple[int, ...], Tensor]:
    """Coded training images, the classes, and the place of each image's label among the classes.

    Raises:
        DataError: there are no images or labels, the images are smaller than 8x8 pixels, or all of one class.
    """
    if not dataset.is_image:
        raise DataError(f"{dataset.name} is a table, and the features of a classifier are those of images.")
    if dataset.train_labels is None:
        remedy = "give train_labels to have a Frechet distance on its features"
        raise DataError(f"{dataset.name} has no labels of its training images, so no classifier can be trained; {remedy}.")
    height, width = dataset.shape[-2:]
    if min(height, width) < _SMALLEST:
        least = f"a classifier of them needs at least {_SMALLEST}x{_SMALLEST}"
        raise DataError(f"the images of {dataset.name} have {height}x{width} pixels; {least}.")
    classes, labels = dataset.train_labels.unique(return_inverse=True)
    if len(classes) < 2:
        raise DataError(f"all training images of {dataset.name} have the label {int(classes[0])}; two classes are needed.")
    return dataset.train, tuple(classes.tolist()), labels


@torch.no_grad()
def measure_accuracy(network: LeNet, classes: tuple[int, ...], dataset: Dataset) -> float | None:
    """Share of the test images whose label is found; None if they have no labels."""
    if dataset.test_labels is None:
        return None
    right, scale = 0, GreyScale.of(dataset)
    for images, labels in zip(dataset.test.split(_AT_ONCE), dataset.test_labels.split(_AT_ONCE), strict=True):
        predicted = torch.tensor(classes)[network(scale(dataset.values(images))).argmax(1)]
        right += int((predicted == labels).sum())
    return right / len(dataset.test)


def sha256_of(head: bytes, *tensors: Tensor) -> str:
    """SHA-256 of bytes and of tensors' values, whatever the processor's order of bytes."""
    digest = hashlib.sha256(head)
    for tensor in tensors:
        array = tensor.cpu().numpy()
        digest.update(array.astype(array.dtype.newbyteorder("<"), copy=False).reshape(-1).data)
    return digest.hexdigest()
