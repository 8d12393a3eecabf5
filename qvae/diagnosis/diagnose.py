"""Where the gradients of a run or a configuration vanish or explode, and what helps: measured, and left in a folder."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import qvae
from qvae.config.load import dump_config, is_configuration, load_config, shipped_configs
from qvae.config.schema import Config
from qvae.diagnosis.layers import judged
from qvae.diagnosis.outcome import Diagnosis, Trial
from qvae.diagnosis.plateau import look_for_plateau
from qvae.diagnosis.report import write_report
from qvae.errors import ConfigError, RunError, nearest
from qvae.files import atomic_write_text, from_user
from qvae.progress import Progress, Report, Sturdy
from qvae.runs.assemble import Parts, assemble
from qvae.runs.folder import CONFIG, FIGURES, REPORT
from qvae.runs.models import Held
from qvae.runs.output import has_keys, output_folder
from qvae.runs.run import Run, load_run
from qvae.runs.states import shape_of
from qvae.sampling.abilities import Metered
from qvae.training.gradient_norms import GradientNorms
from qvae.training.threads import threads_for

RESULTS = "diagnosis.json"
SCHEMA = 1
_NOTED = 20  # steps of a trial
_STARTS = 100


def diagnose_gradients(
    source: Config | str | Path | None = None,
    out: str | Path = "gradients",
    steps: int = 100,
    overrides: Iterable[str] = (),
    trust: Iterable[str] = (),
    progress: Progress | None = None,
) -> Diagnosis:
    """Train for some steps and name the layers whose gradients vanish or explode; look whether a circuit has a barren plateau.

    Gradients are those of the training that ``source`` names, from its beginning, or, of a run, from the run's weights on with
    fresh optimizers. The run stays as it is. ``diagnosis.json``, pictures and ``report.html`` go to ``out``.

    Args:
        source: a configuration, a YAML file, the name of a shipped one, or a run folder; None is ``digits``.
        out: the folder, new or of an earlier diagnosis, which is replaced.
        steps: of each training.
        overrides: ``a.b=c`` on top of the configuration; of a run, too.
        trust: of what samplers name, as in :func:`qvae.load_config`.
        progress: told what is going on; None prints lines in a notebook or at a prompt, and is silent in a script.

    Raises:
        ConfigError: there is no step, or the training would cost: on an annealer, or on a remote executor.
        RunError: ``out`` holds something else, or the run is damaged.
        QvaeError: the training that is asked for can't be had.
    """
    if steps < 1:
        raise ConfigError(f"steps is {steps}; a training needs 1 or more.")
    progress = Sturdy.around(progress)
    run = _run(source, list(overrides), list(trust))
    config = run.config if run is not None else _config(source, list(overrides), list(trust))
    with _folder(out) as folder:
        with progress.work("gradients of layers") as report:
            trial = _trial(config, run, "", steps, report)
        others: tuple[Trial, ...] = ()
        if run is None and not trial.is_well:
            with progress.work("settings that might help") as report:
                others = tuple(_tried(config, steps, report))
        plateau = None
        if config.model.has_circuit:
            with progress.work("gradients of the circuit") as report:
                plateau = look_for_plateau(config.model, _STARTS, config.training.seed, report)
        name = f"{config.model.kind} on {config.data.name}" if run is None else f"the run {run.path.name}"
        found = Diagnosis(name, trial, others, plateau, folder)
        atomic_write_text(folder / RESULTS, json.dumps(_record(found, config), indent=1, allow_nan=False) + "\n")
        write_report(found)
    return found


def _run(source: Config | str | Path | None, overrides: list[str], trust: list[str]) -> Run | None:
    """The run, if a folder of one is given."""
    if isinstance(source, str | Path) and (from_user(source) / CONFIG).is_file():
        return load_run(source, overrides, trust=trust)
    return None


def _config(source: Config | str | Path | None, overrides: list[str], trust: list[str]) -> Config:
    if isinstance(source, str | Path) and not is_configuration(source):
        allowed = nearest(str(source), shipped_configs())
        raise ConfigError(f"{source} is no run folder, YAML file or shipped configuration: {allowed}.")
    if not isinstance(source, Config):
        return load_config(source, overrides, trust=trust)
    if not overrides:
        return source
    return load_config(source.model_dump(mode="json"), overrides, trust=trust).trusting(source.trust.words)


def _tried(config: Config, steps: int, report: Report) -> Iterator[Trial]:
    """The settings of a configuration that are remedies, each of them the other way."""
    network, clip = config.model.network, config.training.clip_norm
    switched = str(not network.batch_norm).lower()
    settings = [
        f"model.network.batch_norm={switched}",
        f"training.clip_norm={'1.0' if clip is None or clip > 1 else 'null'}",
        f"model.network.activation={'relu' if network.activation == 'silu' else 'silu'}",
    ]
    if network.can_be_residual:
        settings.append(f"model.network.residual={str(not network.residual).lower()}")
    for number, setting in enumerate(settings):
        report(number / len(settings), setting)
        yield _trial(_config(config, [setting], []), None, setting, steps, lambda share, figures: None)


def _trial(config: Config, run: Run | None, setting: str, steps: int, report: Report) -> Trial:
    """Train for so many steps in a folder that goes, and judge the gradients."""
    config = config.model_copy(deep=True)
    config.training.tensorboard = False
    if run is not None and config.model.circuit is not None:
        config.model.circuit.layerwise = 0.0  # all of its layers have begun
    with tempfile.TemporaryDirectory(prefix="qvae-") as folder:
        parts = _parts(Path(folder), config, run)
        try:
            _require_free_of_charge(parts)
            model = parts.trainer.model
            with threads_for(model, parts.objective.device, config.training.batch_size, lambda text: None):
                norms = GradientNorms(model, every=-(-steps // _NOTED))
                with norms:
                    for number, _ in enumerate(parts.trainer.trial(steps), 1):
                        norms.end_step()
                        report(number / steps, f"step {number:,} of {steps:,}")
            sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
            return Trial(setting, tuple(norms.steps), tuple(judged(norms, sizes)))
        finally:
            parts.close(lambda text: None)


def _parts(folder: Path, config: Config, run: Run | None) -> Parts:
    """What is trained, with the weights of a run if there is one."""
    if run is None:
        return assemble(folder, config, is_rehearsal=True)
    state = run.training_state
    if not state:
        raise RunError(f"{run.path} holds no checkpoint to go on from; diagnose its {CONFIG} instead.")
    _, _, edges = shape_of(state, run.path)
    parts = assemble(folder, config, data=run.dataset, edges=edges, is_rehearsal=True, held=Held.of_state(state, run.path))
    parts.trainer.model.load_state_dict(run.model.state_dict())
    return parts


def _require_free_of_charge(parts: Parts) -> None:
    if isinstance(parts.sampler, Metered):
        raise ConfigError("the sampler of the training costs time on an annealer; diagnose with --set sampler=gibbs.")
    if parts.objective.is_remote:
        raise ConfigError("the training waits for a remote executor or sampler; diagnose with --set executor=statevector.")


@contextmanager
def _folder(out: str | Path) -> Iterator[Path]:
    """The folder, absolute, held while the block writes there."""
    names = (RESULTS, REPORT, FIGURES)
    with output_folder(out, names) as folder:
        if any((folder / name).exists() for name in names) and not has_keys(folder / RESULTS, "schema", "qvae", "trial"):
            raise RunError(f"{out} holds files that are not of a diagnosis; choose another --out.")
        yield folder


def _record(found: Diagnosis, config: Config) -> dict[str, Any]:
    """``diagnosis.json``."""
    return {
        "schema": SCHEMA,
        "qvae": qvae.__version__,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "source": found.source,
        "config": dump_config(config),
        "trial": found.trial.to_dict(),
        "others": [trial.to_dict() for trial in found.others],
        "plateau": None if found.plateau is None else found.plateau.to_dict(),
    }
