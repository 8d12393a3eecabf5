"""Style: what two sets differ in, carried from one to the other, and images in the style of others."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from qvae.applications.outcome import Outcome
from qvae.applications.task import batches, require_at_least, task_files, task_input
from qvae.errors import CapabilityError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy as np
    from torch import Tensor

    from qvae.data.dataset import Dataset
    from qvae.models.autoencoder import Autoencoder
    from qvae.progress import Progress
    from qvae.runs.run import Run

_LEAST = 0.02  # of a bit's probability: sets whose bits are sure would differ by logits without end
_MOST = 64  # rows of either set in the grid, which is made at once
_ROWS = 5000  # training rows that tell which latents know the class


def style(
    run: Run,
    content: Annotated[Path, "What to change: an .npy, .npz, .csv, .parquet, or folder of PNGs."],
    style: Annotated[Path, "Whose style it takes: the same."],
    strength: Annotated[float, "Of the step from one set towards the other; 1 is their whole difference."] = 1.0,
    units: Annotated[int | None, "How many latents are content; those that know more than the mean if left out."] = None,
    grid: Annotated[int, "Rows of either set in the grid, the first ones."] = 8,
    out: Annotated[Path | None, "A folder for styled.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Carry the style of one set to another, and show single images in the style of others.

    The .npz holds ``ids`` and ``transferred`` (N, *shape): the content rows, moved in latent space by the difference of the
    sets' mean logits, or of their means of real latents; and ``grid`` (A, B, *shape): the content latents of A rows with all
    other latents of B rows of the style set. Content latents are those that know most of the class by the training rows; where
    these have no labels or aren't within reach, those that know least of which set a row is of. ``is_content`` (n,) says which.
    Of files of images the rows that were moved are written as PNGs, too.

    Raises:
        CapabilityError: the model's latents are its data.
        ConfigError: a number is out of range.
        DataError: rows can't be read, or aren't what the model takes.
        RunError: ``out`` can't be written to.
    """
    import numpy as np

    from qvae.applications.archive import archive
    from qvae.applications.restore import write_pictures
    from qvae.progress import Sturdy
    from qvae.reporting.figures import image_grid, save_figure
    from qvae.reporting.run_rows import as_grey, is_of_images

    require_at_least("strength", strength, 0)
    if not 1 <= grid <= _MOST:
        raise ConfigError(f"grid is {grid}; it must be 1 to {_MOST}.")
    model, seed, display = run.model, run.config.evaluation.seed, Sturdy.around(progress)
    if not model.compresses:
        raise CapabilityError("this model's latents are its data, so that they hold no style of their own; train another.")
    with ExitStack() as stack:
        rows, others = (stack.enter_context(task_input(run, path)) for path in (content, style))
        file, picture = stack.enter_context(task_files(run, "styled", out, with_folder=rows.are_pictures))
        sets = rows.dataset, others.dataset
        is_content, what = content_latents(run, *sets, units)
        step = strength * (mean_place(model, sets[1], seed) - mean_place(model, sets[0], seed))
        done = 0
        with archive(file) as growing:
            growing.append(ids=np.array(rows.ids), is_content=is_content)
            for codes in places(model, sets[0], seed, display):
                moved = decoded(model, codes + step).cpu().numpy()
                growing.append(transferred=moved)
                if rows.are_pictures:
                    write_pictures(run, file.with_suffix(""), rows.ids[done : done + len(moved)], moved)
                done += len(moved)
            first, second = (next(places(model, data, seed))[:grid] for data in sets)
            mixed = in_style(model, first, second, is_content).cpu().numpy()
            growing.append(grid=mixed)
        files = [file, *[file.with_suffix("")] * rows.are_pictures]
        if is_of_images(run):
            above, left = (as_grey(run, data.values(data.test[:grid]).numpy()) for data in reversed(sets))
            lines = [np.concatenate([np.ones_like(above[:1]), above])]
            lines += [np.concatenate([own[None], as_grey(run, line)]) for own, line in zip(left, mixed, strict=True)]
            title = "content at the left, style at the top"
            files.append(save_figure(image_grid(np.concatenate(lines), len(lines[0]), title), picture))
    return Outcome(files, [f"content is in {is_content.sum()} of {len(is_content)} latents, those that {what}"])


def places(model: Autoencoder, dataset: Dataset, seed: int, progress: Progress | None = None) -> Iterator[Tensor]:
    """Where the codes of a data set's test rows lie, a few at a time, (B, n): logits of bits, else means."""
    import torch

    from qvae.evaluation.rows import device_of
    from qvae.progress import Sturdy, counter

    device = device_of(model)
    generator = torch.Generator(device).manual_seed(seed)
    with Sturdy.around(progress).work(f"codes of {dataset.name}") as report:
        count: Callable[[int], None] = counter(report, len(dataset.test))
        for batch in batches(dataset.test):
            means = model.code_means(dataset.values(batch).to(device), generator)
            yield torch.logit(means.clamp(_LEAST, 1 - _LEAST)) if model.latents_are_bits else means
            count(len(batch))


def mean_place(model: Autoencoder, dataset: Dataset, seed: int) -> Tensor:
    """The mean of :func:`places`, (n,)."""
    total = sum(codes.double().sum(0) for codes in places(model, dataset, seed))
    assert not isinstance(total, int)
    return (total / len(dataset.test)).float()


def decoded(model: Autoencoder, codes: Tensor) -> Tensor:
    """Means of p(x|z) at places (N, n), (N, *shape); of logits at the bits that they make most probable."""
    return model.decode((codes > 0).to(codes) if model.latents_are_bits else codes)


def in_style(model: Autoencoder, content: Tensor, style: Tensor, is_content: np.ndarray) -> Tensor:
    """The content latents of A places (A, n) with the others of B, decoded, (A, B, *shape)."""
    import torch

    mask = torch.from_numpy(is_content).to(content.device)
    mixed = torch.where(mask, content.unsqueeze(1), style.unsqueeze(0))
    return decoded(model, mixed.flatten(0, 1)).unflatten(0, (len(content), len(style)))


def content_latents(run: Run, content: Dataset, style: Dataset, units: int | None) -> tuple[np.ndarray, str]:
    """Which latents are content, (n,), and what they do, in words.

    Raises:
        ConfigError: ``units`` aren't between 1 and n - 1.
    """
    import numpy as np

    from qvae.evaluation.rows import code_means, prepared, training_rows
    from qvae.reporting.run_rows import reachable_data

    model, seed, data = run.model, run.config.evaluation.seed, reachable_data(run)
    if data is not None and data.train_labels is not None:
        chosen = training_rows(data, _ROWS, seed)
        means = code_means(model, prepared(data, chosen, seed), seed)
        knowledge = class_information(means, data.train_labels[chosen].numpy(), model.latents_are_bits)
        what = "know most of the class"
    else:
        rows = [dataset.values(dataset.test[:_ROWS]).flatten(1) for dataset in (content, style)]
        both = np.concatenate([code_means(model, values, seed) for values in rows])
        knowledge = -class_information(both, np.repeat([0, 1], [len(values) for values in rows]), model.latents_are_bits)
        what = "know least of which set a row is of, since no labels are within reach"
    if units is None:
        return knowledge > knowledge.mean(), what
    if not 0 < units < len(knowledge):
        raise ConfigError(f"units is {units}; it must be 1 to {len(knowledge) - 1}, of {len(knowledge)} latents.")
    return np.isin(np.arange(len(knowledge)), np.argsort(-knowledge, kind="stable")[:units]), what


def class_information(means: np.ndarray, labels: np.ndarray, are_bits: bool) -> np.ndarray:
    """Mutual information I(z_i; class) of each latent, in nats, (n,).

    Of bits it is H(z_i) - H(z_i | class), of the bits as drawn; of real latents that of normal distributions,
    log sqrt(variance / variance within classes), of their means.

    Args:
        means: of q(z|x) of N rows, (N, n).
        labels: theirs, (N,).
        are_bits: what the latents are.

    >>> import numpy as np
    >>> class_information(np.array([[0.0, 0.5], [1.0, 0.5]]), np.array([3, 8]), True).round(3).tolist()
    [0.693, 0.0]
    """
    import numpy as np

    means = means.astype(np.float64)

    def uncertainty(rows: np.ndarray) -> np.ndarray:
        if are_bits:
            p = rows.mean(0).clip(1e-12, 1 - 1e-12)
            return -(p * np.log(p) + (1 - p) * np.log1p(-p))
        return rows.var(0)

    within = sum((labels == label).mean() * uncertainty(means[labels == label]) for label in np.unique(labels))
    if are_bits:
        return np.maximum(uncertainty(means) - within, 0.0)
    return 0.5 * np.log(np.maximum(uncertainty(means), 1e-12) / np.maximum(within, 1e-12))
