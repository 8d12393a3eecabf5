"""New data: samples of the prior, decoded, and steered towards a class if one is asked for."""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qvae.applications.outcome import Outcome
from qvae.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from qvae.runs.run import Run

_SEEDS = 2**32  # that every library takes
_FIELD_ROWS = 10_000  # training rows that say where a class lies


def generate(
    run: Run,
    num: Annotated[int, "How many images."] = 64,
    sampler: Annotated[str | None, "Another sampler than the run's own."] = None,
    executor: Annotated[str | None, "Another executor of a circuit than the run's own."] = None,
    label: Annotated[int | None, "One class: told to a generator or label units, or steered to by fields on spins."] = None,
    strength: Annotated[float, "Of those fields; 1 is right for uncoupled spins."] = 0.5,
    seed: Annotated[int | None, "The same seed gives the same images; a fresh one is drawn and said."] = None,
    out: Annotated[Path | None, "An .npz or a folder; generated.npz (-2, -3 ...) in the run's."] = None,
) -> Outcome:
    """Sample the prior and decode: an .npz of images and a picture.

    The array ``images``, (num, *shape), holds the mean of p(x|z): of bits, the probabilities of pixels.

    Raises:
        ConfigError: a number is out of range.
        DataError: there is no class of this label.
        RunError: ``out`` is there already.
        SamplerError: the sampler can't be had or fails, or the model has no use for one, or no prior.
        ExecutorError: the executor can't be had or fails, or the model has no circuit.
    """
    from qvae.applications.files import new_files, write_arrays
    from qvae.models.vqgan import VQGAN
    from qvae.reporting.figures import save_figure
    from qvae.reporting.run_rows import is_of_images, reachable_data, samples_figure

    if num < 1:
        raise ConfigError(f"num is {num}; it must be 1 or more.")
    if strength < 0:
        raise ConfigError(f"strength is {strength:g}; it must be 0 or more.")
    if seed is not None and not 0 <= seed < _SEEDS:
        raise ConfigError(f"seed is {seed}; it must be 0 to {_SEEDS - 1}.")
    said = []
    if seed is None:
        seed = secrets.randbelow(_SEEDS)
        said.append(f"the seed is {seed}; for the same images again: --seed {seed}")
    with new_files(run, "generated", out) as (arrays, picture):
        is_told = isinstance(run.model, VQGAN) or bool(run.model.classes)
        bias = None if label is None or is_told else strength * class_fields(run, label)
        images = generated(run, num, sampler, bias, seed, executor, label if is_told else None)
        files = [write_arrays(arrays, images=images)]
        if label is not None:
            said.append(_classified(run, images, label))
        by = ", ".join(f"{kind} {name}" for kind, name in (("executor", executor), ("sampler", sampler)) if name)
        files.append(save_figure(samples_figure(run, images, by or None), picture))
        if not is_of_images(run) and reachable_data(run) is None:
            said.append("the run's data aren't within reach, so the picture shows no test rows beside what was generated")
    return Outcome(files, said)


def generated(
    run: Run,
    num: int,
    sampler: str | None = None,
    bias: Tensor | None = None,
    seed: int | None = None,
    executor: str | None = None,
    label: int | None = None,
) -> np.ndarray:
    """Means of p(x|z) for samples z of the prior, (num, *shape).

    Args:
        run: with the model.
        num: how many.
        sampler: a registered name; None is the run's own for generation.
        bias: fields (n,) added to the prior's, as those of :func:`class_fields`.
        seed: of the backends and of what is drawn after them; None is the run's own.
        executor: of the circuit, a registered name; None is the run's own.
        label: of the class that a model is told.
    """
    import torch

    from qvae.memory import require_memory
    from qvae.runs.on_executor import running_on
    from qvae.sampling.closing import close

    require_memory(4 * num * math.prod(run.model.shape), f"num={num}", "ask for fewer", ConfigError)
    generator = torch.Generator(run.device).manual_seed(run.config.evaluation.seed if seed is None else seed)
    needs_sampler = run.config.model.has_boltzmann_prior or sampler is not None
    chosen = run.sampler(sampler, seed) if needs_sampler else None
    try:
        with running_on(run, executor, seed) as model:
            told: dict[str, Any] = {} if label is None else {"label": label}
            return model.generate(num, chosen, generator, bias, **told).cpu().numpy()
    finally:
        if chosen is not None:
            close(chosen)


def class_fields(run: Run, label: int) -> Tensor:
    """Fields (n,) that pull the latent spins towards the codes of one class.

    For independent spins, the fields that move each mean from that of all training rows to that of the class:
    h_i = atanh(m_i) - atanh(m_i of the class). Couplings pull, too, so that a part of these fields may be enough.

    Raises:
        CapabilityError: the model has no Boltzmann prior, hence no fields.
        DataError: the training rows have no labels, or none of this class.
    """
    import torch

    from qvae.evaluation.rows import code_means, prepared, training_rows
    from qvae.models.prior import boltzmann_prior

    boltzmann_prior(run.model)
    labels = run.dataset.train_labels
    if labels is None:
        raise DataError(f"{run.dataset.name} has no labels of its training rows, so none can be asked for; leave --label out.")
    classes = labels.unique().tolist()
    if label not in classes:
        raise DataError(f"there is no class {label} in {run.dataset.name}: {nearest(str(label), map(str, classes))}.")
    seed = run.config.evaluation.seed
    places = training_rows(run.dataset, _FIELD_ROWS, seed)
    means = torch.from_numpy(code_means(run.model, prepared(run.dataset, places, seed), seed))
    chosen = means[labels[places] == label]
    # A mean of exactly 0 or 1 would pull without end; half a vote for either side is the usual remedy.
    everywhere, there = ((part.sum(0) + 0.5) / (len(part) + 1) for part in (means, chosen))
    return ((everywhere.logit() - there.logit()) / 2).to(run.device)


def _classified(run: Run, images: np.ndarray, label: int) -> str:
    try:
        return f"the classifier takes {class_share(run, images, label):.0%} of the images for a {label}"
    except DataError as error:
        return f"no classifier tells how many of them are a {label}: {error}"


def class_share(run: Run, images: np.ndarray, label: int) -> float:
    """The part of images (N, *shape) that the classifier of the Frechet distances takes for a class.

    Raises:
        DataError: the data have no such classifier, as those that are no images.
    """
    import torch

    from qvae.evaluation.classifier_files import feature_classifier

    classifier = feature_classifier(run.dataset, run.device)
    found = classifier.predict(torch.from_numpy(images).to(run.device))
    return float((found == label).float().mean())
