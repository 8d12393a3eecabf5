"""A trained run looked at: its numbers on the test images, samples and reconstructions."""

from __future__ import annotations

import io
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset, binarize_fixed, epoch_permutation
from qvae.errors import DataError, SamplerError, nearest
from qvae.evaluation.classifier_files import feature_classifier
from qvae.evaluation.frechet import frechet_table
from qvae.evaluation.inception import check_inception, inception_table
from qvae.evaluation.latents import ALIVE, pca, probe, unit_information
from qvae.evaluation.likelihood import Likelihood, evaluate_likelihood, prior_log_partition
from qvae.evaluation.tsne import LatentFilm
from qvae.files import atomic_write_bytes, atomic_write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from qvae.run import Run

EVALUATION = "evaluation.json"
_PICTURED = 400  # images in one picture, at most
_FILM_IMAGES = 1000
_FIELD_IMAGES = 10_000  # training images that say where a class lies
_PROBE_IMAGES = 5000  # training images that the probes learn from
_SAMPLES = "samples of the prior"
_BATCH = 1000  # images that are encoded or decoded at once


def film(dataset: Dataset, settings: EvaluationConfig, device: torch.device) -> LatentFilm | None:
    """The film of a training, over a fixed part of the test images; None where ``tsne_every`` is 0 or images are too few."""
    images = test_images(dataset, settings)[:_FILM_IMAGES].to(device)
    return LatentFilm(images, settings.tsne_every, settings.seed) if settings.tsne_every and len(images) > 2 else None


def test_images(dataset: Dataset, settings: EvaluationConfig) -> Tensor:
    """The binary test images (N, D) that an evaluation uses, drawn from its seed."""
    grey = dataset.test.flatten(1)
    return binarize_fixed(dataset, grey[: settings.num_test], settings.seed)


# Numbers --------------------------------------------------------------------------------------------------------------


def evaluate(run: Run, settings: EvaluationConfig | None = None, console: Console | None = None) -> Likelihood:
    """Likelihood, Frechet distances and what the latents hold, on the test images; writes ``evaluation.json``.

    Args:
        run: with its data within reach.
        settings: other settings than the run's own.
        console: where progress is shown.
    """
    settings = settings or run.config.evaluation
    if settings.inception_weights is not None:
        check_inception(settings.inception_weights)  # before minutes of work, not after
    hamiltonian = run.model.prior.hamiltonian().detach()
    images = test_images(run.dataset, settings).to(run.device)
    seconds: dict[str, float] = {}
    with _timed(seconds, "likelihood"), _progress(console, "evaluating", len(images)) as advance:
        log_z = prior_log_partition(hamiltonian, settings.log_z_chains, settings.log_z_temperatures, settings.seed)
        found = evaluate_likelihood(run.model, images, log_z, settings.importance_samples, settings.seed, advance)
    extra: dict[str, Any] = {
        "binarization": run.dataset.binarization,
        "test_images_are_all": len(images) == len(run.dataset.test),
        "log_z_details": log_z.details,
        "evaluation_seed": settings.seed,
    }
    with _timed(seconds, "frechet"):
        extra["frechet"] = frechet_distances(run, settings, console)
    with _timed(seconds, "latents"):
        extra["latents"] = latents_at_work(run, settings)
    atomic_write_text(run.path / EVALUATION, json.dumps(found.to_dict() | extra | {"seconds": seconds}, indent=2) + "\n")
    return found


@contextmanager
def _timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    seconds[part] = round(time.perf_counter() - started, 2)


@contextmanager
def _progress(console: Console | None, label: str, total: int) -> Iterator[Callable[[float], None]]:
    if console is None or not console.is_terminal:
        yield lambda done: None
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(label, total=total)
        yield lambda done: progress.advance(task, done)


def frechet_distances(run: Run, settings: EvaluationConfig, console: Console | None = None) -> dict[str, Any]:
    """Frechet distances from the test images: of training images (the floor), reconstructions, samples, independent bits.

    On the features of a small classifier of the data set, which needs labels, and, where their weights are given, on
    Inception's. Empty where ``num_generated`` is 0.
    """
    if not settings.num_generated:
        return {}
    found: dict[str, Any] = {}
    sets = _image_sets(run, settings)
    try:
        run.prior_spins(settings.num_generated)
        if run.samples_warning is not None:
            found["samples_warning"] = run.samples_warning
            if console is not None:
                console.print(f"[yellow]warning:[/yellow] of the samples: {run.samples_warning}", highlight=False)
    except SamplerError as error:
        found["samples_reason"] = str(error)
        del sets[_SAMPLES]
    reference = list(_grey_batches(run.dataset, run.dataset.test))  # all of them, whatever num_test: the distance needs many
    try:
        with _progress(console, "training the classifier", 1) as advance:
            classifier = feature_classifier(run.dataset, run.device, lambda done, total: advance(1 / total))
        with _progress(console, "Frechet distances", 3 * settings.num_generated) as advance:
            table = frechet_table(classifier, reference, {name: images() for name, images in sets.items()}, advance)
        found["classifier"] = classifier.to_dict()
        found["distances"] = {name: distance.to_dict() for name, distance in table.items()}
    except DataError as error:
        found["reason"] = str(error)
    if settings.inception_weights is not None:
        with _progress(console, "Inception", 3 * settings.num_generated) as advance:
            again = {name: images() for name, images in sets.items()}
            fid = inception_table(settings.inception_weights, reference, again, run.device, advance)
        found["inception"] = {name: distance.to_dict() for name, distance in fid.items()}
    return found


def _image_sets(run: Run, settings: EvaluationConfig) -> dict[str, Callable[[], Iterator[Tensor]]]:
    """What is compared with the test images, in batches (B, *image_shape) that are made when they are asked for."""
    count, device, model = settings.num_generated, run.device, run.model
    rows = epoch_permutation(len(run.dataset.train), 0, settings.seed)[:count]
    train, test = run.dataset.train[rows], binarize_fixed(run.dataset, run.dataset.test.flatten(1), settings.seed)

    def decoded(batches: Callable[[torch.Generator], Iterator[Tensor]]) -> Callable[[], Iterator[Tensor]]:
        def images() -> Iterator[Tensor]:
            generator = torch.Generator(device).manual_seed(settings.seed)
            return (model.decode_bits(bits, generator) for bits in batches(generator))

        return images

    def samples(generator: torch.Generator) -> Iterator[Tensor]:
        return (((1 + batch) / 2).to(model.prior.h) for batch in run.prior_spins(count).split(_BATCH))

    def independent(generator: torch.Generator) -> Iterator[Tensor]:
        """The best factorized prior for this encoder: each bit with its mean over training images."""
        bits = binarize_fixed(run.dataset, train.flatten(1), settings.seed)
        means = torch.from_numpy(code_means(run, bits, settings.seed).mean(0)).to(device)
        sizes = [len(batch) for batch in torch.arange(count).split(_BATCH)]
        return (torch.bernoulli(means.expand(size, -1), generator=generator) for size in sizes)

    return {
        "training images (the floor)": lambda: _grey_batches(run.dataset, train),
        "reconstructions": decoded(lambda g: (model.encode(batch.to(device), g) for batch in test.split(_BATCH))),
        _SAMPLES: decoded(samples),
        "independent bits, same decoder (factorized prior)": decoded(independent),
    }


def _grey_batches(dataset: Dataset, images: Tensor) -> Iterator[Tensor]:
    return (dataset.grey(batch) for batch in images.split(_BATCH))


def latents_at_work(run: Run, settings: EvaluationConfig) -> dict[str, Any]:
    """How many units are alive, and how well labels can be read from the code, from raw pixels and from PCA."""
    test = test_images(run.dataset, settings)
    test_means = code_means(run, test, settings.seed)
    information = unit_information(test_means)
    found: dict[str, Any] = {
        "units": len(information),
        "alive": int((information > ALIVE).sum()),
        "alive_threshold": ALIVE,
        "information": float(information.sum()),
    }
    labels, test_labels = run.dataset.train_labels, run.dataset.test_labels
    rows = epoch_permutation(len(run.dataset.train), 0, settings.seed)[:_PROBE_IMAGES]
    if not settings.probes or labels is None or test_labels is None or len(labels[rows].unique()) < 2:
        return found
    grey = run.dataset.train[rows].flatten(1)
    train = binarize_fixed(run.dataset, grey, settings.seed)
    y, test_y = labels[rows].numpy(), test_labels[: len(test)].numpy()
    pixels, test_pixels = train.numpy(), test.numpy()
    parts = {
        "latent codes": (code_means(run, train, settings.seed), test_means),
        "raw pixels": (pixels, test_pixels),
        "PCA of the pixels": pca(pixels, test_pixels, len(information)),
    }
    found["probes"] = [probe(name, a, y, b, test_y, settings.seed).to_dict() for name, (a, b) in parts.items()]
    found["probe_images"] = len(train)
    return found


def code_means(run: Run, images: Tensor, seed: int) -> np.ndarray:
    """q(z=1|x) of binary images (N, D) on the CPU, (N, n)."""
    generator = torch.Generator(run.device).manual_seed(seed)
    means = [run.model.code_means(batch.to(run.device), generator).cpu() for batch in images.split(_BATCH)]
    return torch.cat(means).numpy()


# Images ---------------------------------------------------------------------------------------------------------------


def generate(run: Run, num_images: int, sampler: str | None = None, bias: Tensor | None = None) -> np.ndarray:
    """Probabilities of pixels decoded from samples of the prior, (num_images, *image_shape).

    ``bias`` are fields (n,) added to the prior's own, as those of :func:`class_fields`.
    """
    generator = torch.Generator(run.device).manual_seed(run.config.evaluation.seed)
    chosen = run.sampler(sampler)
    try:
        return run.model.generate(num_images, chosen, generator, bias).cpu().numpy()
    finally:
        chosen.close()


def class_fields(run: Run, label: int) -> Tensor:
    """Fields (n,) that pull the latent spins towards the codes of one class.

    For independent spins, the fields that move each mean from that of all training images to that of the class:
    h_i = atanh(m_i) - atanh(m_i of the class). Couplings pull, too, so that a part of these fields may be enough.

    Raises:
        DataError: the training images have no labels, or none of this class.
    """
    labels = run.dataset.train_labels
    if labels is None:
        raise DataError(f"the images of {run.dataset.name} have no labels, so none can be asked for; leave --label out.")
    classes = labels.unique().tolist()
    if label not in classes:
        raise DataError(f"there is no class {label} in {run.dataset.name}: {nearest(str(label), map(str, classes))}.")
    rows = epoch_permutation(len(labels), 0, run.config.evaluation.seed)[:_FIELD_IMAGES]
    bits = binarize_fixed(run.dataset, run.dataset.train[rows].flatten(1), run.config.evaluation.seed)
    means = torch.from_numpy(code_means(run, bits, run.config.evaluation.seed))
    chosen = means[labels[rows] == label]
    # A mean of exactly 0 or 1 would pull without end; half a vote for either side is the usual remedy.
    everywhere, there = ((part.sum(0) + 0.5) / (len(part) + 1) for part in (means, chosen))
    return ((everywhere.logit() - there.logit()) / 2).to(run.device)


def class_share(run: Run, images: np.ndarray, label: int) -> float:
    """The part of images (N, *image_shape) that the classifier of :func:`frechet_distances` takes for a class."""
    classifier = feature_classifier(run.dataset, run.device)
    found = classifier.predict(torch.from_numpy(images).to(run.device))
    return float((found == label).float().mean())


def reconstruct(run: Run, num_images: int) -> tuple[np.ndarray, np.ndarray]:
    """The first test images as bits and their reconstructions, both (N, *image_shape)."""
    settings = run.config.evaluation.model_copy(update={"num_test": num_images})
    images = test_images(run.dataset, settings).to(run.device)
    generator = torch.Generator(run.device).manual_seed(settings.seed)
    found = run.model.reconstruct(images, generator)
    return images.unflatten(1, run.model.image_shape).cpu().numpy(), found.cpu().numpy()


def write_generated(
    run: Run, num_images: int, sampler: str | None = None, bias: Tensor | None = None
) -> tuple[Path, Path]:
    """``generated.npz`` (array ``images``) and ``figures/samples.png`` in the run folder; see :func:`generate`."""
    images = generate(run, num_images, sampler, bias)
    array = _save_array(run.path / "generated.npz", images=images)
    return array, save_figure(samples_figure(images[:_PICTURED], run, sampler), run.path / "figures" / "samples.png")


def write_reconstructions(run: Run, num_images: int) -> tuple[Path, Path]:
    """``reconstructions.npz`` (arrays ``originals`` and ``reconstructions``) and its picture in the run folder."""
    originals, found = reconstruct(run, num_images)
    array = _save_array(run.path / "reconstructions.npz", originals=originals, reconstructions=found)
    figure = reconstruction_figure(originals[:_PICTURED], found[:_PICTURED])
    return array, save_figure(figure, run.path / "figures" / "reconstructions.png")


def samples_figure(images: np.ndarray, run: Run, sampler: str | None = None) -> Figure:
    """A grid of generated images (N, ...) that says which sampler drew them."""
    from qvae.reporting.figures import image_grid

    name = sampler or (run.config.generation.sampler or run.config.sampler).name
    return image_grid(images, title=f"decoded from the prior, sampler: {name}")


def reconstruction_figure(originals: np.ndarray, reconstructions: np.ndarray) -> Figure:
    """Test images (N, ...) above their reconstructions."""
    from qvae.reporting.figures import reconstruction_pairs

    return reconstruction_pairs(originals, reconstructions, title="test images, and under each its reconstruction")


def save_figure(figure: Figure, file: Path) -> Path:
    """Write a PNG, whole or not at all, and make its folder if need be."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=150)
    file.parent.mkdir(exist_ok=True)
    atomic_write_bytes(file, buffer.getvalue())
    return file


def _save_array(file: Path, **arrays: np.ndarray) -> Path:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write_bytes(file, buffer.getvalue())
    return file


