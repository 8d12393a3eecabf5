"""What a model loses where its circuit is measured: the same rows and samples, by exact amplitudes and by an executor."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset
from qvae.errors import DataError
from qvae.evaluation.classifier_files import feature_classifier
from qvae.evaluation.frechet import FrechetDistance, frechet_table
from qvae.evaluation.grey_scale import GreyScale
from qvae.evaluation.rows import device_of, evaluation_rows, values_in_batches
from qvae.models.autoencoder import Autoencoder
from qvae.models.gaussian import NormalPrior
from qvae.models.generator import LatentGenerator

MOST = 1000
"""Test rows and samples that are measured, at most: each is a circuit of its own, in a few bases."""
_AT_ONCE = 50  # so that it is soon known how long all take


@dataclass(frozen=True)
class Quality:
    """What a model makes of test rows and of samples of its prior.

    Attributes:
        reconstruction: log p(x|z) of each row at its own code, nats, (N,), float64; None where the circuit has no part in it.
        samples: decoded, (M, *shape); None where the circuit has no part in them.
    """

    reconstruction: Tensor | None
    samples: Tensor | None


@dataclass(frozen=True)
class ExecutorLoss:
    """What an executor loses against exact amplitudes; errors are over rows and images, shot noise included.

    Attributes:
        executor: its name and options, in a line.
        num_rows: test rows, the first ones, or samples where the circuit makes these alone.
        reconstruction: mean over rows of log p(x|z) at their own codes, in nats, on the executor; None, as all up to
            ``loss_stderr``, where the circuit has no part in them.
        reconstruction_stderr: of the mean.
        exact: the same by exact amplitudes.
        exact_stderr: of the mean.
        loss: mean of exact - reconstruction; of Gaussian latents at the same ones, of measured bits at fresh ones.
        loss_stderr: of the mean of these differences.
        samples: Frechet distance of samples of the prior from the test images, on the executor; None where the circuit has no
            part in them, or there are no such distances of these data.
        exact_samples: the same, at the same latents, by exact amplitudes.
        seconds: that the executor took.
    """

    executor: str
    num_rows: int
    reconstruction: float | None
    reconstruction_stderr: float | None
    exact: float | None
    exact_stderr: float | None
    loss: float | None
    loss_stderr: float | None
    samples: FrechetDistance | None
    exact_samples: FrechetDistance | None
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``evaluation.json``."""
        return asdict(self)


@torch.no_grad()
def quality(
    model: Autoencoder,
    dataset: Dataset,
    settings: EvaluationConfig,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Quality:
    """What the model makes of the first test rows and of samples, with its circuit run by whatever runs it now.

    Args:
        model: in evaluation mode.
        dataset: that it was trained on.
        settings: number of rows and samples, up to ``MOST`` each, and the seed of latents.
        progress: called with the rows and samples done, and their total.
    """
    rows = evaluation_rows(dataset, settings, min(settings.num_test or MOST, MOST)).to(device_of(model))
    prior, sizes = model.prior, list[int]()
    if isinstance(prior, LatentGenerator | NormalPrior) and settings.num_generated > 1:
        sizes = _in_parts(min(settings.num_generated, MOST))  # none of measured bits: their samples don't pass the circuit
    rows = rows[:0] if isinstance(prior, LatentGenerator) else rows  # from which a generator's latents don't come
    generator = torch.Generator(rows.device).manual_seed(settings.seed)
    total = len(rows) + sum(sizes)
    found: list[Tensor] = []
    for batch in rows.split(_AT_ONCE) if len(rows) else ():
        latents = model.posterior_sample(batch, relaxed=False, generator=generator).latents
        found.append(model.log_likelihood(batch, latents).double())
        progress(sum(map(len, found)), total)
    decoded: list[Tensor] = []
    for size in sizes:
        assert isinstance(prior, LatentGenerator | NormalPrior)
        decoded.append(model.decode_codes(prior.draw(size, generator=generator)))
        progress(len(rows) + sum(map(len, decoded)), total)
    return Quality(torch.cat(found) if len(rows) else None, torch.cat(decoded) if decoded else None)


def executor_loss(
    executor: str, exact: Quality, measured: Quality, seconds: float, dataset: Dataset, device: torch.device
) -> ExecutorLoss:
    """The two beside each other.

    Args:
        executor: its name and options, in a line.
        exact: by exact amplitudes.
        measured: by the executor.
        seconds: that it took.
        dataset: of the test rows.
        device: of the classifier on whose features distances are.
    """
    before, after = exact.reconstruction, measured.reconstruction
    difference = None if before is None or after is None else before - after
    (true, true_error), (found, error), (loss, loss_error) = map(_mean_and_error, (before, after, difference))
    of_samples = () if measured.samples is None else measured.samples
    distances = _distances(exact, measured, dataset, device)
    return ExecutorLoss(
        executor=executor,
        num_rows=len(of_samples if after is None else after),
        reconstruction=found,
        reconstruction_stderr=error,
        exact=true,
        exact_stderr=true_error,
        loss=loss,
        loss_stderr=loss_error,
        samples=distances.get("measured"),
        exact_samples=distances.get("exact"),
        seconds=seconds,
    )


def _distances(exact: Quality, measured: Quality, dataset: Dataset, device: torch.device) -> dict[str, FrechetDistance]:
    """Of samples from the test images; empty where there are none, or no classifier of such data."""
    if exact.samples is None or measured.samples is None:
        return {}
    try:
        classifier = feature_classifier(dataset, device)
    except DataError:
        return {}
    scale = GreyScale.of(dataset)
    sets = {"exact": scale(exact.samples), "measured": scale(measured.samples)}
    return frechet_table(classifier, map(scale, values_in_batches(dataset, dataset.test)), sets)


def _in_parts(count: int) -> list[int]:
    """Sizes of the parts of a count.

    >>> _in_parts(120)
    [50, 50, 20]
    """
    return [min(_AT_ONCE, count - done) for done in range(0, count, _AT_ONCE)]


def _mean_and_error(values: Tensor | None) -> tuple[float | None, float | None]:
    if values is None:
        return None, None
    return float(values.mean()), float(values.std()) / math.sqrt(len(values)) if len(values) > 1 else None
