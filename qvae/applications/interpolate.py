"""Paths between images: codes that change bit by bit through the prior's landscape, beside the straight line."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.applications.task import batches, require_at_least, task_files, task_input
from qvae.errors import CapabilityError, DataError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from qvae.data.dataset import Dataset
    from qvae.models.autoencoder import Autoencoder
    from qvae.progress import Progress
    from qvae.runs.run import Run

_SURE = 0.001  # least distance of a bit's probability from 0 and 1, so that its logit is finite
_PICTURED = 3


@dataclass(frozen=True)
class Way:
    """A path between two codes.

    Attributes:
        images: means of p(x|z) at some of its codes, (F, *shape).
        energies: -log p(z) up to a constant, at each of its codes, (S,).
    """

    images: np.ndarray
    energies: np.ndarray

    @property
    def barrier(self) -> float:
        """How far its highest energy lies above that of the higher end, in nats."""
        known = self.energies[self.energies == self.energies]  # a NaN isn't
        return float(known.max() - max(known[0], known[-1]))


def interpolate(
    run: Run,
    input: Annotated[Path, "Two or more images: an .npy, .npz, .csv, .parquet, or folder of PNGs."],
    frames: Annotated[int, "Images on each path, its ends included."] = 9,
    width: Annotated[int, "Of the search for a low path: how many beginnings it follows at once."] = 64,
    out: Annotated[Path | None, "A folder for interpolated.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Go from each image to the next on a path of low energy, beside the straight line between their codes.

    Of latent bits both are paths of single flips between the most probable bits of the two codes: the straight one flips them
    in the order in which the line between the logits crosses 0, the other in one whose highest energy is low. Of real latents
    the prior's own path is a great circle. With a transverse field the energy is the diagonal one.

    The .npz holds ``landscape`` and ``straight`` (P, frames, *shape), means of p(x|z) along P paths, and ``landscape_energy``
    and ``straight_energy`` (P, S), -log p(z) up to a constant, after each flip, or at each frame of real latents; NaN beyond
    the last flip. For files of images there are PNGs, too, in a folder for each path.

    Raises:
        CapabilityError: the model has no prior, or one without a density.
        ConfigError: a number is out of range.
        DataError: rows can't be read, are too few, or aren't what the model takes.
        RunError: ``out`` can't be written to.
    """
    import numpy as np

    from qvae.applications.archive import archive
    from qvae.applications.restore import write_pictures
    from qvae.progress import Sturdy
    from qvae.reporting.figures import save_figure
    from qvae.reporting.path_figure import paths_figure
    from qvae.reporting.run_rows import as_grey, is_of_images

    require_at_least("frames", frames, 2)
    require_at_least("width", width, 1)
    run.model.require_prior()
    if not run.model.has_likelihood:
        raise CapabilityError("this model's latents have no density p(z), hence no landscape; train a qvae or a vqvae.")
    with ExitStack() as stack:
        rows = stack.enter_context(task_input(run, input))
        file, picture = stack.enter_context(task_files(run, "interpolated", out, with_folder=rows.are_pictures))
        if len(rows) < 2:
            raise DataError(f"{input} holds one row; a path needs two or more.")
        barriers: list[tuple[float, float]] = []
        shown: list[tuple[Way, Way]] = []
        with archive(file) as growing:
            seed, display = run.config.evaluation.seed, Sturdy.around(progress)
            for low, straight in ways(run.model, rows.dataset, frames, width, seed, display):
                growing.append(landscape=low.images[None], straight=straight.images[None])
                growing.append(landscape_energy=low.energies[None], straight_energy=straight.energies[None])
                if rows.are_pictures:
                    for name, images in (("landscape", low.images), ("straight", straight.images)):
                        frame_names = [f"{len(barriers)}/{name}-{number}" for number in range(frames)]
                        write_pictures(run, file.with_suffix(""), frame_names, images)
                barriers.append((low.barrier, straight.barrier))
                if len(shown) < _PICTURED:
                    shown.append((low, straight))
        files = [file, *[file.with_suffix("")] * rows.are_pictures]
        if is_of_images(run):
            grey = [[Way(as_grey(run, way.images), way.energies) for way in pair] for pair in shown]
            files.append(save_figure(paths_figure([(low, straight) for low, straight in grey]), picture))
    lowest, straight_one = np.mean(barriers, 0)
    what = f"the highest energy lies {lowest:.1f} nats above the higher end, on the straight line {straight_one:.1f}"
    return Outcome(files, [f"{what}; means of {len(barriers)} path{'s' * (len(barriers) > 1)}"])


def ways(
    model: Autoencoder, dataset: Dataset, frames: int, width: int, seed: int, progress: Progress
) -> Iterator[tuple[Way, Way]]:
    """The path through the landscape and the straight one, from each test row of a data set to the next."""
    import torch

    from qvae.evaluation.rows import device_of
    from qvae.progress import counter

    device, last = device_of(model), None
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad(), progress.work(f"paths through {dataset.name}") as report:
        count: Callable[[int], None] = counter(report, len(dataset.test))
        for batch in batches(dataset.test):
            for code in model.code_means(dataset.values(batch).to(device), generator):
                if last is not None:
                    of_kind = _of_bits if model.latents_are_bits else _of_reals
                    yield of_kind(model, last, code, frames, width)
                last = code
                count(1)


def _of_bits(model: Autoencoder, start: Tensor, end: Tensor, frames: int, width: int) -> tuple[Way, Way]:
    """Between two codes' probabilities of bits, (n,)."""
    import numpy as np
    import torch

    from qvae.applications.paths import energies_along, lowest_order, states_along, straight_order
    from qvae.models.prior import boltzmann_prior

    hamiltonian = boltzmann_prior(model).frozen()
    first, last = (torch.logit(means.clamp(_SURE, 1 - _SURE)) for means in (start, end))
    spins, aim = (torch.where(logits > 0, 1, -1) for logits in (first, last))
    found = []
    for order in (lowest_order(hamiltonian, spins, aim, width), straight_order(first, last)):
        chosen = torch.linspace(0, len(order), frames).round().long()
        images = model.decode((1 + states_along(spins, order)[chosen].to(start)) / 2)
        energies = np.full(len(spins) + 1, np.nan, np.float32)
        energies[: len(order) + 1] = energies_along(hamiltonian, spins, order).cpu().numpy()
        found.append(Way(images.cpu().numpy(), energies))
    return found[0], found[1]


def _of_reals(model: Autoencoder, start: Tensor, end: Tensor, frames: int, width: int) -> tuple[Way, Way]:
    """Between two codes' means, (n,)."""
    import torch

    from qvae.applications.paths import great_circle
    from qvae.models.gaussian import NormalPrior

    assert isinstance(model.prior, NormalPrior)
    t = torch.linspace(0, 1, frames, device=start.device).unsqueeze(1)
    found = []
    for codes in (great_circle(start, end, frames), torch.lerp(start, end, t)):
        found.append(Way(model.decode(codes).cpu().numpy(), -model.prior.log_prob(codes).cpu().numpy()))
    return found[0], found[1]
