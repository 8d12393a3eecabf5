"""What generated strings are worth: valid, new and different ones, beside test strings and those of an n-gram model."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset
from qvae.errors import ConfigError, SamplerError
from qvae.evaluation.distances import DrawPrior
from qvae.evaluation.ngram import best_ngram
from qvae.evaluation.rows import AT_ONCE, code_means, device_of, prepared, training_rows
from qvae.models.autoencoder import Autoencoder
from qvae.progress import Progress

Check = Callable[[str], bool]
"""Whether a string is valid."""
SAMPLES = "draws of p(x|z), z of the prior"
_PAIRS = 1000  # of which the mean distance is taken
_MOST_COUNTED = 100_000  # training strings that an n-gram model counts in


@dataclass
class StringSet:
    """A set of strings in figures.

    Attributes:
        number: of strings.
        valid: part that passes the check; None without one.
        different: part that is left when each is counted once.
        new: part of the different ones that isn't among the training strings.
        diversity: mean edit distance of random pairs, in units of the longer string's length.
        length: mean number of characters.
    """

    number: int
    valid: float | None
    different: float
    new: float
    diversity: float
    length: float

    @classmethod
    def of(cls, strings: Sequence[str], training: set[str], check: Check | None = None, seed: int = 0) -> StringSet:
        """Of one string or more."""
        distinct = set(strings)
        pairs = np.random.default_rng(seed).integers(0, len(strings), (2, _PAIRS))
        left, right = ([strings[place] for place in side] for side in pairs)
        longer = [max(1, len(a), len(b)) for a, b in zip(left, right, strict=True)]
        return cls(
            number=len(strings),
            valid=None if check is None else sum(map(check, strings)) / len(strings),
            different=len(distinct) / len(strings),
            new=len(distinct - training) / len(distinct),
            diversity=float((edit_distances(left, right) / longer).mean()),
            length=float(np.mean(list(map(len, strings)))),
        )


@dataclass
class StringFigures:
    """What ``evaluation.json`` holds of strings under ``strings``.

    Attributes:
        symbols: of a test string in the mean, its end included.
        ngram: mean log-likelihood of a test string under the n-gram model, in nats.
        ngram_stderr: of the mean.
        ngram_order: of the model: characters it looks at, and the one it says.
        reconstructed: part of the test strings that come back as they were.
        edits: mean edit distance between a test string and its reconstruction.
        check: the regular expression of valid strings; None without one.
        sets: figures of sets of strings, by their names.
        samples_reason: why none of them are samples of the model.
    """

    symbols: float
    ngram: float
    ngram_stderr: float | None
    ngram_order: int
    reconstructed: float
    edits: float
    check: str | None
    sets: dict[str, StringSet] = field(default_factory=dict)
    samples_reason: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def require_strings(settings: EvaluationConfig, dataset: Dataset) -> None:
    """Raise a ConfigError if a check of strings is asked for, but the data are none."""
    if settings.check is not None and dataset.kind != "strings":
        raise ConfigError(f"evaluation.check is of strings, but {dataset.name} holds {dataset.kind}; leave it out.")


def matching(pattern: str | None) -> Check | None:
    """Whether a string matches a regular expression as a whole; None of none."""
    return None if pattern is None else lambda string: re.fullmatch(pattern, string) is not None


@torch.no_grad()
def string_figures(
    model: Autoencoder, dataset: Dataset, rows: Tensor, settings: EvaluationConfig, draw: DrawPrior, progress: Progress
) -> StringFigures:
    """Figures of a model of strings.

    Args:
        model: in evaluation mode.
        dataset: that it was trained on.
        rows: test strings that are used, (N, L), on the model's device.
        settings: how many are generated, the seed, and the check.
        draw: gives samples of the prior.
        progress: told what is going on.
    """
    alphabet = dataset.alphabet
    assert alphabet is not None
    check, seed = matching(settings.check), settings.seed
    test, training = alphabet.decode(rows.tolist()), alphabet.decode(dataset.train.tolist())
    with progress.work("counting n-grams"):
        counted = [training[place] for place in training_rows(dataset, _MOST_COUNTED, seed).tolist()]
        ngram = best_ngram(counted, alphabet, rows.shape[1])
        log_p = np.array(list(map(ngram.log_prob, test)))
    generator = torch.Generator(rows.device).manual_seed(seed)
    back = [string for batch in rows.split(AT_ONCE) for string in alphabet.decode(model.reconstruct(batch, generator).tolist())]
    figures = StringFigures(
        symbols=float(np.mean(list(map(len, test)))) + 1,
        ngram=float(log_p.mean()),
        ngram_stderr=float(log_p.std(ddof=1)) / math.sqrt(len(log_p)) if len(log_p) > 1 else None,
        ngram_order=ngram.order,
        reconstructed=float(np.mean([a == b for a, b in zip(test, back, strict=True)])),
        edits=float(edit_distances(test, back).mean()),
        check=settings.check,
    )
    if not settings.num_generated:
        return figures
    sets = {"test strings": test}
    try:
        with progress.work("strings of the prior"):
            for name, codes in _codes(model, dataset, settings, draw, progress):
                sets[name] = alphabet.decode(drawn_rows(model, codes, generator).tolist())
                if name == SAMPLES:
                    sets["the most probable given the same z"] = alphabet.decode(model.decode_codes(codes, generator).tolist())
    except SamplerError as error:
        figures.samples_reason = str(error)
    sets[f"n-gram model, order {ngram.order}"] = ngram.sample(settings.num_generated, seed)
    known = set(training)
    figures.sets = {name: StringSet.of(strings, known, check, seed) for name, strings in sets.items()}
    return figures


def _codes(
    model: Autoencoder, dataset: Dataset, settings: EvaluationConfig, draw: DrawPrior, progress: Progress
) -> Iterator[tuple[str, Tensor]]:
    """Samples of the prior, if there is one, and of the best factorized one in its place, if latents are bits."""
    count, seed, device = settings.num_generated, settings.seed, device_of(model)
    if model.prior is not None:
        samples = draw(count)
        if samples.warning is not None:
            progress.warn(f"of the samples: {samples.warning}")
        yield SAMPLES, samples.codes
    if model.latents_are_bits:
        rows = prepared(dataset, training_rows(dataset, count, seed), seed)
        means = torch.from_numpy(code_means(model, rows, seed).mean(0)).to(device)
        generator = torch.Generator(device).manual_seed(seed)
        yield "independent bits, same decoder", torch.bernoulli(means.expand(count, -1), generator=generator)


def drawn_rows(model: Autoencoder, codes: Tensor, generator: torch.Generator) -> Tensor:
    """Draws of p(x|z) at codes (N, n), (N, *shape), a few at a time."""
    return torch.cat([model.draw(batch, generator) for batch in codes.split(AT_ONCE)])


def edit_distances(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """Levenshtein distances of pairs: least numbers of characters to put in, take out or change, int64, (N,).

    >>> edit_distances(["kitten", "", "ab"], ["sitting", "abc", "ab"]).tolist()
    [3, 3, 0]
    """
    a, b = _padded(left), _padded(right)
    lengths, columns = np.array(list(map(len, left))), np.array(list(map(len, right)))
    place = np.arange(b.shape[1] + 1)
    row = np.tile(place, (len(a), 1))  # distances of the first i characters of a from the first j of b
    found = np.zeros(len(a), np.int64)
    for i in range(a.shape[1] + 1):
        if i:
            changed = row[:, :-1] + (a[:, i - 1 : i] != b)
            row = np.concatenate([row[:, :1] + 1, np.minimum(changed, row[:, 1:] + 1)], 1)
            row = np.minimum.accumulate(row - place, 1) + place  # characters put in, any number in a row
        found = np.where(lengths == i, row[np.arange(len(row)), columns], found)
    return found


def _padded(strings: Sequence[str]) -> np.ndarray:
    """Code points, (N, longest), -1 behind the end."""
    found = np.full((len(strings), max(map(len, strings), default=0)), -1)
    for row, string in zip(found, strings, strict=True):
        row[: len(string)] = list(map(ord, string))
    return found
