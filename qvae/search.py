"""Searches: each combination of settings is proposed by a sampler of Optuna, from what those before it came to."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from qvae.config.grid import Trial, Values, trials_of
from qvae.config.load import dump_value, parse_backend
from qvae.config.ranges import Range
from qvae.errors import ConfigError, in_a_line, install_line, nearest
from qvae.evaluation.distances import SAMPLES
from qvae.reporting.sweep import SweptRun
from qvae.reporting.tables import mean_and_spread

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

Settings = dict[str, Any]

# Those whose proposals depend on finished trials alone, so that a search goes on from what its folder holds.
_SAMPLERS = {"tpe": "TPESampler", "gp": "GPSampler", "random": "RandomSampler"}
_DIGITS = 4  # of proposed numbers, which people read, and which are parts of folders' names
_ATTEMPTS = 20  # at a combination that is new: the same one again would come to the same


@dataclass(frozen=True)
class Aim:
    """A figure of merit, by which one combination is better than another.

    Attributes:
        start: how its name in tables begins.
        end: how that ends.
        direction: which values are better, in Optuna's word.
    """

    start: str
    end: str = ""
    direction: Literal["maximize", "minimize"] = "maximize"

    def of(self, figures: Mapping[str, float]) -> float | None:
        """Its value among those of a run, if it is there."""
        return next((value for name, value in figures.items() if name.startswith(self.start) and name.endswith(self.end)), None)


AIMS = {
    "log_likelihood": Aim("log-likelihood"),
    "elbo": Aim("ELBO"),
    "q_elbo": Aim("Q-ELBO"),
    "reconstruction": Aim("reconstruction"),
    "frechet": Aim("Frechet distance", SAMPLES, "minimize"),
    "fid": Aim("FID", SAMPLES, "minimize"),
}


@dataclass(frozen=True)
class Search:
    """What Optuna is asked for.

    Attributes:
        sampler: tpe (tree-structured Parzen estimators), gp (a Gaussian process) or random.
        trials: combinations that it proposes.
        aim: what is optimised, one of :data:`AIMS`; of several seeds, the mean.

    Raises:
        ConfigError: there is no such sampler or aim, or ``trials`` isn't 1 or more.
    """

    sampler: str = "tpe"
    trials: int = 20
    aim: str = "log_likelihood"

    def __post_init__(self) -> None:
        for what, name, allowed in (("sampler", self.sampler, _SAMPLERS), ("aim", self.aim, AIMS)):
            if name not in allowed:
                raise ConfigError(f"--search knows no {what} {name!r}: {nearest(str(name), allowed)}.")
        if type(self.trials) is not int or self.trials < 1:
            raise ConfigError(f"--search: trials is {self.trials!r}; it must be a whole number of 1 or more.")


def parse_search(text: str) -> Search:
    """A search from ``SAMPLER[:OPTION=VALUE,...]``.

    Raises:
        ConfigError: as :class:`Search`, or an option is unknown or not of that form.

    >>> parse_search("tpe:trials=40,aim=frechet")
    Search(sampler='tpe', trials=40, aim='frechet')
    """
    spec = parse_backend(text)
    for name in spec.options:
        if name not in ("trials", "aim"):
            raise ConfigError(f"--search knows no option {name!r}: {nearest(name, ('trials', 'aim'))}.")
    return Search(spec.name, **spec.options)


class Proposals:
    """The trials of a search: those that its folder tells of, and more, as they are proposed.

    Nothing is kept of Optuna: each proposal is made by a fresh study, which is told of all combinations so far, and a fresh
    sampler, whose seed counts them. So a search that was interrupted goes on as it would have gone, if its runs are made one
    after the other. What is at work counts as Optuna counts trials that run elsewhere: as none to be repeated.

    Args:
        search: how it is made.
        space: where: values or a range by key, one key or more.
        seeds: of the runs of each combination.

    Raises:
        ConfigError: there is nowhere to look, or Optuna can't be imported.

    Attributes:
        trials: so far, combination by combination.
    """

    def __init__(self, search: Search, space: Mapping[str, Values], seeds: Sequence[int]) -> None:
        if not space:
            example = "--grid training.learning_rate=log:1e-4..1e-2"
            raise ConfigError(f"--search has nowhere to look; name a key with values or a range, as in {example}.")
        _require_optuna()
        self._search, self._seeds, self._is_over = search, seeds, False
        # Values as JSON has them, in which they are kept.
        self._space = {key: part if isinstance(part, Range) else json.loads(json.dumps(part)) for key, part in space.items()}
        self._points: list[Settings] = []
        self.trials: list[Trial] = []

    @property
    def size(self) -> int:
        """How many trials there will be, where there are so many combinations."""
        return len(self.trials) if self._is_over else max(self._search.trials, len(self._points)) * len(self._seeds)

    @property
    def record(self) -> Settings:
        """What a search that goes on with this one must have in common with it."""
        space = {key: str(part) if isinstance(part, Range) else part for key, part in self._space.items()}
        return {"sampler": self._search.sampler, "aim": self._search.aim, "space": space}

    @property
    def corners(self) -> list[Settings]:
        """The lower and the higher ends of all ranges, each with the first of other keys' values."""
        return [
            {key: getattr(part, end) if isinstance(part, Range) else part[0] for key, part in self._space.items()}
            for end in ("low", "high")
        ]

    def recall(self, points: Sequence[Settings]) -> None:
        """Take combinations that were proposed before, each of which may be there several times.

        Raises:
            ValueError: one isn't of this search.
        """
        for point in points:
            if point.keys() != self._space.keys() or not all(_holds(self._space[key], point[key]) for key in point):
                raise ValueError(f"{point} isn't in {self.record['space']}")
            if point not in self._points:
                self._take({key: point[key] for key in self._space})

    def more(self, runs: Sequence[SweptRun]) -> list[Trial]:
        """The trials of one more combination, by what is known of those before it; none at the search's end.

        Args:
            runs: of all trials so far, as they stand.

        Raises:
            ConfigError: a run has no figure that could be optimised.
        """
        self._require_aim(runs)
        if self._is_over or len(self._points) >= self._search.trials:
            return []
        tried = [self._told(point, group) for point, group in zip(self._points, self._groups(runs), strict=True)]
        for attempt in range(_ATTEMPTS):
            point = self._proposed(tried, random.Random(f"{len(tried)} {attempt}").getrandbits(32))
            if point not in self._points:
                return self._take(point)
        self._is_over = True
        return []

    def in_words(self, runs: Sequence[SweptRun]) -> str:
        """The best combination, or that there is none."""
        known = [(self._values(group), point) for point, group in zip(self._points, self._groups(runs), strict=True)]
        known = [(values, point) for values, point in known if math.isfinite(_mean(values))]
        if not known:
            return "no combination came to its end"
        best_of = max if AIMS[self._search.aim].direction == "maximize" else min
        best, point = best_of(known, key=lambda pair: _mean(pair[0]))
        settings = ", ".join(f"{key}={dump_value(value)}" for key, value in point.items())
        return (
            f"the best of {len(known)} by {self._search.aim}, {mean_and_spread(best)}: {settings}; "
            "test rows chose it, so other data would find it a little worse"
        )

    def _take(self, point: Settings) -> list[Trial]:
        trials = trials_of(point, self._seeds, {trial.name for trial in self.trials})
        self._points.append(point)
        self.trials += trials
        return trials

    def _groups(self, runs: Sequence[SweptRun]) -> list[Sequence[SweptRun]]:
        """The runs of each combination."""
        return [runs[start : start + len(self._seeds)] for start in range(0, len(runs), len(self._seeds))]

    def _values(self, runs: Sequence[SweptRun]) -> list[float]:
        """What is optimised, of each run of a combination; empty unless all have it."""
        values = [value for run in runs if (value := AIMS[self._search.aim].of(run.figures)) is not None]
        return values if len(values) == len(runs) else []

    def _require_aim(self, runs: Sequence[SweptRun]) -> None:
        found = [run.figures for run in runs if run.status == "finished"]
        if found and not any(AIMS[self._search.aim].of(figures) is not None for figures in found):
            there = [name for name, aim in AIMS.items() if any(aim.of(figures) is not None for figures in found)]
            aims = ", ".join(there) or "nothing that is evaluated here"
            raise ConfigError(f"the runs have no {self._search.aim} to optimise; as aim take {aims}.")

    # Optuna -----------------------------------------------------------------------------------------------------------

    def _told(self, point: Settings, runs: Sequence[SweptRun]) -> FrozenTrial:
        """What Optuna is told of a combination: failed as soon as one of its runs has, or where it has no finite value."""
        from optuna.trial import TrialState, create_trial

        distributions = {key: _distribution(part) for key, part in self._space.items()}
        params = {key: value if isinstance(self._space[key], Range) else json.dumps(value) for key, value in point.items()}
        mean, states = _mean(self._values(runs)), {run.status for run in runs}
        if math.isfinite(mean):
            return create_trial(params=params, distributions=distributions, value=mean)
        state = TrialState.RUNNING if "waiting" in states and "failed" not in states else TrialState.FAIL
        return create_trial(state=state, params=params, distributions=distributions)

    def _proposed(self, tried: Sequence[FrozenTrial], seed: int) -> Settings:
        """A combination by what is known."""
        import optuna

        verbosity = optuna.logging.get_verbosity()
        optuna.logging.set_verbosity(optuna.logging.ERROR)  # its lines on each study would be among ours
        try:
            sampler = getattr(optuna.samplers, _SAMPLERS[self._search.sampler])(seed=seed)
            study = optuna.create_study(sampler=sampler, direction=AIMS[self._search.aim].direction)
            study.add_trials(tried)
            found = study.ask({key: _distribution(part) for key, part in self._space.items()}).params
        finally:
            optuna.logging.set_verbosity(verbosity)
        return {key: _value(self._space[key], value) for key, value in found.items()}


def _require_optuna() -> None:
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        missing = f"a search needs the module optuna, which can't be imported ({in_a_line(error)})"
        raise ConfigError(f"{missing}: {install_line('optuna')}.") from error


def _distribution(part: Values) -> BaseDistribution:
    """Values or a range, as Optuna has them; values are categories, by their JSON."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(part, Range):
        return CategoricalDistribution(list(dict.fromkeys(map(json.dumps, part))))
    if part.is_whole:
        return IntDistribution(int(part.low), int(part.high), log=part.is_log)
    return FloatDistribution(part.low, part.high, log=part.is_log)


def _value(part: Values, found: Any) -> Any:
    """What Optuna found, as a setting: numbers with few digits."""
    if not isinstance(part, Range):
        return json.loads(found)
    return found if part.is_whole else min(max(float(f"{found:.{_DIGITS}g}"), float(part.low)), float(part.high))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _holds(part: Values, value: Any) -> bool:
    return part.holds(value) if isinstance(part, Range) else value in part
