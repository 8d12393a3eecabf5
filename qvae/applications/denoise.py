"""Noisy rows, cleaned: several ways that the noise may have come from, and the best guess."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

from qvae.applications.outcome import Outcome
from qvae.applications.restore import (
    Completions,
    Draws,
    Effort,
    RestorationSeed,
    Sampler,
    Steps,
    Trained,
    require_features,
    restore,
)
from qvae.applications.task import task_input
from qvae.errors import ConfigError, nearest

if TYPE_CHECKING:
    from torch import Tensor

    from qvae.applications.observation import Observation
    from qvae.config.names import Damage
    from qvae.models.likelihoods.likelihood import Likelihood
    from qvae.progress import Progress
    from qvae.runs.run import Run

NOISES = ("salt-and-pepper", "dropped", "gaussian")
"""Pixels replaced by black or white at random, pixels turned to 0, and normal noise added to them."""


def denoise(
    run: Run,
    input: Annotated[Path, "Rows to clean: an .npy, .npz, .csv, .parquet, or folder of PNGs."],
    noise: Annotated[str, "salt-and-pepper, dropped (to 0), or gaussian."] = "salt-and-pepper",
    amount: Annotated[float, "The part of pixels that was replaced; of gaussian noise, its standard deviation."] = 0.2,
    completions: Completions = 8,
    draws: Draws = 128,
    steps: Steps = 100,
    sampler: Sampler = None,
    trained: Trained = False,
    seed: RestorationSeed = 0,
    out: Annotated[Path | None, "A folder for denoised.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Take noise of a known kind off rows, by the model's posterior given the noisy ones.

    What is written is said by :func:`~qvae.applications.restore.restore`.

    Raises:
        CapabilityError: the model has no prior, or its data can't have this noise.
        ConfigError: a number is out of range, or there is no such noise.
        DataError: rows can't be read, or aren't what the model takes.
        RunError: ``out`` can't be written to.
        SamplerError: the sampler can't be had or fails.
    """
    require_features(run)
    effort, likelihood = Effort(completions, draws, steps, sampler, trained, seed), run.model.likelihood
    if noise not in NOISES:
        raise ConfigError(f"noise is {noise!r}; {nearest(noise, NOISES)}.")
    if not 0 < amount < math.inf or (noise != "gaussian" and amount >= 1):
        raise ConfigError(f"amount is {amount:g}; it must be above 0, and {'finite' if noise == 'gaussian' else 'below 1'}.")
    # Grey levels with normal noise on them are anywhere.
    with task_input(run, input, kind="reals" if noise == "gaussian" else None) as rows:

        def observe(values: Tensor, part: slice) -> Observation:
            return seen(likelihood, values, noise, amount)

        return restore(run, "denoised", rows, observe, effort, cast("Damage", noise), amount, out, progress)


def seen(likelihood: Likelihood, values: Tensor, noise: str, amount: float) -> Observation:
    """Values (B, D) with noise of a kind."""
    from qvae.applications.observation import Flipped, Noisy

    if noise == "gaussian":
        return Noisy(likelihood, values, amount)
    return Flipped(likelihood, values, amount, 0.5 if noise == "salt-and-pepper" else 0.0)
