"""All numbers of a trained model on the test rows: likelihood, distances of samples, and what the latents hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset
from qvae.errors import QvaeError, in_a_line
from qvae.evaluation.distances import DrawPrior, FrechetDistances, frechet_distances
from qvae.evaluation.inception import check_inception
from qvae.evaluation.latents import LatentUse, latent_use
from qvae.evaluation.likelihood import (
    LikelihoodEstimate,
    ReconstructionEstimate,
    evaluate_likelihood,
    evaluate_reconstruction,
    expected_seconds,
    prior_log_partition,
)
from qvae.evaluation.rows import device_of, evaluation_rows
from qvae.evaluation.strings import StringFigures, require_strings, string_figures
from qvae.models.autoencoder import Autoencoder
from qvae.models.prior import BoltzmannPrior
from qvae.progress import Progress, counter

_LONG_SECONDS = 30.0  # of a likelihood, which a user is told of beforehand


@dataclass
class Evaluation:
    """What ``evaluation.json`` holds.

    Attributes:
        likelihood: ELBO, log-likelihood and log Z, in nats per row; of an autoencoder, its reconstructions' log-probability.
        likelihood_name: of p(x|z), which they are of.
        is_density: p(x|z) is a density of real data, whose likelihoods can't be compared with those of bits or counts.
        num_features: of a row: pixels, or columns of a table.
        binarization: how data became bits; likelihoods under different ones can't be compared.
        test_images_are_all: whether no test row was left out.
        log_z_details: what the method of log Z has to say of itself.
        evaluation_seed: of all draws.
        frechet: distances from the test images.
        latents: how many units are used, and for what; None where rows have no codes.
        strings: what generated strings are worth; None of other data.
        seconds: of each part.
    """

    likelihood: LikelihoodEstimate | ReconstructionEstimate
    likelihood_name: str
    is_density: bool
    num_features: int
    binarization: str
    test_images_are_all: bool
    log_z_details: dict[str, Any]
    evaluation_seed: int
    frechet: FrechetDistances
    latents: LatentUse | None
    strings: StringFigures | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values under the keys of ``evaluation.json``; those of a density stand there per feature, too."""
        found = self.likelihood.to_dict() | {"likelihood": self.likelihood_name, "num_features": self.num_features}
        if self.is_density:
            keys = [key for key in ("elbo", "log_likelihood") if key in found]
            found |= {f"{key}_per_feature": found[key] / self.num_features for key in keys}
        if self.strings is not None:
            found["strings"] = self.strings.to_dict()
        return found | {
            "binarization": self.binarization,
            "test_images_are_all": self.test_images_are_all,
            "log_z_details": self.log_z_details,
            "evaluation_seed": self.evaluation_seed,
            "frechet": self.frechet.to_dict(),
            "latents": None if self.latents is None else self.latents.to_dict(),
            "seconds": self.seconds,
        }


def evaluate_model(
    model: Autoencoder, dataset: Dataset, settings: EvaluationConfig, draw: DrawPrior, progress: Progress | None = None
) -> Evaluation:
    """Likelihood, Frechet distances, or figures of strings, and what the latents hold, on the test rows.

    Args:
        model: in evaluation mode.
        dataset: that it was trained on.
        settings: how many rows and draws, and their seed.
        draw: gives samples of the model's prior; where it raises a SamplerError, the distances say why they lack samples.
        progress: told what is going on.

    Raises:
        ConfigError, QvaeError: Inception distances are asked for, but can't be had, or a check of strings that there aren't.
    """
    progress = progress or Progress()
    require_strings(settings, dataset)
    if settings.inception_weights is not None:
        check_inception(settings.inception_weights)  # before minutes of work, not after
    rows = evaluation_rows(dataset, settings).to(device_of(model))
    seconds: dict[str, float] = {}
    with _timed(seconds, "likelihood"):
        likelihood, log_z_details = _likelihood(model, rows, settings, progress)
    strings = None
    if dataset.kind == "strings":
        frechet = FrechetDistances(reason="the data are strings")
        with _timed(seconds, "strings"):
            strings = string_figures(model, dataset, rows, settings, draw, progress)
    else:
        with _timed(seconds, "frechet"):
            frechet = _distances(model, dataset, settings, draw, progress)
    with _timed(seconds, "latents"), progress.work("what the latents hold") as report:
        latents = _latents(model, dataset, settings, progress, lambda share: report(share, ""))
    return Evaluation(
        likelihood=likelihood,
        likelihood_name=model.likelihood.name,
        is_density=model.likelihood.is_density,
        num_features=rows.shape[1],
        binarization=dataset.binarization,
        test_images_are_all=len(rows) == len(dataset.test),
        log_z_details=log_z_details,
        evaluation_seed=settings.seed,
        frechet=frechet,
        latents=latents,
        strings=strings,
        seconds=seconds,
    )


def _likelihood(
    model: Autoencoder, rows: Tensor, settings: EvaluationConfig, progress: Progress
) -> tuple[LikelihoodEstimate | ReconstructionEstimate, dict[str, Any]]:
    """The likelihood of prepared rows (N, D), and what the method of log Z has to say of itself."""
    if not model.has_likelihood:
        return evaluate_reconstruction(model, rows, settings.seed), {}
    with progress.work("log Z of the prior"):
        hamiltonian = model.prior.frozen() if isinstance(model.prior, BoltzmannPrior) else None
        log_z = prior_log_partition(hamiltonian, settings.log_z_chains, settings.log_z_temperatures, settings.seed)
    _announce(expected_seconds(model, rows, log_z, settings.importance_samples), len(rows), settings, progress)
    with progress.work("likelihood") as report:
        advance = counter(report, len(rows))
        found = evaluate_likelihood(model, rows, log_z, settings.importance_samples, settings.seed, advance)
    return found, log_z.details


def _distances(
    model: Autoencoder, dataset: Dataset, settings: EvaluationConfig, draw: DrawPrior, progress: Progress
) -> FrechetDistances:
    """The distances, or why there are none: the likelihood stands without them."""
    try:
        return frechet_distances(model, dataset, settings, draw, progress)
    except QvaeError:
        raise
    except Exception as error:
        progress.warn(f"there are no Frechet distances ({in_a_line(error)})")
        return FrechetDistances(reason=in_a_line(error))


def _latents(
    model: Autoencoder, dataset: Dataset, settings: EvaluationConfig, progress: Progress, advance: Callable[[float], None]
) -> LatentUse | None:
    """What the latents hold, if there are any, without probes where these fail."""
    if not model.compresses:
        return None
    try:
        return latent_use(model, dataset, settings, advance)
    except Exception as error:
        if not settings.probes:
            raise
        progress.warn(f"the labels couldn't be read from the codes ({in_a_line(error)})")
        return latent_use(model, dataset, settings.model_copy(update={"probes": False}), advance)


def _announce(expected: float, rows: int, settings: EvaluationConfig, progress: Progress) -> None:
    """Say beforehand what takes long."""
    if expected > _LONG_SECONDS:
        how_long = f"{expected:.0f} s" if expected < 100 else f"{expected / 60:.0f} minutes"
        draws = f"{settings.importance_samples:,} draws for each of {rows:,} test rows"
        progress.say(f"the likelihood takes about {how_long}: {draws}; fewer: evaluation.importance_samples or num_test")


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[part] = round(time.perf_counter() - started, 2)
