"""The measurements: ours and a peer's in turns on one problem, error against time, and a training step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from methods import Bench, Method, Ours, Run, Theirs
from problems import Problem, Truth
from protocol import PeerError, Timer
from trainer_overhead import TURN, handwritten_step, trainer_of

import qvae
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.training.devices import choose_device, use_bfloat16

Row = dict[str, Any]

_LONG = 3.0  # CPU seconds of a call that is made once; in a curve, where neighbours tell the spread, a sixth of it
_IMAGES, _BATCH, _CHAINS, _SWEEPS = 20_480, 256, 256, 5
_STEPS = 40  # of a training in its turn


def compare(
    bench: Bench,
    problem: Problem,
    truth: Truth,
    ours: Ours,
    peers: Sequence[Theirs],
    samples: int,
    sweeps: int,
    repeats: int,
    more_of_ours: Sequence[Ours] = (),
) -> Row:
    """Times and errors at equal work; each peer's calls alternate with calls of ``ours``."""
    bench.give(problem)
    own: list[Run] = []
    rows: list[Row] = []
    methods: list[Method] = [*more_of_ours, *peers]
    for method in methods:
        pairs: list[tuple[Run, Run]] = []
        fault = _fault(bench, problem, method)
        try:
            for repeat in range(0 if fault else 1 + repeats):
                if repeat > 1 and pairs[-1][1].cpu > _LONG:
                    break
                # The first round, of two sweeps, warms both up.
                work = (bench, problem, truth, samples, sweeps if repeat else 2, repeat + 1)
                pairs.append((ours.run(*work), method.run(*work)))
        except PeerError as error:
            fault = str(error)
        own += [mine for mine, _ in pairs[1:]]
        rows.append(_row(method.label, [theirs for _, theirs in pairs[1:]], fault) | _ratios(pairs[1:]))
    head = {"problem": problem.title, "samples": samples, "sweeps": sweeps, "floor": truth.floor(samples)}
    head |= {"reference": truth.method, "reference_error": truth.error}
    return head | {"rows": [_row(ours.label, own, None) | {"ratio": [1.0, 1.0, 1.0]}, *rows]}


def curves(
    bench: Bench,
    problem: Problem,
    truth: Truth,
    methods: Sequence[Method],
    samples: int,
    sweeps: Sequence[int],
    repeats: int,
    limit: float,
) -> Row:
    """Error against time: more and more sweeps, until a call would take more than ``limit`` CPU seconds.

    The methods take turns at each number of sweeps; long calls are made once.
    """
    bench.give(problem)
    points: dict[str, list[Row]] = {method.label: [] for method in methods}
    faults = {method.label: _fault(bench, problem, method) for method in methods}

    def run(method: Method, number: int, seed: int) -> list[Run]:
        try:
            return [method.run(bench, problem, truth, samples, number, seed)]
        except PeerError as error:
            faults[method.label] = str(error)
            return []

    for method in methods:
        if not faults[method.label]:
            run(method, sweeps[0], 0)
    for position, number in enumerate(sweeps):
        taking = [m for m in methods if not faults[m.label] and _fits(points[m.label], number, position, limit)]
        runs: dict[str, list[Run]] = {method.label: [] for method in taking}
        for repeat in range(repeats):
            for method in taking:
                if repeat and runs[method.label] and runs[method.label][-1].cpu > _LONG / 6:
                    continue
                runs[method.label] += run(method, number, 1000 * position + repeat + 1)
        for label, found in runs.items():
            points[label] += [{"sweeps": number} | _row(label, found, None)] if found else []
    head = {"problem": problem.title, "samples": samples, "floor": truth.floor(samples)}
    head |= {"reference": truth.method, "reference_error": truth.error}
    labels = {method.label: isinstance(method, Ours) for method in methods}
    return head | {"points": points, "faults": {k: v for k, v in faults.items() if v}, "ours": labels}


def _fits(points: list[Row], sweeps: int, position: int, limit: float) -> bool:
    """Whether so many sweeps take less than the limit, if time grows in proportion."""
    if position == 0:
        return True
    return len(points) == position and points[-1]["cpu"] * sweeps / points[-1]["sweeps"] < limit


def first_sweeps(found: Row, target: float) -> dict[str, Row | None]:
    """For each method its first point whose error is at most ``target``."""
    return {
        label: next((point for point in points if point["error"]["moments"] <= target), None)
        for label, points in found["points"].items()
    }


def _fault(bench: Bench, problem: Problem, method: Method) -> str | None:
    """Why a method can't take part."""
    if isinstance(method, Ours):
        return None
    if method.peer in bench.missing:
        return bench.missing[method.peer]
    if method.peer not in bench.workers:
        return "not asked for"
    if method.peer == "rbms" and problem.hamiltonian.graph.bipartite_sizes is None:
        return "takes RBMs only"
    return None


def _row(label: str, runs: Sequence[Run], fault: str | None) -> Row:
    if not runs:
        return {"label": label, "fault": fault or "did not run"}
    error = {key: float(np.mean([run.error[key] for run in runs])) for key in runs[0].error}
    times = {key: [getattr(run, key) for run in runs] for key in ("cpu", "wall")}
    return {"label": label, "fault": fault, "error": error} | {key: median(values) for key, values in times.items()} | {
        "all_" + key: values for key, values in times.items()
    }


def _ratios(pairs: Sequence[tuple[Run, Run]]) -> Row:
    """Median, least and largest of a peer's CPU time over ours next to it."""
    ratios = [theirs.cpu / mine.cpu for mine, theirs in pairs]
    return {"ratio": [median(ratios), min(ratios), max(ratios)]} if ratios else {}


# Training -------------------------------------------------------------------------------------------------------------


def train(bench: Bench, references: Path) -> Row:
    """A step of the same network on the same random binary images, ours, written by hand, and the plugin's DVAE."""
    images = bench.folder / "images.npy"
    pixels = np.random.default_rng(0).integers(0, 2, (_IMAGES, 28, 28), dtype=np.uint8)
    np.save(images, 255 * pixels)
    settings = ["data.binarize=threshold", "training.max_seconds=null", f"training.batch_size={_BATCH}"]
    settings += [f"data.name={images}", f"training.chains={_CHAINS}", f"sampler.options={{sweeps: {_SWEEPS}}}"]
    settings += ["model.network.decoder_hidden=null"]  # as deep as the encoder, as the plugin's networks are
    config = qvae.load_config("mnist", [*settings, "training.device=cpu"])
    bf16 = use_bfloat16(config.training.precision, choose_device("cpu"))
    trainer, step = trainer_of(config), handwritten_step(config)
    ours = _timed(lambda: trainer.timed(_STEPS // TURN), _STEPS)
    rows: list[Row] = []
    by_hand = _timed(lambda: [step() for _ in range(_STEPS)], _STEPS)
    loops: list[tuple[str, Callable[[], dict[str, float]]]] = [("hand-written loop", by_hand)]
    for bits, precision in ((True, "bfloat16"), (False, "float32")):
        if bits and not bf16:
            continue
        for sampler, words in (("block", "its BlockSampler"), ("annealing", "dwave-samplers SA")):
            job = {"sampler": sampler, "bfloat16": bits, "images": str(images)}
            loops.append((f"plugin DVAE, {words}, {precision}", _plugin_rounds(bench, job, 4)))
    seen: list[dict[str, float]] = []
    for label, theirs in loops:
        pairs, fault = [], None
        try:
            ours(), theirs()
            pairs = [(ours(), theirs()) for _ in range(3)]
        except PeerError as error:
            fault = str(error)
        seen += [mine for mine, _ in pairs]
        rows.append(_training_row(label, [found for _, found in pairs], fault))
        if pairs:
            ratios = [found["cpu"] / mine["cpu"] for mine, found in pairs]
            rows[-1]["ratio"] = [median(ratios), min(ratios), max(ratios)]
    first = _training_row(f"qvae Trainer, {'bfloat16' if bf16 else 'float32'}", seen, None) | {"ratio": [1.0, 1.0, 1.0]}
    head = {"batch": _BATCH, "chains": _CHAINS, "sweeps": _SWEEPS, "network": "784-512-512, 256 latents as an RBM 128x128"}
    return head | {"rows": [first, *rows]}


def _timed(work: Callable[[], object], steps: int) -> Callable[[], dict[str, float]]:
    def measured() -> dict[str, float]:
        with Timer() as timer:
            work()
        return {key: value / steps for key, value in timer.seconds().items()}

    return measured


def _plugin_rounds(bench: Bench, job: dict[str, Any], steps: int) -> Callable[[], dict[str, float]]:
    """The model is made at the first call, which isn't counted."""
    name, started = "dwave-pytorch-plugin", False
    H = IsingHamiltonian([0.0] * 256, graphs.rbm(128, 128), 0.01 * np.random.default_rng(0).standard_normal(128 * 128))

    def measured() -> dict[str, float]:
        nonlocal started
        if name not in bench.workers:
            raise PeerError(bench.missing.get(name, "not asked for"))
        if not started:
            path = bench.folder / "training.npz"
            Problem("training", "", H).save(path)
            network = {"batch": _BATCH, "hidden": [512, 512], "chains": _CHAINS, "sweeps": _SWEEPS}
            bench.workers[name].ask("start_training", problem=str(path), **network, **job)
            started = True
        found = bench.workers[name].ask("train", steps=steps)
        return {key: value / steps for key, value in found.items()}

    return measured


def _training_row(label: str, found: Sequence[dict[str, float]], fault: str | None) -> Row:
    if not found:
        return {"label": label, "fault": fault or "did not run"}
    row: Row = {"label": label, "fault": fault}
    for key in ("cpu", "wall"):
        row |= {key: median(step[key] for step in found), "all_" + key: [step[key] for step in found]}
    return row | {"images_per_second": _BATCH / row["cpu"]}
