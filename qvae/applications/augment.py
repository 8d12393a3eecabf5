"""Samples for a small labelled set: of each class as many as are asked for, made by a model that is told the class."""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Annotated, Any

from qvae.applications.outcome import Outcome
from qvae.applications.task import require_at_least, require_seed, task_files, task_input
from qvae.errors import CapabilityError, DataError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np

    from qvae.data.given import Given
    from qvae.progress import Progress
    from qvae.runs.run import Run

_LABELS = ("labels", "y", "target", "label", "train_labels", "y_train", "test_labels", "y_test")
_AT_ONCE = 5000  # samples that are drawn together: a sampler warms up at each call
_JUDGED = 2000
_PICTURED, _SHOWN = 2, 10


def augment(
    run: Run,
    input: Annotated[Path, "Labelled rows: an .npz with an array labels, or a folder with a subfolder for each label."],
    factor: Annotated[int, "Samples for each row that is given."] = 10,
    sampler: Annotated[str | None, "Another sampler than the run's own."] = None,
    seed: Annotated[int, "Of all that is drawn."] = 0,
    out: Annotated[Path | None, "A folder for augmented.npz; the run's if left out."] = None,
    progress: Progress | None = None,
) -> Outcome:
    """Make labelled samples for a small labelled set, of its classes and as often as they are in it.

    The model is told the class: its label units are held, while a sampler draws all other latents, or its generator is told.
    The .npz holds ``images`` (N, *shape), means of p(x|z), and ``labels`` (N,): samples alone, without the rows given. For a
    folder of images there is one of PNGs, too.

    Raises:
        CapabilityError: the model isn't told classes.
        ConfigError: a number is out of range.
        DataError: rows or labels can't be read, or a label isn't the model's.
        RunError: ``out`` can't be written to.
        SamplerError: the sampler can't be had or fails.
    """
    import numpy as np

    from qvae.applications.archive import archive
    from qvae.applications.restore import write_pictures
    from qvae.progress import Sturdy
    from qvae.reporting.figures import image_grid, save_figure
    from qvae.reporting.run_rows import as_grey, is_of_images, reachable_data

    require_at_least("factor", factor, 1)
    require_seed(seed)
    if not run.model.classes:
        remedy = "train a qvae with model.latent.label_units=one-hot, or a vqgan, on labelled data"
        raise CapabilityError(f"this model isn't told classes, so it can't make rows of one; {remedy}.")
    with ExitStack() as stack:
        rows = stack.enter_context(task_input(run, input))
        file, picture = stack.enter_context(task_files(run, "augmented", out, with_folder=rows.are_pictures))
        names = run.class_names
        if not names and (data := reachable_data(run)) is not None:  # a run of version 0.1.0 didn't keep them
            names = data.class_names
        labels = labels_of(rows, run.model.classes, input, names)
        found, counts = np.unique(labels, return_counts=True)
        wanted = {int(label): factor * int(count) for label, count in zip(found, counts, strict=True)}
        judged: dict[int, np.ndarray] = {}
        made: Counter[int] = Counter()
        with archive(file) as growing:
            for label, images in samples_of(run, wanted, sampler, seed, Sturdy.around(progress)):
                growing.append(images=images, labels=np.full(len(images), label))
                judged.setdefault(label, images[: _JUDGED // len(wanted)])
                if rows.are_pictures:
                    folder = names[label] if names else str(label)
                    numbered = [f"{folder}/{made[label] + number}" for number in range(len(images))]
                    write_pictures(run, file.with_suffix(""), numbered, images)
                made[label] += len(images)
        files = [file, *[file.with_suffix("")] * rows.are_pictures]
        if is_of_images(run):
            lines = []
            for label, images in judged.items():
                chosen = rows.dataset.test[np.flatnonzero(labels == label)[:_PICTURED].tolist()]
                given = rows.dataset.values(chosen).numpy()
                lines += [_filled(as_grey(run, given), _PICTURED), _filled(as_grey(run, images[:_SHOWN]), _SHOWN)]
            title = "given at the left, and samples of their class"
            files.append(save_figure(image_grid(np.concatenate(lines), _PICTURED + _SHOWN, title), picture))
    return Outcome(files, [f"{sum(made.values())} samples of {len(made)} classes; {_judgement(run, judged)}"])


def labels_of(rows: Given, classes: tuple[int, ...], source: Path, class_names: Sequence[str] = ()) -> np.ndarray:
    """The label of each row, (N,): from an array of the .npz, or the name of the folder that a picture lies in.

    Args:
        rows: that were given.
        classes: labels that the model knows.
        source: of the rows, for messages.
        class_names: of the labels from 0 on, as folders of training images are called; without them folders are numbers.

    Raises:
        DataError: there are none, or one isn't among the ``classes``.
    """
    import numpy as np

    if rows.are_pictures:
        folders = [PurePath(name).parent.name for name in rows.ids]
        numbers = {name: number for number, name in enumerate(class_names)}
        if class_names and (strange := set(folders) - set(numbers)):
            known = nearest(min(strange), class_names)
            raise DataError(f"{source} has the label {min(strange)!r}, which the model doesn't know: {known}.")
        if not class_names and not all(name.lstrip("-").isdecimal() for name in folders):
            raise DataError(f"{source} doesn't say the labels of its images; put them into subfolders named by them, as 3.")
        labels = np.array([numbers[name] if class_names else int(name) for name in folders])
    else:
        found = next((rows.extra[name] for name in _LABELS if name in rows.extra), None)
        if found is None:
            raise DataError(f"{source} holds no labels; save an .npz with the arrays images and labels.")
        if found.shape != (len(rows),) or not np.issubdtype(found.dtype, np.integer):
            what = f"labels of type {found.dtype} and shape {found.shape}"
            raise DataError(f"{source} holds {len(rows)} rows, but {what}; there must be a whole number for each.")
        labels = np.array(found)
    unknown = next((int(label) for label in np.unique(labels) if label not in classes), None)
    if unknown is not None:
        known = nearest(str(unknown), map(str, classes))
        raise DataError(f"{source} has the label {unknown}, which the model doesn't know: {known}.")
    return labels


def samples_of(
    run: Run, wanted: Mapping[int, int], sampler: str | None, seed: int, progress: Progress
) -> Iterator[tuple[int, np.ndarray]]:
    """So many samples of each label, means of p(x|z), a few thousand at a time, (B, *shape)."""
    import torch

    from qvae.progress import counter
    from qvae.sampling.closing import close

    needs_sampler = run.config.model.has_boltzmann_prior or sampler is not None
    chosen = run.sampler(sampler, seed) if needs_sampler else None
    generator = torch.Generator(run.device).manual_seed(seed)
    model: Any = run.model  # of a kind whose generate takes a label
    try:
        with progress.work("samples") as report:
            count: Callable[[int], None] = counter(report, sum(wanted.values()))
            for label, number in wanted.items():
                for start in range(0, number, _AT_ONCE):
                    size = min(_AT_ONCE, number - start)
                    yield label, model.generate(size, chosen, generator, label=label).cpu().numpy()
                    count(size)
    finally:
        if chosen is not None:
            close(chosen)


def _filled(images: np.ndarray, count: int) -> np.ndarray:
    """Images (N, ...) and grey ones, to make ``count`` of them."""
    import numpy as np

    return np.concatenate([images, np.full((count - len(images), *images.shape[1:]), 0.5)])


def _judgement(run: Run, judged: Mapping[int, np.ndarray]) -> str:
    from qvae.applications.generate import class_share

    try:
        right = sum(class_share(run, images, label) * len(images) for label, images in judged.items())
    except DataError as error:
        return f"no classifier tells how many of them are of their class: {error}"
    return f"the classifier takes {right / sum(map(len, judged.values())):.0%} of them for what they are labelled"
