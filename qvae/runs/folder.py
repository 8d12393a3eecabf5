"""A run's folder: the names of its files, and which folder a run is in or goes to."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.errors import RunError
from qvae.files import atomic_write_text
from qvae.runs.records import Epoch, file_bytes, parse_record
from qvae.trust import remember, remembered

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
    _require_plain(folder)
    if (folder / CHECKPOINT).exists() or (folder / MODEL).exists():
        raise RunError(f"{folder} already holds a run; add --resume to continue it, or choose another --out.")
    if folder.exists() and any(folder.iterdir()) and not (folder / CONFIG).exists():
        raise RunError(f"{folder} is not empty and not a run; choose another --out.")
    return folder


def existing_run(path: str | Path) -> Path:
    """The folder, if it is a run.

    Raises:
        RunError: it doesn't exist or holds no run, or something in it leads out of it.
    """
    folder = Path(path)
    if not folder.exists():
        raise RunError(f"there is no folder {folder}; `qvae train` prints where its run folder is.")
    if not (folder / CONFIG).is_file():
        raise RunError(f"{folder} is not a run folder: it holds no {CONFIG}; `qvae train` prints where its run folder is.")
    _require_plain(folder)
    return folder


def _require_plain(folder: Path) -> None:
    """Raise unless all in a folder are files and folders: what a link leads to would be read, shown or overwritten."""
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            mode = os.lstat(os.path.join(above, name)).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                what = "a link" if stat.S_ISLNK(mode) else "no file, but a device or pipe"
                raise RunError(
                    f"{os.path.join(above, name)} is {what}; a run folder holds its files themselves: remove it, or put a "
                    "copy in its place."
                )


def run_config(folder: Path, overrides: Iterable[str] = (), trust: Iterable[str] = ()) -> Config:
    """The configuration of a run; words that the user says now are remembered for it, beside those said before.

    Raises:
        ConfigError: it is none.
    """
    said = frozenset(trust)
    config = load_config(folder / CONFIG, overrides, trust=said | remembered(folder))
    if said:
        remember(folder, said)
    return config


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
    """One mapping per epoch; empty before the first one's end. A last line that a kill cut off is left out.

    Raises:
        RunError: another line is damaged.
    """
    rows, lines = [], _metrics_lines(folder)
    for number, line in enumerate(lines, start=1):
        row = _metrics_row(line)
        if row is not None:
            rows.append(row)
        elif number < len(lines) or line.endswith("}"):
            raise RunError(f"line {number} of {folder / METRICS} is damaged; remove it, or restore the file from a copy.")
    return rows


def keep_metrics_until(folder: Path, step: int) -> None:
    """Drop the epochs after a checkpoint: they are about to be run again."""
    if (folder / METRICS).exists():
        kept = [line for line in _metrics_lines(folder) if (row := _metrics_row(line)) and row["step"] <= step]
        atomic_write_text(folder / METRICS, "".join(f"{line}\n" for line in kept))


def _metrics_lines(folder: Path) -> list[str]:
    file = folder / METRICS
    return file_bytes(file).decode(errors="replace").splitlines() if file.exists() else []


def _metrics_row(line: str) -> dict[str, Any] | None:
    """A line of the metrics; None if it is none, as one that was cut off when the run was killed."""
    try:
        return parse_record(line, Epoch)
    except ValueError:
        return None
