"""Processes killed at random moments of their work, until it is done: is anything lost, and is the end the same?

    OMP_NUM_THREADS=1 python benchmarks/kills.py --count 300

Trainings, evaluations, reports, sweeps of samplers (``qvae benchmark samplers``) and trainings on the annealer of the tests are
done once without a kill; then again, with a SIGKILL after a random part of that time, again and again, until one comes to its
end. After each kill the folder must open, and hold no less than before; the end must be that of the undisturbed one, bit for
bit: weights, metrics and evaluation. An annealer's answers are new in each run, so that there the recording of the killed run
is played, and must end in the same weights. Work goes on in forks of one process, which has imported everything.

Of a training in two processes (``ranks``) one is killed, whichever it is: the other must end within a minute, by itself or by
the SIGTERM that torchrun sends it, and both go on from the last checkpoint. Of a training that draws from a pool of two workers
(``pool``), and of a sweep of trainings by two (``runs``), now a worker is killed, now the process that they work for: without a
worker it must go on and come to its end, and no worker may be there a minute after it.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import random
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from killing import in_a_family, in_a_fork, in_forks

import qvae
from qvae.checkpoint import load_checkpoint
from qvae.files import read_plain
from qvae.measuring.benchmark import run_benchmark
from qvae.measuring.problems import make_problem
from qvae.measuring.specs import parse_sampler
from qvae.runs.folder import CHECKPOINT, EVALUATION, METRICS, MODEL
from qvae.runs.run import load_run
from qvae.sweep import sweep
from qvae.workflow import evaluate, report, resume, train

_LATEST = 1.1  # of the time of the undisturbed work, the latest moment of a kill
SETTINGS = [
    "model.latent.sizes=[8,8]", "model.network.hidden=[32]", "training.epochs=10", "training.checkpoint_seconds=0.05",
    "evaluation.num_test=100", "evaluation.importance_samples=10", "evaluation.log_z_chains=50",
    "evaluation.log_z_temperatures=50", "evaluation.num_generated=100", "evaluation.probes=false", "evaluation.tsne_every=0",
]  # fmt: skip
POOL = [*SETTINGS, "training.epochs=60", "sampler.name=pool", "sampler.options.of=gibbs", "sampler.options.workers=2"]
RUNS = [*SETTINGS, "training.epochs=60"]
_IMPORTED = ("dwave.system", "matplotlib.pyplot", "sklearn.manifold", "qvae_backends.gibbs", "qvae_backends.pool")
"""What each fork would import; not by this file, which each worker imports."""
ANNEALER = [
    *SETTINGS, "sampler.name=dwave", "sampler.options.timeout=20.0", "sampler.options.max_qpu_seconds=2.0",
    "model.latent.graph=native", "model.latent.sizes=[12]", "training.epochs=4", "training.chains=32",
]  # fmt: skip


@dataclass
class Kind:
    """Work that can be killed.

    Attributes:
        work: does it in a folder, or goes on with it.
        look: what a folder holds, which no kill may make less; raises where it doesn't open.
        end: what must be the same at the end, of the undisturbed folder and of the killed one.
        begin: makes a fresh folder, of the undisturbed one.
        weight: its share of the kills.
        processes: that do it together, of which one is killed.
        has_workers: whether one of them may be killed in its place.
    """

    work: Callable[[Path], Any]
    look: Callable[[Path], int]
    end: Callable[[Path], Any]
    begin: Callable[[Path, Path], Any] = lambda whole, folder: None
    weight: int = 1
    processes: int = 1
    has_workers: bool = False


@dataclass
class Score:
    """What became of a kind's kills."""

    kills: int = 0
    ends: int = 0
    lost: list[str] = field(default_factory=list)
    different: int = 0
    left: int = 0


# The work -------------------------------------------------------------------------------------------------------------


def _train(folder: Path, settings: list[str] = SETTINGS) -> None:
    if (folder / CHECKPOINT).exists() and (folder / MODEL).exists():
        resume(folder)
    else:
        train(qvae.load_config("digits", settings), folder)


def _train_on_annealer(folder: Path) -> None:
    _train(folder, [*ANNEALER, f"sampler.options.record={folder}.jsonl"])


def _replayed(folder: Path) -> Any:
    """The weights of a recording that is played."""
    played = folder.with_name(f"{folder.name}-played")
    shutil.rmtree(played, ignore_errors=True)
    in_a_fork(lambda: train(qvae.load_config("digits", [*ANNEALER, f"sampler.options.replay={folder}.jsonl"]), played))
    return _weights(played)


def _runs(folder: Path) -> None:
    """A sweep of trainings; those that failed are tried again."""
    while any(run.status != "finished" for run in sweep("digits", {}, folder, seeds=2, jobs=2, overrides=RUNS)):
        pass


def _all_steps(folder: Path) -> int:
    return sum(_steps(run) for run in folder.glob("seed-*"))


def _all_numbers(folder: Path) -> Any:
    return [_numbers(folder / f"seed-{seed}") for seed in range(2)]


def _sweep(folder: Path) -> None:
    problem = make_problem("glass:n=10")
    samplers = [parse_sampler(f"gibbs:sweeps={number}") for number in (1, 2, 3, 5)]
    run_benchmark([problem], [parse_sampler("exact"), *samplers], folder, budget=0.2)


def _steps(folder: Path) -> int:
    """Of the training so far."""
    if not (folder / MODEL).exists():
        return 0
    load_run(folder).metrics  # noqa: B018
    return load_checkpoint(folder / CHECKPOINT)["step"]


def _is_whole(folder: Path) -> int:
    run = load_run(folder)
    assert run.evaluation is not None
    return int(run.evaluation["num_test"])


def _pieces(folder: Path) -> int:
    """Those that are measured, and must stay as they are."""
    if (folder / "results.json").exists():
        json.loads(read_plain(folder / "results.json"))
    return len([json.loads(read_plain(file)) for file in (folder / "pieces").glob("*.json")])


def _weights(folder: Path) -> Any:
    state = load_checkpoint(folder / MODEL)
    return state["step"], {name: value.numpy().tobytes() for name, value in state["model"].items()}


def _numbers(folder: Path) -> Any:
    """Evaluation and metrics, without seconds."""
    found = json.loads(read_plain(folder / EVALUATION))
    rows = [json.loads(line) for line in read_plain(folder / METRICS).decode().splitlines()]
    plain = [{key: value for key, value in row.items() if not key.startswith(("seconds", "ms_"))} for row in (found, *rows)]
    return _weights(folder), plain


def _pictures(folder: Path) -> Any:
    assert (folder / "report.html").exists()
    return _numbers(folder), {file.name: file.read_bytes() for file in (folder / "figures").iterdir()}


def _copied(whole: Path, folder: Path) -> None:
    shutil.copytree(whole, folder)


KINDS = {
    "training": Kind(_train, _steps, _numbers, weight=4),
    "evaluation": Kind(lambda folder: evaluate(load_run(folder)), _is_whole, _numbers, _copied, weight=2),
    "report": Kind(lambda folder: report(load_run(folder)), _is_whole, _pictures, _copied, weight=2),
    "sweep": Kind(_sweep, _pieces, lambda folder: _pieces(folder)),
    "annealer": Kind(_train_on_annealer, _steps, _weights),
    "ranks": Kind(_train, _steps, _numbers, weight=2, processes=2),
    "pool": Kind(lambda folder: _train(folder, POOL), _steps, _steps, has_workers=True),
    "runs": Kind(_runs, _all_steps, _all_numbers, has_workers=True),
}


# Killing --------------------------------------------------------------------------------------------------------------


def _killed_to_the_end(kind: Kind, folder: Path, seconds: float, score: Score, choose: random.Random) -> None:
    """Begin, kill and go on until the work is done."""
    before, is_at_its_end = kind.look(folder) if folder.exists() else 0, False
    while not is_at_its_end:
        is_at_its_end, kills = _done(kind, folder, seconds, choose, choose.uniform(0, _LATEST * seconds))
        score.kills += kills
        now = kind.look(folder) if folder.exists() else 0
        if now < before:
            score.lost.append(f"{now} after {before}")
        before = now
    score.ends += 1


def _done(kind: Kind, folder: Path, seconds: float, choose: random.Random, kill_after: float | None = None) -> tuple[bool, int]:
    """Whether the work, which takes so many seconds, came to its end, and the number of kills."""
    if kind.has_workers:
        return in_a_family(lambda: kind.work(folder), folder, seconds, kill_after, choose)
    if kind.processes > 1:
        is_at_its_end = in_forks(lambda: kind.work(folder), kind.processes, kill_after, choose)
    else:
        is_at_its_end = in_a_fork(lambda: kind.work(folder), kill_after)
    return is_at_its_end, int(not is_at_its_end)


def attack(name: str, kind: Kind, count: int, place: Path, choose: random.Random) -> Score:
    """As many kills of a kind, and what became of them."""
    score, whole = Score(), place / "whole"
    if name in ("evaluation", "report"):
        in_a_fork(lambda: _train(whole))
    seconds = math.inf
    for _ in range(1 if kind.has_workers else 3):  # the quickest of three, on a machine with other work
        if name not in ("evaluation", "report"):
            shutil.rmtree(whole, ignore_errors=True)
            whole.with_name("whole.jsonl").unlink(missing_ok=True)
        started = time.monotonic()
        _done(kind, whole, math.inf, choose)
        seconds = min(seconds, time.monotonic() - started)
    expected = kind.end(whole)
    while score.kills < count:
        folder = place / f"killed-{score.ends}"
        kind.begin(whole, folder)
        try:
            _killed_to_the_end(kind, folder, seconds, score, choose)
            wanted = _replayed(folder) if name == "annealer" else expected
            score.different += kind.end(folder) != wanted
        except Exception as error:
            traceback.print_exc()
            score.lost.append(str(error))
            break
        score.left += len([file for file in folder.rglob(".*") if file.is_file()])
        shutil.rmtree(folder)
    return score


@contextlib.contextmanager
def _service(name: str) -> Iterator[None]:
    if name != "annealer":
        yield
        return
    from annealer import server

    with server(topology="zephyr", size=2):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=300, help="of kills, all kinds together")
    parser.add_argument("--seed", type=int, default=0, help="of their moments")
    parser.add_argument("--kind", choices=sorted(KINDS), action="append", help="these kinds alone")
    options = parser.parse_args()
    kinds = {name: KINDS[name] for name in options.kind or KINDS}
    for module in _IMPORTED:
        importlib.import_module(module)
    each = options.count / sum(kind.weight for kind in kinds.values())
    print("| work | kills | ends | lost | other than undisturbed | files left behind |", "|---|---|---|---|---|---|", sep="\n")
    bad = 0
    for name, kind in kinds.items():
        with tempfile.TemporaryDirectory() as place, _service(name):
            score = attack(name, kind, round(kind.weight * each), Path(place), random.Random(f"{options.seed} {name}"))
        cells = (name, score.kills, score.ends, len(score.lost), score.different, score.left)
        print("|", " | ".join(map(str, cells)), "|", flush=True)
        for text in score.lost:
            print(f"  {text}", file=sys.stderr)
        bad += len(score.lost) + score.different + score.left
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
