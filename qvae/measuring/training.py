"""Training measured with one sampler and another: speed, where the time goes, memory, and likelihood against time."""

from __future__ import annotations

import contextlib
import itertools
import json
import multiprocessing
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import qvae
from qvae.checkpoint import load_checkpoint
from qvae.config.backends import BackendSpec
from qvae.config.load import dump_config
from qvae.config.paths import settled
from qvae.config.schema import Config
from qvae.errors import QvaeError, RunError
from qvae.evaluation.likelihood import evaluate_likelihood, prior_log_partition
from qvae.evaluation.rows import evaluation_rows
from qvae.files import atomic_write_text, read_plain
from qvae.measuring.figures import time_split, training_curves
from qvae.measuring.folder import PIECES, RESULTS, TRAININGS, benchmark_folder
from qvae.measuring.machine import environment
from qvae.models.prior import boltzmann_prior
from qvae.progress import Report
from qvae.reporting.figures import save_figure
from qvae.reporting.page import Picture, Section, Table, render_page
from qvae.reporting.tables import with_error
from qvae.runs.folder import CONFIG, MODEL
from qvae.runs.run import load_run
from qvae.training.devices import choose_device

SCHEMA = 1
SNAPSHOTS = 4
"""Models of a training whose likelihood is measured, evenly spaced in time, the last one at its end."""
TEST_IMAGES, IMPORTANCE_SAMPLES = 1000, 50
"""Of the likelihood against time: a part of the test images, and named as that."""
_LOG_Z_CHAINS, _LOG_Z_TEMPERATURES = 200, 500
_PARTS = ("forward", "negative_phase", "backward", "optimizer")
_OUTCOME, _CONFIG = "outcome.json", "benchmark.yaml"


def benchmark_training(
    config: Config,
    samplers: Sequence[BackendSpec],
    seconds: float,
    out: Path,
    report: Report = lambda share, figures: None,
) -> dict[str, Any]:
    """Train with every sampler for so many seconds, each in a process of its own, by :func:`qvae.train` as users do.

    What has been measured with the same settings before is taken from ``out``. The schema of ``results.json``, returned::

        schema, qvae, created, environment, settings: {seconds, config (as text), test_images, importance_samples}
        samplers: [{
          sampler, name, options, status: "measured" | "failed", reason,
          -- and of one that was measured:
          steps, seconds, images_per_second (from the end of the first epoch on, where there are two),
          milliseconds: {forward, negative_phase, backward, optimizer} (medians of a step),
          peak_memory_mb (of the process at the end of training, libraries included; null where the system can't tell),
          peak_device_memory_mb (null on the CPU), qpu_seconds (null if none),
          curve: [{step, seconds, log_likelihood, log_likelihood_stderr (over images), elbo, log_z, log_z_stderr, log_z_method,
                   num_test, test_images_are_all}]
        }]

    The learning rate follows the clock to the end of ``seconds``: points before the end are of a model on its way, not of a
    shorter training.

    Args:
        config: of the training; its sampler is replaced.
        samplers: from :func:`~qvae.measuring.specs.parse_sampler`.
        seconds: of training, checkpoints and evaluation not counted.
        out: folder; made if it isn't there. Runs are in ``out/trainings``.
        report: told the part of all that is done, and what is being done.

    Raises:
        RunError: the folder can't be written, is another process's, or holds files that aren't of a benchmark.
    """
    config = _shortened(settled(config), seconds)
    results: dict[str, Any] = {
        "schema": SCHEMA,
        "qvae": qvae.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "environment": environment(choose_device(config.training.device)),
        "settings": {
            "seconds": seconds,
            "config": dump_config(config),
            "test_images": TEST_IMAGES,
            "importance_samples": IMPORTANCE_SAMPLES,
        },
        "samplers": [],
    }
    with benchmark_folder(out) as folder:
        for number, spec in enumerate(samplers):

            def advance(share: float, text: str) -> None:
                report((number + share) / len(samplers), text)  # noqa: B023

            results["samplers"].append(_piece(config, spec, seconds, folder, advance))
            atomic_write_text(folder / RESULTS, json.dumps(results, indent=1) + "\n")
    report(1.0, "done")
    return results


def _shortened(config: Config, seconds: float) -> Config:
    """The same training, ended by the clock, with an evaluation of a moment at its end."""
    config = config.model_copy(deep=True)
    config.training.max_seconds = seconds
    config.training.epochs = max(config.training.epochs, 10**6)
    config.training.checkpoint_seconds = seconds / SNAPSHOTS
    for key, value in {"num_test": 20, "importance_samples": 2, "num_generated": 0, "probes": False, "tsne_every": 0}.items():
        setattr(config.evaluation, key, value)
    config.evaluation.log_z_chains = min(config.evaluation.log_z_chains, _LOG_Z_CHAINS)
    config.evaluation.log_z_temperatures = min(config.evaluation.log_z_temperatures, _LOG_Z_TEMPERATURES)
    return config


def _piece(config: Config, spec: BackendSpec, seconds: float, out: Path, report: Report) -> dict[str, Any]:
    """One sampler's result: from its file if that has the same settings, and was no failure."""
    config = config.model_copy(deep=True)
    config.sampler.name, config.sampler.options = spec.name, dict(spec.options)
    identity = {"sampler": spec.label, "name": spec.name, "options": dict(spec.options)}
    key = {"schema": SCHEMA, "qvae": qvae.__version__, "config": dump_config(config), "test_images": TEST_IMAGES}
    name = re.sub(r"[^\w.=-]+", "_", spec.label)
    file = out / PIECES / f"{name}.json"
    with contextlib.suppress(OSError, ValueError):
        kept = json.loads(read_plain(file))
        if kept["key"] == key and kept["result"]["status"] != "failed":
            return kept["result"]
    folder = out / TRAININGS / name
    _clear(folder)
    folder.mkdir(parents=True)
    try:
        outcome = _train_apart(config, folder, seconds, lambda share: report(0.8 * share, f"{spec.label}: training"))
        report(0.8, f"{spec.label}: likelihood")
        found = {**_speed(folder / "run", config), **outcome, "curve": _curve(folder)}
        result = {**identity, "status": "measured", "reason": "", **found}
    except QvaeError as error:
        result = {**identity, "status": "failed", "reason": str(error).rstrip(".")}
    atomic_write_text(file, json.dumps({"key": key, "result": result}) + "\n")
    return result


def _clear(folder: Path) -> None:
    """Remove a training of an interrupted benchmark, or of other settings, if that is what a folder holds."""
    if not folder.exists():
        return
    if folder.is_symlink() or not {entry.name for entry in folder.iterdir()} <= {_CONFIG, _OUTCOME, "run", "models"}:
        raise RunError(f"{folder} holds files that are not of a benchmark; move them, or choose another --out.")
    shutil.rmtree(folder)


# The process that trains ----------------------------------------------------------------------------------------------


def _train_apart(config: Config, folder: Path, seconds: float, progress: Callable[[float], None]) -> dict[str, Any]:
    """Train in a fresh process, whose memory is then that of this training alone; returns its peak memory."""
    process = multiprocessing.get_context("spawn").Process(target=_train, args=(config, folder))
    process.start()
    started = time.perf_counter()
    try:
        while process.is_alive():
            process.join(0.2)
            progress(min(1.0, (time.perf_counter() - started) / seconds))
    finally:
        if process.is_alive():
            process.terminate()
            process.join()
    file = folder / _OUTCOME
    if not file.exists():
        raise RunError(f"the process that trained ended with code {process.exitcode}")
    outcome = json.loads(read_plain(file))
    if "error" in outcome:
        raise RunError(outcome["error"])
    return outcome


def _train(config: Config, folder: Path) -> None:
    """In the process: train by the public path, and keep every model that is saved on the way."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    memory: dict[str, Any] = {}
    ended = threading.Event()
    watcher = threading.Thread(target=_keep_models, args=(folder, memory, ended), daemon=True)
    watcher.start()
    try:
        qvae.train(config, out=folder / "run")
        outcome = memory
    except Exception as error:
        # Whatever a sampler does wrong is told in the table.
        outcome = {"error": f"{type(error).__name__}: {' '.join(str(error).split())}"}
    finally:
        ended.set()
        watcher.join()
    atomic_write_text(folder / _OUTCOME, json.dumps(outcome))


def _end_with_parent() -> None:
    """End this process when the one that started it does, in whatever way."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _keep_models(folder: Path, memory: dict[str, Any], ended: threading.Event) -> None:
    """Copy each new model file, and note the peak memory so far: the last one is from the end of training."""
    file, seen = folder / "run" / MODEL, 0
    while not ended.wait(0.02):
        with contextlib.suppress(OSError):
            stamp = file.stat().st_mtime_ns
            if stamp != seen:
                seen = stamp
                target = folder / "models" / f"{stamp}"
                target.mkdir(parents=True)
                shutil.copyfile(file, target / MODEL)
                memory |= {
                    "peak_memory_mb": _peak_memory(),
                    "peak_device_memory_mb": torch.cuda.max_memory_allocated() / 2**20 or None,
                }


def _peak_memory() -> float | None:
    """Of this process in MB. Not ru_maxrss where it can be helped: on Linux that inherits the peak of the parent."""
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024
    try:
        import resource
    except ImportError:  # Windows
        return None
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 1024)


# What it left ---------------------------------------------------------------------------------------------------------


def _rows(run: Path) -> list[dict[str, Any]]:
    return load_run(run).metrics


def _speed(run: Path, config: Config) -> dict[str, Any]:
    rows = _rows(run)
    last, first = rows[-1], rows[0] if len(rows) > 1 else {"step": 0, "seconds": 0.0}
    images = config.training.batch_size * (last["step"] - first["step"])
    timed = [row for row in rows if row.get("ms_forward") is not None]
    return {
        "steps": last["step"],
        "seconds": last["seconds"],
        "images_per_second": images / max(1e-9, last["seconds"] - first["seconds"]),
        "milliseconds": {part: timed[-1].get(f"ms_{part}") for part in _PARTS} if timed else {},
        "qpu_seconds": last.get("qpu_seconds"),
    }


def _curve(folder: Path) -> list[dict[str, Any]]:
    """Log-likelihood of the models that were kept, on a part of the test images."""
    rows = [{"step": 0, "seconds": 0.0}, *_rows(folder / "run")]
    kept = sorted((folder / "models").iterdir(), key=lambda path: int(path.name))
    curve: dict[int, dict[str, Any]] = {}
    dataset = None
    for path in kept:
        shutil.copyfile(folder / "run" / CONFIG, path / CONFIG)
        step = load_checkpoint(path / MODEL)["step"]
        run = load_run(path)
        if dataset is None:
            dataset = run.dataset
        run.dataset = dataset
        settings = run.config.evaluation.model_copy(update={"num_test": TEST_IMAGES})
        hamiltonian = boltzmann_prior(run.model).frozen()
        log_z = prior_log_partition(hamiltonian, settings.log_z_chains, settings.log_z_temperatures, settings.seed)
        images = evaluation_rows(run.dataset, settings).to(run.device)
        found = evaluate_likelihood(run.model, images, log_z, IMPORTANCE_SAMPLES, settings.seed).to_dict()
        is_all = len(images) == len(run.dataset.test)
        wanted = ("log_likelihood", "log_likelihood_stderr", "elbo", "log_z", "log_z_stderr", "log_z_method", "num_test")
        numbers = {key: found[key] for key in wanted}
        curve[step] = {"step": step, "seconds": _seconds_at(step, rows), "test_images_are_all": is_all, **numbers}
    return [curve[step] for step in sorted(curve)]


def _seconds_at(step: int, rows: Sequence[Mapping[str, Any]]) -> float:
    """Of training, at a step between two ends of epochs."""
    for before, after in itertools.pairwise(rows):
        if step <= after["step"]:
            part = (step - before["step"]) / max(1, after["step"] - before["step"])
            return before["seconds"] + part * (after["seconds"] - before["seconds"])
    return rows[-1]["seconds"]


# In words -------------------------------------------------------------------------------------------------------------


def training_table(results: Mapping[str, Any]) -> Table:
    """The samplers side by side, the best likelihood first."""
    measured = [row for row in results["samplers"] if row["status"] == "measured"]
    measured.sort(key=lambda row: -row["curve"][-1]["log_likelihood"] if row["curve"] else float("inf"))
    with_qpu = any(row["qpu_seconds"] is not None for row in measured)
    rows = []
    for row in measured:
        last = row["curve"][-1] if row["curve"] else None
        parts = [f"{row['milliseconds'][part]:.1f}" if row["milliseconds"].get(part) is not None else "-" for part in _PARTS]
        rows.append(
            (
                row["sampler"],
                f"{row['images_per_second']:,.0f}",
                "/".join(parts),
                "-" if row.get("peak_memory_mb") is None else f"{row['peak_memory_mb']:,.0f}",
                *("-" if last is None else with_error(last[key], last[f"{key}_stderr"]) for key in ("log_likelihood", "log_z")),
                *((f"{row['qpu_seconds']:.3g}" if row["qpu_seconds"] is not None else "-",) if with_qpu else ()),
            )
        )
    header = ("sampler", "images/s", "ms of a step", "MB", "log-likelihood", "log Z", *(("QPU s",) if with_qpu else ()))
    seconds = results["settings"]["seconds"]
    first = next((row["curve"][-1] for row in measured if row["curve"]), None)
    note = f"{seconds:g} seconds of training each. Parts of a step: forward / negative phase / backward / optimizer (medians)."
    if first is not None:
        images = f"{'all' if first['test_images_are_all'] else 'the first'} {first['num_test']} test images"
        note += (
            f" Log-likelihood in nats of {images}, K = {IMPORTANCE_SAMPLES}, ± over images; the "
            f"error of log Z ({first['log_z_method']}) shifts it as a whole."
        )
    failed = [f"{row['sampler']} ({row['reason']})" for row in results["samplers"] if row["status"] == "failed"]
    if failed:
        note += f" Failed: {'; '.join(failed)}."
    return Table(header, rows, note)


def write_training_report(results: Mapping[str, Any], out: Path) -> Path:
    """``report.html`` in ``out``, with the pictures in ``out/figures``."""
    measured = {row["sampler"]: row for row in results["samplers"] if row["status"] == "measured"}
    pictures = []
    curves = {name: row["curve"] for name, row in measured.items() if row["curve"]}
    if curves:
        file = save_figure(training_curves(curves), out / "figures" / "likelihood.png")
        caption = "Bars: the error of log Z. Learning rates fall to the end: a point on the way is no shorter training."
        pictures.append(Picture(file, "Log-likelihood against time", caption))
    splits = {
        name: {part.replace("_", " "): value for part, value in row["milliseconds"].items() if value is not None}
        for name, row in measured.items()
        if row["milliseconds"]
    }
    if splits:
        pictures.append(Picture(save_figure(time_split(splits), out / "figures" / "steps.png"), "Where a step's time goes"))
    machine = results["environment"]
    listings = {"Configuration": results["settings"]["config"], "Environment": json.dumps(machine, indent=2)}
    subtitle = (
        f"{results['settings']['seconds']:g} seconds each; {machine['processor'] or machine['device']}, "
        f"{machine['threads']} threads, device {machine['device']}; qvae {results['qvae']}, {results['created'][:10]}"
    )
    sections = [
        Section("Training", tables=[training_table(results)], pictures=pictures),
        Section("Configuration and environment", listings=listings),
    ]
    atomic_write_text(out / "report.html", render_page("Training, sampler by sampler", subtitle, sections))
    return out / "report.html"
