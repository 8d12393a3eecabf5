"""A run's folder: the names of its files, and which folder a run is in or goes to."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from qvae.config.load import dump_config, load_config
from qvae.config.schema import Config
from qvae.errors import QvaeError, RunError
from qvae.files import atomic_write_text, from_here, from_user, require_plain
from qvae.runs.lock import LOCK, writing
from qvae.runs.records import Epoch, file_bytes, parse_record
from qvae.training import ranks
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


def choose_folder(out: str | Path | None, config: Config) -> Path:
    """A folder for a new run, absolute and not made yet.

    Raises:
        RunError: ``out`` holds a run already, or something else.
    """
    if out is None:
        kind = config.sampler.name if config.model.kind == "qvae" else config.model.kind
        name = f"{Path(config.data.name).stem}-{kind}-{time.strftime('%Y%m%d-%H%M%S')}"
        folders = (from_user(Path("runs", f"{name}-{k}" if k else name)) for k in itertools.count())
        return next(folder for folder in folders if not folder.exists())
    folder = from_user(out)
    _require_free(folder)
    return folder


@contextmanager
def new_folder(out: str | Path | None, config: Config) -> Iterator[Path]:
    """A folder for a new run, made by this process alone and held while the block writes there; left empty, it goes again.

    Raises:
        RunError: as :func:`choose_folder`, it can't be made, or another process writes there.
    """
    while True:
        folder = choose_folder(out, config)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        try:
            folder.mkdir(parents=True)
            break
        except FileExistsError:
            if out is not None:  # the lock says whose it is
                break
        except OSError as error:
            here = from_here(folder)
            raise RunError(f"the run folder {here} can't be made: {error.strerror}; choose another --out.") from error
    try:
        with writing(folder):
            _require_free(folder)
            yield folder
    finally:
        for path in missing:
            with suppress(OSError):  # it isn't empty
                path.rmdir()


@contextmanager
def held_by_first(folder: AbstractContextManager[Path]) -> Iterator[Path]:
    """The folder that the first of several processes makes and holds; the others know where it is."""
    with ExitStack() as stack:
        yield Path(ranks.first_does(lambda: str(stack.enter_context(folder))))


def _require_free(folder: Path) -> None:
    """Raise a RunError unless a new run may be written there: nothing is lost that wasn't ours, or was of use."""
    here = from_here(folder)
    if folder.exists() and not folder.is_dir():
        raise RunError(f"{here} is a file, so no run can be written there; choose another --out.")
    require_plain(folder)
    if (folder / CHECKPOINT).exists() or (folder / MODEL).exists():
        raise RunError(f"{here} already holds a run; add --resume to continue it, or choose another --out.")
    if folder.exists() and any(entry.name != LOCK for entry in folder.iterdir()) and not _was_begun(folder):
        raise RunError(f"{here} is not empty and not a run; choose another --out.")


def _was_begun(folder: Path) -> bool:
    """Whether a folder is that of a run which ended before its first checkpoint: both files are there as a run writes them."""
    try:
        environment = json.loads(file_bytes(folder / ENVIRONMENT))
        file = folder / CONFIG
        is_ours = not file.exists() or file_bytes(file).decode() == dump_config(load_config(file))
    except (OSError, ValueError, QvaeError):
        return False
    return is_ours and isinstance(environment, dict) and "qvae" in environment


def numbered(folder: Path) -> Path:
    """The folder, or, where it holds a run, the first of ``folder-2``, ``folder-3``... that isn't there."""
    if not (folder / MODEL).exists():
        return folder
    candidates = (folder.with_name(f"{folder.name}-{number}") for number in range(2, 10_000))
    return next(path for path in candidates if not path.exists())


def existing_run(path: str | Path) -> Path:
    """The folder, absolute, if it is a run.

    Raises:
        RunError: it doesn't exist or holds no run, or something in it leads out of it.
    """
    folder = from_user(path)
    if not folder.exists():
        raise RunError(f"there is no folder {path}; `qvae train` prints where its run folder is.")
    if not (folder / CONFIG).is_file():
        raise RunError(f"{path} is not a run folder: it holds no {CONFIG}; `qvae train` prints where its run folder is.")
    require_plain(folder)
    return folder


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


def latest_run(configs: Sequence[Config] | None = None) -> Path:
    """The folder under ``runs/`` that was trained last, of those of one of the configurations; None takes any.

    Raises:
        RunError: there is none.
    """
    folders = [file.parent for file in from_user("runs").glob(f"*/{CHECKPOINT}")]
    if configs is not None:
        folders = [folder for folder in folders if _config_or_none(folder) in configs]
    if not folders:
        of = "" if configs is None else " of this configuration"
        raise RunError(f"there is no run{of} in ./runs to resume; name its folder with --out.")
    return max(folders, key=lambda folder: (folder / CHECKPOINT).stat().st_mtime)


def _config_or_none(folder: Path) -> Config | None:
    try:
        return load_config(folder / CONFIG)
    except QvaeError:
        return None


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
