"""The classifier of a data set, found in a file if there is one: shipped with qvae, or cached by an earlier run."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Literal

import torch

from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.data.dataset import Dataset
from qvae.errors import RunError
from qvae.evaluation.classifier import FeatureClassifier, LeNet, labelled, measure_accuracy, sha256_of, train_classifier

_RECIPE = 1  # part of a data set's key: count up when network or training change, and old weights aren't found any more


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
        DataError: the data are no images, or the images have no labels, only one class, or are smaller than 8x8 pixels.
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


def _read(path: Path, key: str, dataset: Dataset, source: Literal["shipped", "cached"]) -> FeatureClassifier | None:
    """The classifier in a file; None if there is no file, or if it is damaged or of another data set."""
    try:
        state = load_checkpoint(path.resolve())  # installed packages may be links
    except RunError:
        return None
    if state.get("key") != key:
        return None
    classes = tuple(state["classes"])
    network = LeNet(dataset.shape, len(classes))
    network.load_state_dict(state["weights"])
    network.eval()
    same_test = state["test_key"] == _test_key(dataset)
    accuracy = state["test_accuracy"] if same_test else measure_accuracy(network, classes, dataset)
    return FeatureClassifier(network, classes, accuracy, source)


def _cache_file(key: str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return cache / "qvae" / "classifiers" / f"{key}.safetensors"


def _key(dataset: Dataset) -> str:
    """SHA-256 of the recipe, the training images, what their stored numbers mean, and their labels."""
    images, classes, labels = labelled(dataset)
    head = [_RECIPE, list(images.shape), list(classes)]
    if dataset.kind != "bits" or dataset.levels is not None:  # 15-bit codes of bits mean one thing, and shipped keys are theirs
        head += [dataset.kind, dataset.levels, dataset.binarization]
    return sha256_of(json.dumps(head).encode(), images, labels)


def _test_key(dataset: Dataset) -> str:
    """SHA-256 of the test images and their labels: what an accuracy belongs to."""
    return sha256_of(b"", dataset.test, *([] if dataset.test_labels is None else [dataset.test_labels]))
