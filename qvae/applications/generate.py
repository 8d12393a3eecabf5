"""New data: samples of the prior, decoded, and steered towards a class if one is asked for."""

from __future__ import annotations

import math
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from qvae.applications.outcome import Outcome
from qvae.applications.task import SEEDS, require_seed
from qvae.errors import ConfigError, DataError, nearest

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from qvae.runs.run import Run

_FIELD_ROWS = 10_000  # training rows that say where a class lies


def generate(
    run: Run,
    num: Annotated[int, "How many images."] = 64,
    sampler: Annotated[str | None, "Another sampler than the run's own."] = None,
    executor: Annotated[str | None, "Another executor of a circuit than the run's own."] = None,
    label: Annotated[int | None, "One class: told to a generator or label units, or steered to by fields on spins."] = None,
    strength: Annotated[float, "Of those fields; 1 is right for uncoupled spins."] = 0.5,
    check: Annotated[str | None, "Of strings: a regular expression that valid ones match; the run's if left out."] = None,
    seed: Annotated[int | None, "The same seed gives the same images; a fresh one is drawn and said."] = None,
    out: Annotated[Path | None, "An .npz, of strings a .txt, or a folder; generated.npz (-2, -3 ...) in the run's."] = None,
) -> Outcome:
    """Sample the prior and decode: an .npz of images and a picture, or a text file of strings, or WAV files of sound.

    The array ``images``, (num, *shape), holds the mean of p(x|z): of bits, the probabilities of pixels. Strings are draws of
    p(x|z), one a line.

    Raises:
        ConfigError: a number is out of range, or the check is none, or the data are no strings.
        DataError: there is no class of this label.
        RunError: ``out`` is there already.
        SamplerError: the sampler can't be had or fails, or the model has no use for one, or no prior.
        ExecutorError: the executor can't be had or fails, or the model has no circuit.
    """
    from qvae.applications.files import new_files, write_arrays
    from qvae.models.vqgan import VQGAN
    from qvae.reporting.figures import save_figure
    from qvae.reporting.run_rows import is_of_images, is_of_strings, reachable_data, samples_figure

    of_strings = is_of_strings(run)
    if num < 1:
        raise ConfigError(f"num is {num}; it must be 1 or more.")
    if strength < 0:
        raise ConfigError(f"strength is {strength:g}; it must be 0 or more.")
    if seed is not None:
        require_seed(seed)
    if check is not None:
        _require_check(check, of_strings)
    said = []
    if seed is None:
        seed = secrets.randbelow(SEEDS)
        said.append(f"the seed is {seed}; for the same {'strings' if of_strings else 'images'} again: --seed {seed}")
    ending, rate = ".txt" if of_strings else ".npz", _rate(run)
    with new_files(run, "generated", out, ending, with_folder=rate is not None) as (arrays, picture):
        is_told = isinstance(run.model, VQGAN) or bool(run.model.classes)
        bias = None if label is None or is_told else strength * class_fields(run, label)
        images = generated(run, num, sampler, bias, seed, executor, label if is_told else None)
        if of_strings:
            return _strings(run, images, arrays, check or run.config.evaluation.check, said)
        files = [write_arrays(arrays, images=images)]
        if label is not None:
            said.append(_classified(run, images, label))
        by = ", ".join(f"{kind} {name}" for kind, name in (("executor", executor), ("sampler", sampler)) if name)
        files.append(save_figure(samples_figure(run, images, by or None), picture))
        if rate is not None:
            files.append(_clips(images, arrays, rate, said))
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
    """Means of p(x|z) for samples z of the prior, of strings draws of it, (num, *shape).

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

    from qvae.evaluation.strings import drawn_rows
    from qvae.memory import require_memory
    from qvae.runs.on_executor import running_on
    from qvae.sampling.closing import close

    require_memory(4 * num * math.prod(run.model.shape), f"num={num}", "ask for fewer", ConfigError)
    generator = torch.Generator(run.device).manual_seed(run.config.evaluation.seed if seed is None else seed)
    needs_sampler = run.config.model.has_boltzmann_prior or sampler is not None
    chosen = run.sampler(sampler, seed) if needs_sampler else None
    try:
        with running_on(run, executor, seed) as model:
            if model.likelihood.kind == "strings":
                codes = model.require_prior().draw(num, chosen, generator, bias)
                return drawn_rows(model, codes, generator).cpu().numpy()
            told: dict[str, Any] = {} if label is None else {"label": label}
            return model.generate(num, chosen, generator, bias, **told).cpu().numpy()
    finally:
        if chosen is not None:
            close(chosen)


def _require_check(check: str, of_strings: bool) -> None:
    from pydantic import ValidationError

    from qvae.config.schema import EvaluationConfig

    if not of_strings:
        raise ConfigError("check is of strings, but the run's data are none; leave it out.")
    try:
        EvaluationConfig(check=check)
    except ValidationError as error:
        raise ConfigError(f"check is {check!r}; {error.errors()[0]['ctx']['error']}.") from None


def _strings(run: Run, rows: np.ndarray, file: Path, check: str | None, said: list[str]) -> Outcome:
    """Strings (N, L) in a text file, with a word on how many are valid, and how many new."""
    from qvae.evaluation.strings import matching
    from qvae.files import atomic_write_text
    from qvae.reporting.run_rows import reachable_data, texts

    found = texts(run, rows)
    atomic_write_text(file, "".join(f"{string}\n" for string in found))
    is_valid, data = matching(check), reachable_data(run)
    if is_valid is not None:
        said.append(f"{sum(map(is_valid, found))} of {len(found)} match {check!r}")
    if data is not None and data.alphabet is not None:
        known = set(data.alphabet.decode(data.train.tolist()))
        said.append(f"{sum(string not in known for string in found)} of {len(found)} are none of the training strings")
    return Outcome([file], said)


def _rate(run: Run) -> int | None:
    """Of sound, samples a second; None of other data, or where they aren't within reach."""
    from qvae.reporting.run_rows import reachable_data

    data = reachable_data(run)
    return None if data is None else data.rate


def _clips(spectrograms: np.ndarray, file: Path, rate: int, said: list[str]) -> Path:
    """A folder of WAV files beside ``file`` for spectrograms (N, F, T) of sound of ``rate`` samples a second."""
    import torch

    from qvae.data.sound import write_clips

    write_clips(file.with_suffix(""), torch.from_numpy(spectrograms), rate)
    said.append("spectrograms hold no phases; those of the WAV files were found anew (Griffin and Lim)")
    return file.with_suffix("")


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
