"""From a configuration to a trained, evaluated and reported run folder: train, resume, plan, evaluate, report."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from qvae.checkpoint import load_checkpoint
from qvae.config.load import dump_config, load_config
from qvae.config.paths import settled
from qvae.config.schema import Config, EvaluationConfig, SamplerConfig
from qvae.errors import ConfigError, ExecutorError, RunError, in_a_line
from qvae.evaluation.distances import PriorSamples
from qvae.evaluation.evaluate import Evaluation, evaluate_model
from qvae.evaluation.executor_loss import ExecutorLoss
from qvae.files import atomic_write_text, from_here, from_user, require_plain
from qvae.models.vqgan import VQGAN
from qvae.progress import Progress, Sturdy, is_interactive
from qvae.reporting.compare import write_comparison
from qvae.reporting.page import Table
from qvae.reporting.pictures import draw_pictures, picture_files
from qvae.reporting.report import evaluated, write_report
from qvae.reporting.twins import twins_beside, twins_table
from qvae.runs.assemble import Parts, assemble
from qvae.runs.backends import needed_words
from qvae.runs.environment import environment
from qvae.runs.folder import (
    CHECKPOINT,
    CONFIG,
    ENVIRONMENT,
    EVALUATION,
    METRICS,
    REPORT,
    existing_run,
    held_by_first,
    keep_metrics_until,
    new_folder,
    numbered,
    run_config,
)
from qvae.runs.game import remarks_on_autoencoder
from qvae.runs.lock import writing
from qvae.runs.models import Held
from qvae.runs.old_checkpoints import upgraded
from qvae.runs.on_executor import losses_before, measured_loss, measures_here
from qvae.runs.run import Run, load_run, require_same_data, require_same_model
from qvae.runs.states import require_resumable, shape_of
from qvae.sampling.abilities import Metered
from qvae.sampling.sampler import LatentSampler
from qvae.training import ranks
from qvae.training.threads import threads_for
from qvae.training.trainer import Trainer
from qvae.trust import remember

_FEW_STEPS = 10  # in an epoch, below which its figures are means of little


def train(
    config: Config | str | Path | None = None,
    out: str | Path | None = None,
    progress: Progress | None = None,
    data: Any = None,
    sampler: LatentSampler | None = None,
    observers: Iterable[Callable[[Any, Mapping[str, Any]], object]] = (),
) -> Run:
    """Train a model, evaluate it and leave a run folder.

    Args:
        config: a configuration, a YAML file, or the name of a shipped one; None is ``digits``.
        out: the folder; None makes ``runs/<data>-<sampler>-<time>``. In a notebook or at a prompt, where the same call is made
            again, a folder that holds a run gets a number.
        progress: told what is going on; None prints lines in a notebook or at a prompt, and is silent in a script.
        data: from memory in place of those of ``config``: a :class:`~qvae.data.Dataset`, training data as
            :func:`~qvae.data.dataset_from_arrays` takes them, or a dict of its arguments. The folder doesn't
            keep them.
        sampler: an object in place of the one that ``config`` names. The folder can't keep it either: ``config.yaml`` says
            ``memory`` and its class, and it must be given again. What it has in ``state_dict`` is kept. It isn't closed.
        observers: functions of the model as it trains, to be left as it is, and of the last epoch's figures, as they stand in
            ``metrics.jsonl``; called at the end of every epoch, outside of the training's clock. Gradients that they keep they
            clone: a step writes its own in the same place.

    Of several processes that torchrun has started each calls this. The first one alone writes, evaluates and reports; the
    others return as soon as the training has ended, with a run that isn't evaluated yet.

    Raises:
        ConfigError, DataError, SamplerError, ExecutorError, RunError: something is wrong with what was asked for, found before
            training.
        RanksError: of several processes one doesn't come, or ends; the last checkpoint stands.
        TrainingDiverged: the surrogate is no longer finite.
    """
    progress = _joined(progress)
    config = settled(config if isinstance(config, Config) else load_config(config), data)
    if sampler is not None:
        _give(config, sampler)
    ranks.require_same(dump_config(config), "configuration")
    if out is not None and is_interactive() and (free := numbered(from_user(out))) != from_user(out):
        progress.say(f"{out} holds a run already; this one goes to {from_here(free)}")
        out = free
    with held_by_first(new_folder(out, config)) as folder:
        parts = assemble(folder, config, progress, data)
        parts.trainer.observers = list(observers)
        if isinstance(parts.sampler, Metered):
            parts.sampler.begin()
        progress.say(f"training on {config.data.name} with {config.trained_by}")
        for remark in (*parts.dataset.remarks, *remarks_on_size(parts.trainer), *remarks_on_autoencoder(config.model)):
            progress.say(remark)
        if ranks.is_first():
            (folder / METRICS).unlink(missing_ok=True)  # of a run that was killed before its first checkpoint
            # In this order: a folder with a configuration alone may be its user's.
            atomic_write_text(folder / ENVIRONMENT, json.dumps(environment(parts.objective.device), indent=2) + "\n")
            atomic_write_text(folder / CONFIG, dump_config(config))
        return _fit_and_evaluate(folder, config, parts, progress)


def resume(
    folder: str | Path,
    overrides: Iterable[str] = (),
    progress: Progress | None = None,
    data: Any = None,
    trust: Iterable[str] = (),
    sampler: LatentSampler | None = None,
    observers: Iterable[Callable[[Any, Mapping[str, Any]], object]] = (),
) -> Run:
    """Continue a run from its checkpoint; without interruption it would have ended with the same weights.

    Args:
        folder: of the run.
        overrides: ``a.b=c`` on top of the run's own configuration, as a longer ``training.epochs`` or another sampler.
        progress: told what is going on; None prints lines in a notebook or at a prompt, and is silent in a script.
        data: of a run on data from memory, as they were given to :func:`train`.
        trust: of what the run's samplers name, as in :func:`load_run`.
        sampler: the object of a run that was trained with one, or another one from here on.
        observers: as in :func:`train`; a run doesn't keep them.

    Raises:
        ConfigError: ``overrides`` change what a run can't change on its way.
        RunError: there is nothing to resume, the checkpoint is damaged, or it is of another model.
    """
    progress = _joined(progress)
    path = existing_run(folder)
    overrides = list(overrides)
    with ExitStack() as stack:
        ranks.first_does(lambda: stack.enter_context(writing(path)))
        before, config = run_config(path), settled(run_config(path, overrides, trust))
        if sampler is not None:
            _give(config, sampler)
        if _fixed(config) != _fixed(before):
            raise ConfigError(
                "the model, the binarization, training.seed, training.batch_size, training.validation, training.optimizer and "
                f"training.circuit_gradient of the run in {path} can't be changed when it is resumed; start a new run."
            )
        parts = _resumed_parts(path, config, before, progress, data)
        trainer = parts.trainer
        trainer.observers = list(observers)
        if trainer.is_finished and (path / EVALUATION).exists():
            parts.close(progress.warn)
            longer = "for more epochs: --set training.epochs=NUMBER"
            if trainer.stopping.has_ended:
                longer = "for more patience: --set training.early_stopping=NUMBER (null: to the end)"
            progress.say(f"{from_here(path)} is finished, at {_place(trainer)}; for a longer training ask {longer}")
            ranks.part()
            return _with_report(load_run(path, data=data, trust=trust, sampler=sampler), progress)
        if ranks.is_first():
            keep_metrics_until(path, trainer.step)
            if config != before:
                atomic_write_text(path / CONFIG, dump_config(config))
        progress.say(f"resuming {from_here(path)} at {_place(trainer)}")
        return _fit_and_evaluate(path, config, parts, progress)


def _resumed_parts(path: Path, config: Config, before: Config, progress: Progress, data: Any) -> Parts:
    """What a run goes on with, in the state of its checkpoint."""
    if not (path / CHECKPOINT).exists():
        raise RunError(f"{path} holds no {CHECKPOINT}: the run ended before its first checkpoint; leave --resume out.")
    state = load_checkpoint(path / CHECKPOINT)
    require_same_model(state.get("config"), config.model, path / CHECKPOINT)
    shape, _, edges = shape_of(state, path / CHECKPOINT)
    require_resumable(state, path / CHECKPOINT)
    parts = assemble(path, config, progress, data, edges, held=Held.of_state(state, path / CHECKPOINT))
    for backend in ("sampler", "executor"):
        if getattr(config, backend).label != getattr(before, backend).label:
            state[backend] = {}
    try:
        require_same_data(parts.dataset, shape, state.get("data"), path)
        parts.trainer.load_state_dict(upgraded(state, config.model.latent))
    except BaseException as error:
        parts.close(progress.warn)
        if not isinstance(error, LookupError | AttributeError | RuntimeError | ValueError | TypeError | ArithmeticError):
            raise
        reason = " ".join(str(error).split())[:200]
        raise RunError(f"{path / CHECKPOINT} doesn't fit this version or model ({reason}); train anew.") from error
    return parts


def _joined(progress: Progress | None) -> Sturdy:
    """Meet the other processes, if torchrun has started some; the first one shows what goes on."""
    ranks.join()
    shown = Sturdy.around(progress if ranks.is_first() else Progress())
    if ranks.count() > 1:
        shown.say(f"{ranks.count()} processes train together, each with its part of every batch")
    return shown


def _give(config: Config, sampler: LatentSampler) -> None:
    """Have a configuration name a sampler object."""
    if not config.model.has_boltzmann_prior:
        raise ConfigError("a sampler is given, but the model has no Boltzmann prior that it could sample; leave it out.")
    config.sampler = SamplerConfig.of(sampler)


def evaluate(run: Run, settings: EvaluationConfig | None = None, progress: Progress | None = None) -> Evaluation:
    """All numbers of a run on its test rows, by exact amplitudes; writes ``evaluation.json``.

    What a circuit loses on the run's own executor is measured, too, where that measures shots and isn't remote; rows of
    other executors, by :func:`measure`, stay.

    Args:
        run: with its data within reach.
        settings: other settings than the run's own.
        progress: told what is going on; None prints lines in a notebook or at a prompt, and is silent in a script.

    Raises:
        RunError: another process writes into the run's folder.
    """

    def draw(count: int) -> PriorSamples:
        return PriorSamples(run.prior_codes(count), run.samples_warning)

    with writing(run.path):
        require_plain(run.path)
        progress, settings = Sturdy.around(progress), settings or run.config.evaluation
        found = evaluate_model(run.model, run.dataset, settings, draw, progress)
        _write_evaluation(run, found.to_dict() | {"executors": losses_before(run)})
        try:
            if measures_here(run):
                measure(run, settings=settings, progress=progress)
        except ExecutorError as error:
            progress.warn(f"the run's own executor wasn't measured ({in_a_line(error)})")
        return found


def measure(
    run: Run, executor: str | None = None, settings: EvaluationConfig | None = None, progress: Progress | None = None
) -> ExecutorLoss:
    """What a run's model loses where an executor runs its circuit; a row of it goes into ``evaluation.json``.

    Args:
        run: that was evaluated, with its data within reach.
        executor: ``NAME[:OPTION=VALUE,...]``; None is the run's own.
        settings: as of :func:`evaluate`.
        progress: as of :func:`evaluate`.

    Raises:
        ExecutorError: the executor can't be had or fails, or the model has no circuit.
        RunError: the run was never evaluated, or another process writes into its folder.
    """
    with writing(run.path):
        require_plain(run.path)
        found = evaluated(run)
        loss = measured_loss(run, executor, settings or run.config.evaluation, Sturdy.around(progress))
        others = [row for row in found.get("executors", []) if row["executor"] != loss.executor]
        _write_evaluation(run, found | {"executors": [*others, loss.to_dict()]})
        return loss


def report(run: Run, progress: Progress | None = None) -> Path:
    """Draw a run's pictures and write its ``report.html``; a picture that can't be drawn is left out, with a warning.

    Raises:
        RunError: the run was never evaluated, or by a version that knew less, or another process writes into its folder.
    """
    progress = Sturdy.around(progress)
    with writing(run.path):
        require_plain(run.path)
        found = evaluated(run)
        started = time.perf_counter()
        with progress.work("drawing pictures") as tell:
            files = draw_pictures(run, lambda share: tell(share, ""), progress.warn)
        found["seconds"]["pictures"] = round(time.perf_counter() - started, 2)
        _write_evaluation(run, found)
        twins = twins_beside(run)
        return write_report(run, files, twins_table(twins) if twins else None)


def write_page(run: Run, twins: Table) -> Path:
    """A run's ``report.html`` again, with a table of its twins, around the pictures that are there.

    Raises:
        RunError: as :func:`report`.
    """
    with writing(run.path):
        require_plain(run.path)
        return write_report(run, picture_files(run.path), twins)


def compare(runs: Sequence[Run], out: str | Path) -> tuple[Path, Path]:
    """Runs side by side, in an HTML file ``out`` and a PNG of the same name; draws the pictures of those that have none.

    Raises:
        RunError: fewer than two runs, or one that was never evaluated.
    """
    if len(runs) < 2:
        raise RunError("a comparison needs two runs or more: qvae compare RUN RUN ...")
    for run in runs:
        if not (run.path / REPORT).exists():
            report(run)
    return write_comparison(runs, from_user(out))


def _write_evaluation(run: Run, found: dict[str, Any]) -> None:
    atomic_write_text(run.path / EVALUATION, json.dumps(found, indent=2) + "\n")


def _fit_and_evaluate(folder: Path, config: Config, parts: Parts, progress: Progress) -> Run:
    words = needed_words(config, folder)  # all of them said, or the samplers hadn't been made
    if ranks.is_first():
        remember(folder, words)
    trainer, first, save = parts.trainer, parts.trainer.step, parts.trainer.save

    def save_anew(trainer: Trainer) -> None:
        if trainer.step > first and ranks.is_first():
            for stale in (EVALUATION, REPORT):  # they are of the weights before
                (folder / stale).unlink(missing_ok=True)
        save(trainer)

    trainer.save = save_anew
    try:
        with threads_for(trainer.model, parts.objective.device, config.training.batch_size, progress.say):
            trainer.fit()
    finally:
        parts.close(progress.warn)
    ranks.part()
    run = load_run(folder, trust=words, sampler=config.sampler.given)
    run.dataset = parts.dataset
    if run.evaluation is None and ranks.is_first():
        evaluate(run, progress=progress)
    return _with_report(run, progress)


def _with_report(run: Run, progress: Progress) -> Run:
    """The run, with a report if one can be made: else it can be later, and the numbers stand."""
    if ranks.is_first() and not (run.path / REPORT).exists():
        try:
            report(run, progress)
        except Exception as error:
            progress.warn(f"there is no report ({in_a_line(error)}); make it with: qvae report {from_here(run.path)}")
    return run


def remarks_on_size(trainer: Trainer) -> list[str]:
    """What the figures of a small training set mean."""
    rows, steps = len(trainer.rows), trainer.steps_per_epoch
    if steps >= _FEW_STEPS:
        return []
    takes_validation = not isinstance(trainer.model, VQGAN) and not len(trainer.held_out)
    seen = "; --set training.validation=0.1 shows overfitting, which is likely" if takes_validation else ""
    return [f"{rows:,} training rows make {steps} step{'s' * (steps > 1)} an epoch, so figures of one epoch are rough{seen}"]


def _place(trainer: Trainer) -> str:
    """Where a training stands, in words."""
    if trainer.step > trainer.total_steps:
        asked = f"the {trainer.total_steps} that training.epochs={trainer.config.epochs} asks for"
        return f"step {trainer.step}, which is beyond {asked}, and steps that are made stay made"
    return f"step {trainer.step} of {trainer.total_steps}"


def _fixed(config: Config) -> tuple[Any, ...]:
    """What a resumed run must have in common with the one before; its data may have moved."""
    training = config.training
    moving = training.optimizer, training.circuit_gradient
    return config.model, config.data.binarization, training.seed, training.batch_size, training.validation, *moving
