"""Coarse images, refined: several sharp ones that may be behind each, and the best guess."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
from qvae.errors import CapabilityError

if TYPE_CHECKING:
    from torch import Tensor

    from qvae.applications.observation import Observation
    from qvae.progress import Progress
    from qvae.runs.run import Run


def super_resolve(
    run: Run,
    input: Annotated[Path, "Coarse images: an .npy, .npz, or folder of PNGs."],
    completions: Completions = 8,
    draws: Draws = 128,
    steps: Steps = 100,
    sampler: Sampler = None,
    trained: Trained = False,
    seed: RestorationSeed = 0,
    out: Annotated[Path | None, "A folder for super-resolved.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Refine images whose pixels are means over squares of the model's, by its posterior given these means.

    What is written is said by :func:`~qvae.applications.restore.restore`. The model's sides must be a multiple of the images'.

    Raises:
        CapabilityError: the model has no prior, or isn't of images of bits or reals.
        ConfigError: a number is out of range.
        DataError: images can't be read, or can't be refined to those of the model.
        RunError: ``out`` can't be written to.
        SamplerError: the sampler can't be had or fails.
    """
    from qvae.applications.observation import Pooled, require_sums

    require_features(run)
    effort, likelihood, shape = Effort(completions, draws, steps, sampler, trained, seed), run.model.likelihood, run.model.shape
    require_sums(likelihood)
    shapes = coarse_shapes(shape)
    if not shapes:
        raise CapabilityError(f"the rows of this model, of shape {shape}, can't be made coarser; take one of larger images.")
    with task_input(run, input, shapes) as rows:
        factor = shape[-1] // rows.dataset.shape[-1]

        def observe(values: Tensor, part: slice) -> Observation:
            return Pooled(likelihood, values, factor, shape)

        return restore(run, "super-resolved", rows, observe, effort, "coarse", factor, out, progress)


def coarse_shapes(shape: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Shapes of images from which squares make (H, W) or (C, H, W).

    >>> coarse_shapes((28, 28))
    [(14, 14), (7, 7), (4, 4), (2, 2), (1, 1)]
    """
    if len(shape) < 2:
        return []
    *channels, height, width = shape
    factors = [factor for factor in range(2, min(height, width) + 1) if height % factor == 0 == width % factor]
    return [(*channels, height // factor, width // factor) for factor in factors]
