"""What samples are worth beside data: how they lie among them, which classes they are of, and whether they are copies."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.data.dataset import Dataset
from qvae.evaluation.classifier import FeatureClassifier
from qvae.evaluation.grey_scale import GreyScale
from qvae.evaluation.rows import AT_ONCE, device_of, prepared, training_rows, values_in_batches
from qvae.models.autoencoder import Autoencoder
from qvae.sampling.coverage import Coverage, coverage, nearest_distances

_NEIGHBOURS = 5
_SOUGHT = 500  # images, at most, whose nearest training image is looked for
_SOUGHT_AMONG = 60_000  # training images


@dataclass(frozen=True)
class SampleQuality:
    """Samples of a model beside test images.

    Attributes:
        coverage: precision, recall, density and coverage, on a classifier's features.
        floor: the same of training images in the samples' place.
        classes: share of the samples that the classifier takes for each class.
        training_classes: how often each class is in the training images.
        nearest: median distance of a sample to its nearest training image, in grey levels.
        nearest_of_test: the same of test images: samples that are much nearer are copies.
    """

    coverage: Coverage
    floor: Coverage
    classes: dict[int, float]
    training_classes: dict[int, float]
    nearest: float
    nearest_of_test: float

    @property
    def rarest(self) -> tuple[int, float]:
        """The class that is rarest beside its share of the training images, and which part of that share it has."""
        parts = {label: self.classes[label] / share for label, share in self.training_classes.items()}
        label = min(parts, key=parts.__getitem__)
        return label, parts[label]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``evaluation.json``; labels are text there."""
        found = asdict(self)
        for key in ("classes", "training_classes"):
            found[key] = {str(label): share for label, share in found[key].items()}
        return found


@torch.no_grad()
def sample_quality(
    classifier: FeatureClassifier, samples: Iterable[Tensor], reference: Iterable[Tensor], dataset: Dataset
) -> SampleQuality | None:
    """What samples are worth; None where either set has too few images to have neighbours.

    Args:
        classifier: of the data set.
        samples: images (B, *shape) with grey levels in [0, 1], in batches.
        reference: test images, likewise.
        dataset: with labels.
    """
    images, test = torch.cat(list(samples)), torch.cat(list(reference))
    train = dataset.train[training_rows(dataset, _SOUGHT_AMONG, seed=0)]
    if min(len(images), len(test), len(train)) <= _NEIGHBOURS:
        return None
    scale = GreyScale.of(dataset)
    known = torch.cat([scale(batch) for batch in values_in_batches(dataset, train)])
    of_test, of_samples, of_train = (
        torch.cat([classifier(batch) for batch in part.split(AT_ONCE)]) for part in (test, images, known[: len(test)])
    )
    predicted = torch.cat([classifier.predict(batch) for batch in images.split(AT_ONCE)])
    assert dataset.train_labels is not None
    near, near_of_test = (
        float(nearest_distances(part[:: len(part) // _SOUGHT + 1].flatten(1).cpu(), known.flatten(1)).median())
        for part in (images, test)
    )
    return SampleQuality(
        coverage(of_test, of_samples, _NEIGHBOURS),
        coverage(of_test, of_train, _NEIGHBOURS),
        _shares(predicted, classifier.classes),
        _shares(dataset.train_labels, classifier.classes),
        near,
        near_of_test,
    )


@dataclass(frozen=True)
class SamplesAmongCodes:
    """Samples of a generator beside codes of test rows, where there is no classifier to look at what they decode to.

    Attributes:
        coverage: precision, recall, density and coverage of samples among codes.
        floor: the same of codes of training rows in the samples' place.
    """

    coverage: Coverage
    floor: Coverage


@torch.no_grad()
def samples_among_codes(
    model: Autoencoder, dataset: Dataset, rows: Tensor, samples: Tensor, seed: int
) -> SamplesAmongCodes | None:
    """How samples lie among codes; None where either set has too few rows to have neighbours.

    Args:
        model: in evaluation mode.
        dataset: that it was trained on.
        rows: prepared test rows (N, D).
        samples: codes (M, n).
        seed: of the codes, and of which training rows are taken.
    """
    generator = torch.Generator(device_of(model)).manual_seed(seed)

    def codes(prepared_rows: Tensor) -> Tensor:
        parts = (part.to(device_of(model)) for part in prepared_rows.split(AT_ONCE))
        return torch.cat([model.posterior_sample(part, False, generator).latents for part in parts])

    of_test = codes(rows)
    of_train = codes(prepared(dataset, training_rows(dataset, len(rows), seed), seed))
    if min(len(of_test), len(samples), len(of_train)) <= _NEIGHBOURS:
        return None
    deviations = of_test.std(0).clamp(min=1e-6)  # no latent counts more for its unit
    return SamplesAmongCodes(
        *(coverage(of_test / deviations, each / deviations, _NEIGHBOURS) for each in (samples, of_train))
    )


def _shares(labels: Tensor, classes: tuple[int, ...]) -> dict[int, float]:
    return {label: float((labels == label).float().mean()) for label in classes}
