"""Rows with hidden features, completed: several ways that fit what is seen, and the best guess."""

from __future__ import annotations

from contextlib import ExitStack
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
from qvae.errors import DataError

if TYPE_CHECKING:
    from torch import Tensor

    from qvae.applications.observation import Observation
    from qvae.data.given import Given
    from qvae.progress import Progress
    from qvae.runs.run import Run


def inpaint(
    run: Run,
    input: Annotated[Path, "Rows to complete: an .npy, .npz, .csv, .parquet, or folder of PNGs."],
    mask: Annotated[Path | None, "What is hidden: an .npy, .npz or PNG, 1 or white there; else the input's array mask."] = None,
    completions: Completions = 8,
    draws: Draws = 128,
    steps: Steps = 100,
    sampler: Sampler = None,
    trained: Trained = False,
    seed: RestorationSeed = 0,
    out: Annotated[Path | None, "A folder for inpainted.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Complete rows of which a part is hidden, in several plausible ways, by the model's posterior given the rest.

    What is written is said by :func:`~qvae.applications.restore.restore`. A mask is of one row, for all, or of every row.

    Raises:
        CapabilityError: the model has no prior.
        ConfigError: a number is out of range.
        DataError: rows or mask can't be read, or aren't what the model takes.
        RunError: ``out`` can't be written to.
        SamplerError: the sampler can't be had or fails.
    """
    from qvae.applications.observation import PartlyHidden

    require_features(run)
    effort, likelihood = Effort(completions, draws, steps, sampler, trained, seed), run.model.likelihood
    with ExitStack() as stack:
        rows = stack.enter_context(task_input(run, input))
        given = None if mask is None else stack.enter_context(task_input(run, mask, _mask_shapes(run), "bits"))
        hidden = _hidden(run, rows, given, input)

        def observe(values: Tensor, part: slice) -> Observation:
            chosen = (hidden if len(hidden) == 1 else hidden[part]).to(values.device).float() >= 0.5
            chosen = chosen.view(len(chosen), -1, *run.model.shape[-2:]) if len(run.model.shape) > 2 else chosen
            return PartlyHidden(likelihood, values, chosen.expand(len(values), *run.model.shape).flatten(1))

        return restore(run, "inpainted", rows, observe, effort, "hidden", float((hidden >= 0.5).float().mean()), out, progress)


def _mask_shapes(run: Run) -> list[tuple[int, ...]]:
    """Of one row: the model's own, or, of images in colour, one for all channels."""
    shape = run.model.shape
    return [shape, shape[1:]] if len(shape) > 2 else [shape]


def _hidden(run: Run, rows: Given, given: Given | None, input: Path) -> Tensor:
    """Where rows are hidden, a half and above, (1, *shape) or (N, *shape)."""
    from qvae.data.given import unit_levels

    if given is None and "mask" not in rows.extra:
        raise DataError(f"nothing says what is hidden in {input}; name a --mask, or put an array mask beside the rows.")
    if given is None:
        hidden = unit_levels(rows.extra["mask"], f"the mask in {input}")
    else:
        hidden = given.dataset.values(given.dataset.test)
    if tuple(hidden.shape) in _mask_shapes(run):
        hidden = hidden.unsqueeze(0)
    if tuple(hidden.shape[1:]) not in _mask_shapes(run) or len(hidden) not in (1, len(rows)):
        raise DataError(f"the mask has the shape {tuple(hidden.shape)}; it must be that of one row or of all {len(rows)}.")
    return hidden
