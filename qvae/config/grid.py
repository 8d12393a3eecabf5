"""Grids of configurations: every combination of some keys' values, or some of them, each with several seeds."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qvae.config.load import dump_value, parse_assignments
from qvae.config.ranges import Range, parse_range
from qvae.errors import ConfigError

Values = Sequence[Any] | Range
"""What a key may be: one of some values, or a number in a range, in which a search looks."""

_LONGEST = 120  # characters of a name, which is that of a folder
_MOST = 100_000  # runs


@dataclass(frozen=True)
class Trial:
    """One run of a grid.

    Attributes:
        name: of its folder: it tells the settings, and doesn't change where the grid grows.
        settings: values by key.
        seed: of the training.
    """

    name: str
    settings: Mapping[str, Any]
    seed: int

    @property
    def overrides(self) -> list[str]:
        """For :func:`~qvae.config.load.load_config`."""
        return [*(f"{key}={json.dumps(value)}" for key, value in self.settings.items()), f"training.seed={self.seed}"]


def parse_grid(texts: Iterable[str]) -> dict[str, Values]:
    """Values by key, from ``KEY=[VALUE, ...]`` each, in YAML, or a range, ``KEY=LOW..HIGH`` or ``KEY=log:LOW..HIGH``.

    Raises:
        ConfigError: a text isn't of these forms, or names a key again.

    >>> parse_grid(["sampler.name=[gibbs, dimod]", "model.latent.sizes=[[4, 4], [8, 8]]"])
    {'sampler.name': ['gibbs', 'dimod'], 'model.latent.sizes': [[4, 4], [8, 8]]}
    """
    grid: dict[str, Values] = {}
    for text in texts:
        key, equals, values = text.partition("=")
        found = parse_range(values)
        if found is None and equals and key.strip():
            found = parse_assignments([f"values={values}"])["values"]
        if not isinstance(found, list | Range) or not found or not key.strip():
            example = "as in --grid 'sampler.name=[gibbs, dimod]'"
            raise ConfigError(f"--grid {text} isn't of the form KEY=[VALUE, ...] or KEY=LOW..HIGH, {example}.")
        if key.strip() in grid:
            raise ConfigError(f"--grid names {key.strip()} twice; put all of its values into one list.")
        grid[key.strip()] = found
    return grid


def trials(grid: Mapping[str, Values], seeds: Sequence[int], number: int | None = None) -> list[Trial]:
    """All combinations with each seed, seed by seed, so that what is cut short compares all of them.

    Args:
        grid: values by key.
        seeds: of trainings.
        number: of combinations, drawn from all of them without repeating; a larger number draws these, and more.

    Raises:
        ConfigError: there are too many, or the numbers of a range, or one twice.
    """
    size, lists = len(seeds), list[Sequence[Any]]()
    for key, values in grid.items():
        if isinstance(values, Range):
            raise ConfigError(f"--grid {key}={values} is a range, where only a search looks; add --search tpe, or give a list.")
        if len(set(map(json.dumps, values))) < len(values):
            raise ConfigError(f"--grid {key} names a value twice, and runs would share a folder; leave one out.")
        lists.append(values)
        size *= len(values)
    if size > _MOST:
        raise ConfigError(f"the grid has {size:,} runs, more than {_MOST:,}; leave some values out.")
    points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*lists)]
    if number is not None:
        random.Random(0).shuffle(points)
        points = points[:number]
    names = _names(points)
    return [_trial(name, point, seed) for seed in seeds for name, point in zip(names, points, strict=True)]


def trials_of(settings: Mapping[str, Any], seeds: Iterable[int], taken: Container[str] = ()) -> list[Trial]:
    """One combination with each seed, in folders of which none is ``taken``."""
    (name,) = _names([settings])
    found = [_trial(name, settings, seed) for seed in seeds]
    if any(trial.name in taken for trial in found):
        found = [_trial(f"{name}_{_digest(settings)}", settings, trial.seed) for trial in found]
    return found


def _trial(name: str, settings: Mapping[str, Any], seed: int) -> Trial:
    return Trial(f"{name}{'_' if name else ''}seed-{seed}", settings, seed)


def short_keys(keys: Sequence[str]) -> dict[str, str]:
    """The last words of each key, two of them, or more where they don't tell keys apart.

    >>> short_keys(["sampler.options.sweeps", "training.seed"])
    {'sampler.options.sweeps': 'options.sweeps', 'training.seed': 'training.seed'}
    """
    ends = {key: ".".join(key.split(".")[-2:]) for key in keys}
    counts = Counter(ends.values())
    return {key: end if counts[end] == 1 else key for key, end in ends.items()}


def _names(points: Sequence[Mapping[str, Any]]) -> list[str]:
    short = short_keys(list(points[0])) if points else {}
    names = ["_".join(f"{short[key]}-{_plain(value)}" for key, value in point.items()) for point in points]
    counts = Counter(names)
    return [
        name if counts[name] == 1 and len(name) <= _LONGEST else f"{name[:_LONGEST]}_{_digest(point)}"
        for name, point in zip(names, points, strict=True)
    ]


def _plain(value: Any) -> str:
    """A value as part of a file's name."""
    return re.sub(r"[^\w.+-]+", "-", dump_value(value)).strip("-") or "empty"


def _digest(point: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(point, sort_keys=True).encode()).hexdigest()[:8]
