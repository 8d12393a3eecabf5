"""One run of a study, of which many are made: what is finished isn't made again, and what was cut short goes on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from qvae import workflow
from qvae.config.paths import settled
from qvae.config.schema import Config
from qvae.errors import ConfigError
from qvae.files import from_here
from qvae.progress import Progress
from qvae.runs.folder import CHECKPOINT, EVALUATION, REPORT, existing_run, run_config
from qvae.runs.run import Run, load_run


def is_finished(config: Config, folder: Path) -> bool:
    """Whether a folder holds the run of a configuration, trained, evaluated and with its report.

    Raises:
        ConfigError: it holds one of another configuration.
    """
    if not (folder / CHECKPOINT).exists():
        return False
    if run_config(existing_run(folder)) != settled(config):
        raise ConfigError(f"{from_here(folder)} holds a run of another configuration; choose another --out.")
    return (folder / EVALUATION).exists() and (folder / REPORT).exists()


def make(
    config: Config,
    folder: Path,
    progress: Progress,
    observers: Iterable[Callable[[Any, Mapping[str, Any]], object]] = (),
) -> Run:
    """The finished run of a configuration: trained, or continued from its checkpoint, or only reported, or opened.

    Args:
        config: of the run.
        folder: of the run.
        progress: told what is going on.
        observers: as of :func:`qvae.train`.

    Raises:
        ConfigError: as :func:`is_finished`.
        QvaeError: as :func:`qvae.train`.
    """
    if is_finished(config, folder):
        return load_run(folder, trust=config.trust.words)
    if not (folder / CHECKPOINT).exists():
        return workflow.train(config, folder, progress, observers=observers)
    if not (folder / EVALUATION).exists():
        return workflow.resume(folder, progress=progress, trust=config.trust.words, observers=observers)
    run = load_run(folder, trust=config.trust.words)  # it was cut short while its pictures were drawn
    workflow.report(run, progress)
    return run
