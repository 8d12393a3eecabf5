"""What inpainting, denoising and super-resolution share: completions drawn row by row, written, and pictured."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.applications.task import batches, log_prior, require_at_least, require_seed, task_files
from qvae.errors import CapabilityError, RunError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from qvae.applications.condition import Conditioned
    from qvae.applications.observation import Observation
    from qvae.config.names import Damage
    from qvae.data.given import Given
    from qvae.progress import Progress
    from qvae.runs.run import Run

Completions = Annotated[int, "Plausible rows drawn for each."]
Draws = Annotated[int, "Proposals of the encoder in each of ten rounds, thirty for a hole, or of a sampler."]
Steps = Annotated[int, "Of the Markov chain from each; 0 resamples the proposals alone."]
Sampler = Annotated[str | None, "Draw proposals from the prior, biased towards what was seen, by this sampler."]
Trained = Annotated[bool, "Take the encoder's word, unweighed: the model was trained with training.corruption."]
RestorationSeed = Annotated[int, "Of all draws."]

_LATENTS = 2048  # of a round, decoded together
_PICTURED, _COMPLETIONS_PICTURED = 12, 4
_APART = 1.25  # a ratio of amounts of damage; a hole's is that much from its rounding to whole pixels, at worst
_FEW = 3.0  # an effective size of importance weights at which they say next to nothing


@dataclass(frozen=True)
class Effort:
    """How much is drawn for each row.

    Attributes:
        completions, draws, steps, sampler, trained, seed: as the options that every restoration has.

    Raises:
        ConfigError: one of them is out of range.
    """

    completions: int
    draws: int
    steps: int
    sampler: str | None
    trained: bool
    seed: int

    def __post_init__(self) -> None:
        for name, least in (("completions", 1), ("draws", 1), ("steps", 0)):
            require_at_least(name, getattr(self, name), least)
        require_seed(self.seed)


def restore(
    run: Run,
    name: str,
    rows: Given,
    observe: Callable[[Tensor, slice], Observation],
    effort: Effort,
    damage: Damage,
    amount: float,
    out: Path | None,
    progress: Progress | None,
) -> Outcome:
    """Completions of rows in NAME.npz, a picture of some, and, of files of images, the best guesses as PNGs in a folder NAME.

    Args:
        run: with the model.
        name: of the files.
        rows: what was seen.
        observe: what was seen of a batch of values (B, S), which are the rows of that slice.
        effort: how much is drawn.
        damage: that rows have, as ``training.corruption`` names it.
        amount: of it, as ``training.corruption_amount``.
        out: a folder; the run's if None.
        progress: told what is going on.

    The .npz holds ``ids``; ``best`` (N, *shape), E[x | seen], the guess of least squared error; ``completions``
    (N, M, *shape), means of p(x|z) for draws z ~ p(z | seen), with what was seen kept; ``spread`` (N, *shape), their standard
    deviation; and ``effective_size`` (N,) of the importance weights.

    Raises:
        CapabilityError: the model has no prior.
        RunError: ``out`` can't be written to.
    """
    import numpy as np

    from qvae.applications.archive import archive
    from qvae.progress import Sturdy
    from qvae.reporting.figures import image_grid, save_figure
    from qvae.reporting.run_rows import is_of_images

    sizes: list[float] = []
    shown: list[np.ndarray] = []
    with task_files(run, name, out, with_folder=rows.are_pictures) as (file, picture):
        files = [file]
        with archive(file) as growing:
            growing.append(ids=np.array(rows.ids))
            for part, observation, found in restored(run, rows, observe, effort, Sturdy.around(progress)):
                arrays = _arrays(run, found)
                growing.append(**arrays)
                sizes += arrays["effective_size"].tolist()
                if rows.are_pictures:
                    write_pictures(run, file.with_suffix(""), rows.ids[part], arrays["best"])
                if not shown and is_of_images(run):
                    shown = _shown(run, observation, arrays)
        if rows.are_pictures:
            files.append(file.with_suffix(""))
        if shown:
            title = "what was given, the best guess, completions, and their spread"
            files.append(save_figure(image_grid(np.concatenate(shown), len(shown[0]), title), picture))
    return Outcome(files, _verdict(run, sizes, effort, damage, amount))


def require_features(run: Run) -> None:
    """Raise a CapabilityError if a run's data are strings, which have no features that stand by themselves."""
    if run.model.likelihood.kind == "strings":
        raise CapabilityError("strings can't be restored: a character depends on those before it; take a model of other data.")


def restored(
    run: Run, rows: Given, observe: Callable[[Tensor, slice], Observation], effort: Effort, progress: Progress
) -> Iterator[tuple[slice, Observation, Conditioned]]:
    """Draws of p(z | seen) for a few rows at a time."""
    import torch

    from qvae.applications.condition import Target, condition, taken_on_trust
    from qvae.progress import counter
    from qvae.sampling.closing import close

    density = None if effort.trained else log_prior(run, progress)
    sampler = None if effort.sampler is None else run.sampler(effort.sampler, effort.seed)
    generator = torch.Generator(run.device).manual_seed(effort.seed)
    size = max(1, _LATENTS // max(effort.draws, effort.completions))
    start = 0
    with progress.work("completions") as report, ExitStack() as stack:
        if sampler is not None:
            stack.callback(close, sampler)
        count = counter(report, len(rows))
        for batch in batches(rows.dataset.test, size):
            part = slice(start, start + len(batch))
            with torch.no_grad():
                observation = observe(rows.dataset.values(batch).to(run.device), part)
            target = Target(run.model, observation, density)
            if effort.trained:
                found = taken_on_trust(target, effort.completions, generator, effort.draws)
            else:
                found = condition(target, effort.completions, generator, effort.draws, steps=effort.steps, sampler=sampler)
            yield part, observation, found
            start += len(batch)
            count(len(batch))


def _arrays(run: Run, found: Conditioned) -> dict[str, np.ndarray]:
    import numpy as np

    shape = run.model.shape
    return {
        "best": found.mean.unflatten(1, shape).cpu().numpy(),
        "spread": found.spread.unflatten(1, shape).cpu().numpy(),
        "completions": found.completions.unflatten(2, shape).cpu().numpy(),
        "effective_size": found.effective_size.cpu().numpy().astype(np.float32),
    }


def _verdict(run: Run, sizes: list[float], effort: Effort, damage: Damage, amount: float) -> list[str]:
    if effort.trained:
        known, learnt = run.config.training.corruption, run.config.training.corruption_amount
        if known != damage:
            remedy = f"leave --trained out, or train with training.corruption={damage}"
            saw = "undamaged" if known is None else known
            return [f"the encoder learnt from {saw} rows, so that its word on these is a guess; {remedy}"]
        if max(amount, learnt) > _APART * min(amount, learnt):
            remedy = f"leave --trained out, or train with training.corruption_amount={amount:.3g}"
            return [f"the encoder learnt from {damage} rows of an amount of {learnt:g}, these have {amount:.3g}; {remedy}"]
        return []
    size = statistics.median(sizes)
    said = f"effective number of proposals for a row, in the median: {size:.1f}"
    if size < _FEW and not effort.steps:
        return [f"{said}, too few to resample; take --steps 100 or more, or more --draws"]
    return [said]


def _shown(run: Run, observation: Observation, arrays: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Rows of the picture: what was given, the best guess, completions, and the spread, of the first few."""
    from qvae.reporting.run_rows import as_grey

    given = observation.picture()[:_PICTURED].unflatten(1, run.model.shape).cpu().numpy()
    completions = arrays["completions"][:_PICTURED, :_COMPLETIONS_PICTURED]
    images = [given, arrays["best"][:_PICTURED], *completions.swapaxes(0, 1)]
    return [*(as_grey(run, image) for image in images), arrays["spread"][:_PICTURED]]


def write_pictures(run: Run, folder: Path, ids: list[str], best: np.ndarray) -> None:
    """Images (N, *shape) as PNG files in a folder, by names such as those of the files they are of.

    Names that end otherwise get ``.png`` behind, so that ``a.png`` and ``a.jpg`` stay two files.
    """
    import numpy as np
    from PIL import Image

    from qvae.reporting.run_rows import as_grey

    for name, pixels in zip(ids, as_grey(run, best), strict=True):
        file = folder / (name if name.lower().endswith(".png") else f"{name}.png")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            grey = (255 * pixels.clip(0, 1)).round().astype(np.uint8)
            Image.fromarray(grey if grey.ndim == 2 else np.moveaxis(grey, 0, 2)).save(file)
        except OSError as error:
            raise RunError(f"{file} can't be written: {error.strerror or error}; choose another --out.") from error
