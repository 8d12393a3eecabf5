"""Many runs, of a grid of settings and several seeds, made on workers: what is finished stays, what fails is a row."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import qvae
from qvae.config.grid import trials
from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.errors import ConfigError, QvaeError, RunError, WorkersError, in_a_line
from qvae.files import atomic_write_text
from qvae.progress import Progress, Sturdy, clock
from qvae.reporting.compare import merits
from qvae.reporting.sweep import SweptRun
from qvae.reporting.tables import with_error
from qvae.runs.folder import EVALUATION, read_metrics
from qvae.runs.output import has_keys, output_folder
from qvae.runs.records import Evaluated, read_record
from qvae.study import is_finished, make
from qvae.workers import Lost, Processes, Workers, processors

RESULTS = "sweep.json"
_STOP = "stop"
"""A file that tells runs of a cluster, which no signal reaches, to end with their epoch; their last checkpoints stand."""
_SCHEMA = 1
_LOOK_SECONDS = 1.0
_TRIES = 2  # of a run whose worker dies


def sweep(
    config: str | Path | Mapping[str, Any] | None,
    grid: Mapping[str, Sequence[Any]],
    out: str | Path,
    *,
    seeds: int = 1,
    number: int | None = None,
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
        grid: values by key; empty for seeds alone.
        out: the folder; on a cluster, one that all workers see under the same name.
        seeds: how many, from that of the configuration on.
        number: of combinations, drawn at random from all of them; None takes all.
        jobs: runs at once; None is one for each processor here, which share them out, or one for each worker of the cluster.
        cluster: address of the scheduler of a dask cluster, in place of processes of this machine.
        progress: told what is going on.

    Raises:
        ConfigError: every combination is refused, or ``out`` holds runs of another configuration.
        RunError: ``out`` can't be written, or is being written by somebody else.
        WorkersError: there are no workers, or they don't see ``out``.
        KeyboardInterrupt: at Ctrl-C; runs at work here have saved their state.
    """
    if seeds < 1 or (number is not None and number < 1) or (jobs is not None and jobs < 1):
        raise ConfigError("seeds, random and jobs are numbers of 1 or more.")
    progress, overrides, trust = Sturdy.around(progress), list(overrides), list(trust)
    first = load_config(config, overrides, model, trust).training.seed
    chosen = trials(grid, range(first, first + seeds), number)
    with _held(out) as folder:
        runs, configs = [SweptRun(trial) for trial in chosen], {}
        for run in runs:
            try:
                configs[run.trial.name] = load_config(config, [*overrides, *run.trial.overrides], model, trust)
            except ConfigError as error:
                run.status, run.reason = "failed", " ".join(str(error).split())
        if not configs:
            raise ConfigError(runs[0].reason)
        made = _Sweep(folder, runs, configs, progress)
        waiting = made.waiting()
        if waiting:
            with _workers(folder, jobs, len(waiting), cluster) as workers:
                made.run(waiting, workers)
        made.write()
    return runs


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
def _workers(folder: Path, jobs: int | None, runs: int, cluster: str | None) -> Iterator[Workers]:
    """Workers that see the folder; what they are at when the block fails is told to stop."""
    if cluster is None:
        workers: Workers = Processes(min(jobs or processors(), runs))
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


class _Sweep:
    """The runs of a sweep, as they stand and are made."""

    def __init__(self, folder: Path, runs: Sequence[SweptRun], configs: Mapping[str, Config], progress: Progress) -> None:
        self.folder, self.runs, self.configs, self.progress = folder, runs, configs, progress
        self._losses: dict[str, int] = {}

    def waiting(self) -> list[SweptRun]:
        """The runs that aren't finished, now written down as such."""
        for run in self.runs:
            name = run.trial.name
            if name in self.configs and is_finished(self.configs[name], self.folder / name):
                self._finish(run)
        self.write()
        left = [run for run in self.runs if run.status == "waiting"]
        if left and len(left) < len(self.configs):
            self.progress.say(f"{len(self.configs) - len(left)} of {len(self.runs)} runs are finished already")
        return left

    def write(self) -> None:
        """All runs into the results."""
        found = {"schema": _SCHEMA, "qvae": qvae.__version__, "runs": [run.to_dict() for run in self.runs]}
        atomic_write_text(self.folder / RESULTS, json.dumps(found, indent=1) + "\n")

    def run(self, waiting: Iterable[SweptRun], workers: Workers) -> None:
        """Have the runs made, one at each place at a time."""
        todo, free = deque(waiting), list(range(len(workers)))
        at_work: dict[int, SweptRun] = {}
        pending: dict[Future[Any], int] = {}
        with self.progress.work("sweep") as report:
            while todo or pending:
                while todo and free:
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
        self.progress.say(f"{self._num_settled} of {len(self.runs)}: {name}: {_in_words(run)}")
        return True

    def _finish(self, run: SweptRun) -> None:
        folder = self.folder / run.trial.name
        run.status, run.figures = "finished", merits(read_record(folder / EVALUATION, Evaluated))
        epochs = read_metrics(folder)
        run.seconds = epochs[-1]["seconds"] if epochs else None

    @property
    def _num_settled(self) -> int:
        return sum(run.status != "waiting" for run in self.runs)

    def _share(self, at_work: Iterable[SweptRun]) -> float:
        """Part of all that is done, what is at work included."""
        return (self._num_settled + sum(map(self._part, at_work))) / len(self.runs)

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
