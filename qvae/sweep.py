"""Many runs, of a grid or a search and several seeds, made on workers: what is finished stays, what fails is a row."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qvae
from qvae.config.grid import Trial, Values, trials
from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.errors import ConfigError, QvaeError, RunError, WorkersError, in_a_line
from qvae.files import atomic_write_text, from_here
from qvae.progress import Progress, Sturdy, clock
from qvae.reporting.compare import merits
from qvae.reporting.sweep import SweptRun
from qvae.reporting.tables import with_error
from qvae.runs.folder import EVALUATION, read_metrics
from qvae.runs.output import has_keys, output_folder
from qvae.runs.records import Evaluated, Record, read_record
from qvae.search import Proposals, Search
from qvae.study import is_finished, make
from qvae.training.interrupts import ends_interrupt
from qvae.workers import Lost, Processes, Workers, processors

RESULTS = "sweep.json"
_STOP = "stop"
"""A file that tells runs of a cluster, which no signal reaches, to end with their epoch; their last checkpoints stand."""
_SCHEMA = 1
_LOOK_SECONDS = 1.0
_TRIES = 2  # of a run whose worker dies


def sweep(
    config: str | Path | Mapping[str, Any] | None,
    grid: Mapping[str, Values],
    out: str | Path,
    *,
    seeds: int = 1,
    number: int | None = None,
    search: Search | None = None,
    jobs: int | None = None,
    cluster: str | None = None,
    overrides: Iterable[str] = (),
    model: str | None = None,
    trust: Iterable[str] = (),
    progress: Progress | None = None,
) -> list[SweptRun]:
    """Make a run of each combination of settings with each seed, in a folder where a later call goes on.

    Each run is an ordinary run folder in ``out``, which is named by its settings. Those that are finished aren't made again,
    and those that were cut short or failed are continued. ``sweep.json`` in ``out`` says how all of them stand.

    Args:
        config: as in :func:`~qvae.config.load.load_config`, and so are ``overrides``, ``model`` and ``trust``.
        grid: values by key, or ranges for a search; empty for seeds alone.
        out: the folder; on a cluster, one that all workers see under the same name.
        seeds: how many, from that of the configuration on.
        number: of combinations, drawn at random from all of them; None takes all.
        search: has a sampler of Optuna propose combinations instead, one after the other; a later call may ask for more.
        jobs: runs at once; None is one for each processor here, which share them out, or one for each worker of the cluster.
        cluster: address of the scheduler of a dask cluster, in place of processes of this machine.
        progress: told what is going on.

    Raises:
        ConfigError: every combination is refused, or an end of a search's ranges, or what it aims at isn't among the figures of
            a run; Optuna can't be imported; or ``out`` holds runs of another configuration or search.
        RunError: ``out`` can't be written, or is being written by somebody else.
        WorkersError: there are no workers, or they don't see ``out``.
        KeyboardInterrupt: at Ctrl-C, SIGTERM or SIGHUP; runs at work here have saved their state.
    """
    if seeds < 1 or (number is not None and number < 1) or (jobs is not None and jobs < 1):
        raise ConfigError("seeds, random and jobs are numbers of 1 or more.")
    if "training.seed" in grid:
        raise ConfigError("--grid names training.seed, from which --seeds counts; take --seeds NUMBER.")
    if search is not None and number is not None:
        raise ConfigError("random combinations and a search exclude each other; drop one, or search by the sampler random.")
    progress, overrides, trust = Sturdy.around(progress), list(overrides), list(trust)
    first = load_config(config, overrides, model, trust).training.seed
    numbers = range(first, first + seeds)

    def config_of(trial: Trial) -> Config:
        return load_config(config, [*overrides, *trial.overrides], model, trust)

    proposals = None if search is None else Proposals(search, grid, numbers)
    for corner in proposals.corners if proposals else []:
        config_of(Trial("", corner, first))
    chosen = [] if proposals else trials(grid, numbers, number)
    with _held(out) as folder:
        _recall(folder / RESULTS, proposals)
        made = _Sweep(folder, config_of, progress, proposals)
        todo = made.enter(proposals.trials if proposals else chosen)
        if made.has_next(todo):
            made.write()
            with ends_interrupt(), _workers(folder, jobs, made.size, made.num_settled, cluster) as workers:
                made.run(todo, workers)
        if not made.configs:
            raise ConfigError(made.runs[0].reason)
        made.write()
    if proposals:
        progress.say(proposals.in_words(made.runs))
    return made.runs


@contextmanager
def _held(out: str | Path) -> Iterator[Path]:
    """The folder of a sweep, which is held while the block writes there, and told to stop where that is cut short."""
    with output_folder(out, (RESULTS, "report.html", _STOP)) as folder:
        if not (folder / RESULTS).exists() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
            raise RunError(f"{out} is not empty and not of a sweep; choose another --out.")
        if (folder / RESULTS).exists() and not has_keys(folder / RESULTS, "schema", "qvae", "runs"):
            raise RunError(f"{out} holds a {RESULTS} that is not of a sweep; choose another --out.")
        (folder / _STOP).unlink(missing_ok=True)
        yield folder


@contextmanager
def _workers(folder: Path, jobs: int | None, runs: int, settled: int, cluster: str | None) -> Iterator[Workers]:
    """Workers that see the folder; what they are at when the block fails is told to stop.

    The threads of each don't depend on how many of the runs are settled already, since the last bits of a run depend on them.
    """
    if cluster is None:
        at_once = min(jobs or processors(), runs)
        workers: Workers = Processes(min(at_once, runs - settled), max(1, processors() // at_once))
    else:
        from qvae.cluster import Cluster, connect

        workers = Cluster(connect(cluster), jobs)
    try:
        if cluster is not None:
            asked = {workers.submit(place, os.path.isfile, str(folder / RESULTS)): place for place in range(len(workers))}
            blind = [place for place, sees in workers.outcomes(asked).items() if sees is not True]
            if blind:
                who = workers.describe(blind[0])
                raise WorkersError(f"{who} doesn't see {folder}; choose an --out that all of them share.")
        yield workers
    except BaseException:
        if cluster is not None:
            (folder / _STOP).touch()
        raise
    finally:
        workers.close(now=True)


class _RecordedRun(Record):
    """A run in the results."""

    settings: dict[str, Any]


class _Recorded(Record):
    """The results, as far as a search goes on with them."""

    runs: list[_RecordedRun]
    search: dict[str, Any] | None = None


def _recall(results: Path, proposals: Proposals | None) -> None:
    """Have a search go on with what its folder tells, if it tells of one.

    Raises:
        ConfigError: it tells of another one.
        RunError: the file is damaged.
    """
    if not results.exists():
        return
    found = read_record(results, _Recorded)
    if found.get("search") != (proposals.record if proposals else None):
        raise ConfigError(f"{from_here(results.parent)} is of another sweep or search; choose another --out.")
    if proposals:
        try:
            proposals.recall([run["settings"] for run in found["runs"]])
        except ValueError as error:
            raise RunError(f"{results} is damaged: {error}; remove it, or restore it from a copy.") from None


class _Sweep:
    """The runs of a sweep, as they stand and are made.

    Attributes:
        folder: of the sweep.
        runs: those that there are so far; a search adds to them.
        configs: by their names, of those that have one.
    """

    def __init__(
        self, folder: Path, config_of: Callable[[Trial], Config], progress: Progress, proposals: Proposals | None
    ) -> None:
        self.folder, self.progress = folder, progress
        self.runs: list[SweptRun] = []
        self.configs: dict[str, Config] = {}
        self._config_of, self._proposals = config_of, proposals
        self._losses: dict[str, int] = {}

    @property
    def size(self) -> int:
        """How many runs there will be."""
        return self._proposals.size if self._proposals else len(self.runs)

    def enter(self, chosen: Iterable[Trial]) -> deque[SweptRun]:
        """Add runs; given back are those that are to be made, as they are neither refused nor finished."""
        added = [SweptRun(trial) for trial in chosen]
        for run in added:
            name = run.trial.name
            try:
                self.configs[name] = self._config_of(run.trial)
            except ConfigError as error:
                run.status, run.reason = "failed", " ".join(str(error).split())
                continue
            if is_finished(self.configs[name], self.folder / name):
                self._finish(run)
        self.runs += added
        finished = sum(run.status == "finished" for run in added)
        if 0 < finished < self.size:
            self.progress.say(f"{finished} of {self.size} runs are finished already")
        return deque(run for run in added if run.status == "waiting")

    def has_next(self, todo: deque[SweptRun]) -> bool:
        """Whether a run is to be made; where none is left, more are proposed."""
        while not todo and self._proposals and (more := self._proposals.more(self.runs)):
            todo += self.enter(more)
            self.write()
        return bool(todo)

    def write(self) -> None:
        """All runs into the results."""
        found: dict[str, Any] = {"schema": _SCHEMA, "qvae": qvae.__version__}
        if self._proposals:
            found["search"] = self._proposals.record
        found["runs"] = [run.to_dict() for run in self.runs]
        atomic_write_text(self.folder / RESULTS, json.dumps(found, indent=1) + "\n")

    def run(self, todo: deque[SweptRun], workers: Workers) -> None:
        """Have the runs made, one at each place at a time."""
        free = list(range(len(workers)))
        at_work: dict[int, SweptRun] = {}
        pending: dict[Future[Any], int] = {}
        with self.progress.work("sweep") as report:
            while pending or self.has_next(todo):
                while free and self.has_next(todo):
                    place, run = free.pop(0), todo.popleft()
                    at_work[place] = run
                    name = run.trial.name
                    future = workers.submit(place, make_run, self.configs[name], str(self.folder / name))
                    pending[future] = place
                for future in workers.wait(pending, _LOOK_SECONDS):
                    place = pending.pop(future)
                    run = at_work.pop(place)
                    free.append(place)
                    if not self._is_settled(run, place, future, workers):
                        todo.append(run)
                report(self._share(at_work.values()), f"{len(at_work)} at work, {len(todo)} waiting")

    def _is_settled(self, run: SweptRun, place: int, future: Future[Any], workers: Workers) -> bool:
        """Write down what became of a run; False where its worker died, and another is to have it."""
        name = run.trial.name
        try:
            outcome: Outcome = workers.result(place, future)
        except Lost as lost:
            workers.renew(place)
            self._losses[name] = self._losses.get(name, 0) + 1
            if self._losses[name] < _TRIES:
                self.progress.warn(f"{lost} died at {name}; another one goes on with it")
                return False
            outcome = Outcome(f"its worker died {_TRIES} times, as one that has too little memory; take fewer jobs at once")
        except Exception as error:
            outcome = Outcome(f"it couldn't be sent to a worker: {in_a_line(error)}")
        for warning in outcome.warnings:
            self.progress.warn(f"{name}: {warning}")
        if outcome.failure:
            run.status, run.reason = "failed", outcome.failure
        else:
            self._finish(run)
        self.write()
        self.progress.say(f"{self.num_settled} of {self.size}: {name}: {_in_words(run)}")
        return True

    def _finish(self, run: SweptRun) -> None:
        folder = self.folder / run.trial.name
        run.status, run.figures = "finished", merits(read_record(folder / EVALUATION, Evaluated))
        epochs = read_metrics(folder)
        run.seconds = epochs[-1]["seconds"] if epochs else None

    @property
    def num_settled(self) -> int:
        """How many runs are finished or have failed."""
        return sum(run.status != "waiting" for run in self.runs)

    def _share(self, at_work: Iterable[SweptRun]) -> float:
        """Part of all that is done, what is at work included."""
        return (self.num_settled + sum(map(self._part, at_work))) / self.size

    def _part(self, run: SweptRun) -> float:
        config, epochs = self.configs[run.trial.name].training, []
        with suppress(QvaeError, OSError):  # it may be written at this moment
            epochs = read_metrics(self.folder / run.trial.name)
        if not epochs:
            return 0.0
        by_clock = epochs[-1]["seconds"] / config.max_seconds if config.max_seconds else 0.0
        return min(1.0, max(epochs[-1]["epoch"] / config.epochs, by_clock))


def _in_words(run: SweptRun) -> str:
    if run.status == "failed":
        return f"failed: {run.reason}"
    name, value = next(iter(run.figures.items()), ("", None))
    seconds = f", {clock(run.seconds)} of training" if run.seconds is not None else ""
    return f"{name} {with_error(value, None)}{seconds}"


# On a worker --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outcome:
    """What became of a run.

    Attributes:
        failure: why it failed, as a sentence; empty if it didn't.
        warnings: that it gave.
    """

    failure: str = ""
    warnings: list[str] = field(default_factory=list)


class _Heard(Progress):
    """Keeps warnings."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Kept."""
        self.warnings.append(text)


def make_run(config: Config, folder: str) -> Outcome:
    """Train and evaluate, or go on with it, in a folder; whatever goes wrong is told and not raised."""
    heard, stop = _Heard(), Path(folder).parent / _STOP

    def stop_if_told(model: Any, figures: Mapping[str, Any]) -> None:
        if stop.exists():
            raise KeyboardInterrupt

    try:
        make(config, Path(folder), heard, [stop_if_told])
    except KeyboardInterrupt:
        return Outcome("it was interrupted", heard.warnings)
    except (Exception, SystemExit) as error:
        return Outcome(in_a_line(error), heard.warnings)
    return Outcome("", heard.warnings)
