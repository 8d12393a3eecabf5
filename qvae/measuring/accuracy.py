"""What repetitions say of a sampler: errors and bias against the truth, speed, and effective temperature."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.repetition import Point, Repetition
from qvae.measuring.truth import Truth
from qvae.sampling.diagnostics import effective_beta, expected_total_variation, r_hat

MEASURE = 1000
"""Perfect samples whose accuracy is the goal of ``seconds_to_goal``."""
_BETA_ROWS = 256  # of each repetition, for the effective temperature


def summarize(points: Sequence[Point], truth: Truth) -> dict[str, Any]:
    """One point of the curve: averages over repetitions."""
    count = len(points)
    samples = sum(point.samples for point in points) / count
    found: dict[str, Any] = {
        "samples": samples,
        "cpu_seconds": sum(point.cpu_seconds for point in points) / count,
        "wall_seconds": sum(point.wall_seconds for point in points) / count,
    }
    floors = _floors(truth, samples)
    references = dict(zip(floors, truth.rms_errors, strict=True))
    for key, errors in _errors(points, truth).items():
        squares = errors.square().mean(1) if errors.shape[1] else torch.zeros(count, dtype=torch.float64)
        net = float(squares.mean()) - references[key] ** 2
        found[key] = math.sqrt(max(0.0, net))
        spread = float(squares.std()) / math.sqrt(count) if count > 1 else math.nan
        # The error bar of the root of a mean square, which near 0 is the root of that of the square.
        found[f"{key}_stderr"] = finite_or_none(spread / (2 * found[key]) if net > spread else math.sqrt(max(spread, 0.0)))
        found[f"{key}_floor"] = floors[key]
    variations = [point.total_variation for point in points if point.total_variation is not None]
    found["total_variation"] = sum(variations) / count if variations else None
    exact = truth.distribution
    found["total_variation_floor"] = expected_total_variation(exact, round(samples)) if exact is not None else None
    return found


def rates(points: Sequence[Point], first: Sequence[Point], runs: Sequence[Repetition], truth: Truth) -> dict[str, Any]:
    """Speeds, and whether repetitions are repetitions of the same samples, from last points and first points."""
    samples = sum(run.samples for run in runs)
    seconds = sum(run.seconds for run in runs)
    numbers = []
    errors = _errors(points, truth)
    for key, exact in (("means", truth.moments.spins), ("correlations", truth.moments.pairs)):
        scatter = float(errors[key].var(0).sum()) if len(points) > 2 and len(exact) else math.nan
        perfect = float((1 - exact**2).sum())
        if scatter > 0 and perfect > 0:
            numbers.append(perfect / scatter)
    identical = len(first) > 1 and all(torch.equal(first[0].pairs, point.pairs) for point in first[1:])
    effective = min(numbers) if numbers and not identical else None
    return {
        "samples": samples,
        "cpu_seconds": sum(run.cpu_seconds for run in runs),
        "wall_seconds": sum(run.wall_seconds for run in runs),
        "samples_per_second": samples / seconds if seconds else None,
        "effective_samples_per_second": effective * len(points) / seconds if effective and seconds else None,
        "identical_repeats": identical,
    }


def time_to_goal(curve: Sequence[Mapping[str, Any]], truth: Truth, clock: str) -> float | None:
    """Seconds to the accuracy of ``MEASURE`` perfect samples in means and correlations, interpolated along the curve."""
    goal = _floors(truth, MEASURE)
    before: tuple[float, float] | None = None
    for point in curve:
        excess = max((point[key] / goal[key] if goal[key] else 0.0) for key in ("means", "correlations"))
        here = (point[clock], excess)
        if excess <= 1:
            if before is None or not excess or not here[0] or not before[0]:
                return here[0]
            # A straight line in logarithms.
            part = math.log(before[1]) / (math.log(before[1]) - math.log(excess))
            return math.exp(math.log(before[0]) + part * (math.log(here[0]) - math.log(before[0])))
        before = here
    return None


def bias_of(errors: Tensor, reference_error: float = 0.0) -> tuple[float, bool]:
    """The root mean square of what independent errors (repeats, moments) have in common, and whether chance is ruled out.

    Its square is the mean product of two repetitions' errors, which noise leaves alone. Chance is ruled out where the sum of
    all errors is longer than under any other choice of their signs, of which there must be 128 or more, and the bias larger
    than the reference's own error.
    """
    repeats, moments = errors.shape
    if repeats < 2 or moments == 0:
        return math.nan, False
    products = errors @ errors.T / moments
    square = float(products.sum() - products.trace()) / (repeats * (repeats - 1)) - reference_error**2
    if repeats < 8:
        return math.sqrt(max(0.0, square)), False
    signs = torch.tensor([(1, *rest) for rest in itertools.product((1, -1), repeat=repeats - 1)], dtype=errors.dtype)
    lengths = ((signs @ products) * signs).sum(1)
    is_certain = bool(lengths[0] > lengths[1:].max()) and square > reference_error**2
    return math.sqrt(max(0.0, square)), is_certain


def biases(points: Sequence[Point], truth: Truth) -> dict[str, dict[str, Any]]:
    """Of means, correlations and energy, each: the size of the bias, and whether it is certain; see :func:`bias_of`."""
    references = dict(zip(("means", "correlations", "energy"), truth.rms_errors, strict=True))
    found = {}
    for key, errors in _errors(points, truth).items():
        size, is_certain = bias_of(errors, references[key])
        found[key] = {"size": finite_or_none(size), "is_certain": is_certain}
    return found


def temperature(runs: Sequence[Repetition], hamiltonian: IsingHamiltonian) -> dict[str, float | None]:
    """Effective inverse temperature of the last samples of every repetition."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(0)
    last = [run.last.equal_weights(generator) for run in runs if run.last is not None]
    spins = torch.cat([samples.spins[:_BETA_ROWS] for samples in last])
    found = effective_beta(spins, hamiltonian)
    return {"effective_beta": finite_or_none(found.value), "effective_beta_stderr": finite_or_none(found.stderr)}


def energy_r_hat(runs: Sequence[Repetition]) -> float | None:
    """Of the energies of all chains of the first repetition; None where no chains persist."""
    if len(runs[0].energies) < 4 or len({len(row) for row in runs[0].energies}) > 1:
        return None
    return finite_or_none(r_hat(torch.stack(runs[0].energies)))


def finite_or_none(value: float) -> float | None:
    """JSON has no NaN."""
    return value if math.isfinite(value) else None


def _errors(points: Sequence[Point], truth: Truth) -> dict[str, Tensor]:
    """Errors of every repetition, (repeats, moments)."""
    scale = truth.energy_sd or 1.0
    return {
        "means": torch.stack([point.means for point in points]) - truth.moments.spins.cpu(),
        "correlations": torch.stack([point.pairs for point in points]) - truth.moments.pairs.cpu(),
        "energy": torch.tensor([[(point.energy - truth.energy) / scale] for point in points], dtype=torch.float64),
    }


def _floors(truth: Truth, samples: float) -> dict[str, float]:
    """Root mean square errors of perfect samples."""
    spins, pairs = truth.moments.spins, truth.moments.pairs
    return {
        "means": _root_mean((1 - spins**2) / samples),
        "correlations": _root_mean((1 - pairs**2) / samples),
        "energy": samples**-0.5 if truth.energy_sd else 0.0,
    }


def _root_mean(squares: Tensor) -> float:
    return math.sqrt(max(0.0, float(squares.mean()))) if squares.numel() else 0.0
