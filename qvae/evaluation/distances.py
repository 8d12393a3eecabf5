"""How far samples, reconstructions and training images are from the test images: Frechet distances of all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset, prepare_fixed
from qvae.errors import DataError, SamplerError
from qvae.evaluation.classifier import FeatureClassifier
from qvae.evaluation.classifier_files import feature_classifier
from qvae.evaluation.frechet import FrechetDistance, frechet_table
from qvae.evaluation.grey_scale import GreyScale
from qvae.evaluation.inception import inception_table
from qvae.evaluation.rows import (
    AT_ONCE,
    code_means,
    device_of,
    evaluation_rows,
    prepared,
    training_rows,
    values_in_batches,
)
from qvae.evaluation.samples import SampleQuality, SamplesAmongCodes, sample_quality, samples_among_codes
from qvae.models.autoencoder import Autoencoder
from qvae.progress import Progress, counter

SAMPLES = "samples of the prior"


@dataclass(frozen=True)
class PriorSamples:
    """Samples of a prior and what is known to be wrong with them.

    Attributes:
        codes: as the decoder takes them, (N, n).
        warning: a clause; None if nothing is known to be wrong.
    """

    codes: Tensor
    warning: str | None = None


DrawPrior = Callable[[int], PriorSamples]
"""Draws so many samples of the prior; a SamplerError says why it can't."""


@dataclass
class FrechetDistances:
    """Distances from the test images by the name of what is compared; all empty where ``num_generated`` is 0.

    Attributes:
        classifier: whose features the distances are on; None where there is none.
        distances: on its features.
        reason: why there are none.
        inception: on Inception's features, where their weights were given.
        samples_warning: what may be wrong with the samples.
        samples_reason: why there are no samples.
        quality: what the samples are worth beyond a distance, by the classifier.
        among_codes: how those of a generator lie among codes, where there is no classifier.
    """

    classifier: FeatureClassifier | None = None
    distances: dict[str, FrechetDistance] = field(default_factory=dict)
    reason: str | None = None
    inception: dict[str, FrechetDistance] = field(default_factory=dict)
    samples_warning: str | None = None
    samples_reason: str | None = None
    quality: SampleQuality | None = None
    among_codes: SamplesAmongCodes | None = None

    def to_dict(self) -> dict[str, Any]:
        """What there is, as it stands in ``evaluation.json``."""
        found = {
            "samples_warning": self.samples_warning,
            "samples_reason": self.samples_reason,
            "classifier": None if self.classifier is None else self.classifier.to_dict(),
            "distances": {name: distance.to_dict() for name, distance in self.distances.items()},
            "reason": self.reason,
            "inception": {name: distance.to_dict() for name, distance in self.inception.items()},
            "quality": None if self.quality is None else self.quality.to_dict(),
            "among_codes": None if self.among_codes is None else asdict(self.among_codes),
        }
        return {key: value for key, value in found.items() if value}


def frechet_distances(
    model: Autoencoder, dataset: Dataset, settings: EvaluationConfig, draw: DrawPrior, progress: Progress
) -> FrechetDistances:
    """Distances from the test images: of training images (the floor), reconstructions, samples, and independent bits.

    On the features of a small classifier of the data set, which needs labels, and, where their weights are given, on
    Inception's. What can't be found says why.
    """
    found = FrechetDistances()
    if not settings.num_generated:
        return found
    sets = _image_sets(model, dataset, settings, draw)
    try:
        with progress.work("samples of the prior"):
            found.samples_warning = draw(settings.num_generated).warning
    except SamplerError as error:
        found.samples_reason = str(error)
        del sets[SAMPLES]
    if found.samples_warning is not None:
        progress.warn(f"of the samples: {found.samples_warning}")
    # All of them, whatever num_test: the distance needs many.
    reference = list(map(GreyScale.of(dataset), values_in_batches(dataset, dataset.test)))
    total = sum(map(len, reference)) + sum(count for count, _ in sets.values())
    device, seed = device_of(model), settings.seed
    try:
        with progress.work("training the classifier") as report:
            classifier = feature_classifier(dataset, device, lambda done, steps: report(done / steps, ""))
        with progress.work("Frechet distances") as report:
            images = {name: batches() for name, (_, batches) in sets.items()}
            found.distances = frechet_table(classifier, reference, images, counter(report, total))
        found.classifier = classifier
        if SAMPLES in sets:
            found.quality = sample_quality(classifier, sets[SAMPLES][1](), reference, dataset)
            _warn_of_rare(found.quality, progress)
    except DataError as error:
        found.reason = str(error)
        if SAMPLES in sets and not model.has_likelihood:
            rows = evaluation_rows(dataset, settings)
            found.among_codes = samples_among_codes(model, dataset, rows, draw(settings.num_generated).codes, seed)
    if settings.inception_weights is not None:
        with progress.work("Inception distances") as report:
            images = {name: batches() for name, (_, batches) in sets.items()}
            found.inception = inception_table(settings.inception_weights, reference, images, device, counter(report, total))
    return found


def _warn_of_rare(quality: SampleQuality | None, progress: Progress) -> None:
    """Say it where a class is all but missing among the samples."""
    if quality is not None and quality.rarest[1] < 0.5:
        label, part = quality.rarest
        progress.warn(f"of the samples: class {label} is {part:.2f} times as frequent as in the training images")


def _image_sets(
    model: Autoencoder, dataset: Dataset, settings: EvaluationConfig, draw: DrawPrior
) -> dict[str, tuple[int, Callable[[], Iterator[Tensor]]]]:
    """What is compared: how many, and a function that makes them in batches (B, *shape) when they are asked for."""
    count, seed, device = settings.num_generated, settings.seed, device_of(model)
    scale = GreyScale.of(dataset)
    places = training_rows(dataset, count, seed)
    test = prepare_fixed(dataset, dataset.test.flatten(1), seed)

    def decoded(batches: Callable[[torch.Generator], Iterator[Tensor]]) -> Callable[[], Iterator[Tensor]]:
        def images() -> Iterator[Tensor]:
            generator = torch.Generator(device).manual_seed(seed)
            return (scale(model.decode_codes(bits, generator)) for bits in batches(generator))

        return images

    def samples(generator: torch.Generator) -> Iterator[Tensor]:
        return iter(draw(count).codes.split(AT_ONCE))

    def independent(generator: torch.Generator) -> Iterator[Tensor]:
        """The best factorized prior for this encoder: each bit with its mean over training images."""
        means = torch.from_numpy(code_means(model, prepared(dataset, places, seed), seed).mean(0)).to(device)
        sizes = [len(batch) for batch in torch.arange(count).split(AT_ONCE)]
        return (torch.bernoulli(means.expand(size, -1), generator=generator) for size in sizes)

    sets = {
        "training images (the floor)": (len(places), lambda: map(scale, values_in_batches(dataset, dataset.train[places]))),
        "reconstructions": (len(test), decoded(lambda g: (model.encode(batch.to(device), g) for batch in test.split(AT_ONCE)))),
        SAMPLES: (count, decoded(samples)),
    }
    if not model.compresses:
        del sets["reconstructions"]
    if model.latents_are_bits:
        sets["independent bits, same decoder (factorized prior)"] = (count, decoded(independent))
    return sets
