"""A run's folder: the names of its files, and which folder a run is in or goes to."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.errors import RunError
from qvae.files import atomic_write_text

CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"
METRICS = "metrics.jsonl"
CHECKPOINT = "checkpoint.safetensors"
MODEL = "model.safetensors"
SPINS = "prior_samples.safetensors"
EVALUATION = "evaluation.json"
REPORT = "report.html"
FILM = "latent_film.gif"
FIGURES = "figures"
TENSORBOARD = "tensorboard"
GENERATED = "generated.npz"
RECONSTRUCTIONS = "reconstructions.npz"


def choose_folder(out: str | Path | None, config: Config) -> Path:
    """A folder for a new run, not made yet.

    Raises:
        RunError: ``out`` holds a run already, or something else.
    """
    if out is None:
        name = f"{Path(config.data.name).stem}-{config.sampler.name}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = next(p for k in range(10_000) if not (p := Path("runs", f"{name}-{k}" if k else name)).exists())
    else:
        folder = Path(out)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{folder} is a file, so no run can be written there; choose another --out.")
    if (folder / CHECKPOINT).exists() or (folder / MODEL).exists():
        raise RunError(f"{folder} already holds a run; add --resume to continue it, or choose another --out.")
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise RunError(f"{folder} is not empty and not a run; choose another --out.")
    return folder


def numbered(folder: Path) -> Path:
    """The folder, or, where it holds a run, the first of ``folder-2``, ``folder-3``... that isn't there."""
    if not (folder / MODEL).exists():
        return folder
    candidates = (folder.with_name(f"{folder.name}-{number}") for number in range(2, 10_000))
    return next(path for path in candidates if not path.exists())


def existing_run(path: str | Path) -> Path:
    """The folder, if it is a run.

    Raises:
        RunError: it doesn't exist or holds no run.
    """
    folder = Path(path)
    if not folder.exists():
        raise RunError(f"there is no folder {folder}; `qvae train` prints where its run folder is.")
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run folder: it holds no {CONFIG}; `qvae train` prints where its run folder is.")
    return folder


def latest_run(name: str | None = None) -> Path:
    """The folder under ``runs/`` that was trained last, of those on the data of the configuration ``name``.

    Raises:
        RunError: there is none.
    """
    data = Path(load_config(name).data.name).stem if name else ""
    folders = [file.parent for file in Path("runs").glob(f"{data}*/{CHECKPOINT}")]
    if not folders:
        raise RunError(f"there is no run{f' of {name}' if name else ''} in ./runs to resume; name its folder with --out.")
    return max(folders, key=lambda folder: (folder / CHECKPOINT).stat().st_mtime)


# Metrics --------------------------------------------------------------------------------------------------------------


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """One mapping per epoch; empty before the first one's end."""
    return [row for row in map(_metrics_row, _metrics_lines(folder)) if row]


def keep_metrics_until(folder: Path, step: int) -> None:
    """Drop the epochs after a checkpoint: they are about to be run again."""
    if (folder / METRICS).exists():
        kept = [line for line in _metrics_lines(folder) if (row := _metrics_row(line)) and row["step"] <= step]
        atomic_write_text(folder / METRICS, "".join(f"{line}\n" for line in kept))


def _metrics_lines(folder: Path) -> list[str]:
    file = folder / METRICS
    return file.read_text(encoding="utf-8").splitlines() if file.exists() else []


def _metrics_row(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None if it was cut off when the run was killed."""
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None
