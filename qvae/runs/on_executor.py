"""A run's circuit on a chosen executor, such as hardware, where evaluation takes exact amplitudes: used there, and measured."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from qvae.config.schema import EvaluationConfig
from qvae.errors import ExecutorError, RunError
from qvae.evaluation.executor_loss import ExecutorLoss, executor_loss, quality
from qvae.models.autoencoder import Autoencoder
from qvae.progress import Progress
from qvae.runs.backends import chosen_executor
from qvae.runs.run import Run
from qvae.sampling.closing import close

_LONG_SECONDS = 30.0  # of a measurement, which a user is told of


@contextmanager
def running_on(run: Run, executor: str | None = None, seed: int | None = None) -> Iterator[Autoencoder]:
    """The model, whose circuit, if it has one, is run by an executor while the block runs.

    Args:
        run: with the model.
        executor: ``NAME[:OPTION=VALUE,...]``; None is the run's own.
        seed: of it; None is the run's own.

    Raises:
        ExecutorError: it can't be had, or the model has no circuit.
    """
    model = run.model
    layer = model.circuit
    if layer is None:
        if executor is not None:
            raise ExecutorError(f"this model has no circuit for executor {executor!r} to run; leave it out.")
        yield model
        return
    exact, chosen = layer.executor, run.executor(executor, seed)
    layer.executor = chosen
    try:
        yield model
    finally:
        layer.executor = exact
        close(chosen)


def measures_here(run: Run) -> bool:
    """Whether the run's own executor measures its circuit, so that something is lost, and waits for no machine elsewhere.

    Raises:
        ExecutorError: it can't be had.
    """
    if not run.config.model.has_circuit:
        return False
    executor = run.executor()
    close(executor)
    return not (executor.capabilities.exact or executor.capabilities.remote)


def losses_before(run: Run) -> list[dict[str, Any]]:
    """What executors lost, as ``evaluation.json`` says; nothing where it is damaged, or there is none yet."""
    try:
        return (run.evaluation or {}).get("executors", [])
    except RunError:
        return []


def measured_loss(run: Run, executor: str | None, settings: EvaluationConfig, progress: Progress) -> ExecutorLoss:
    """What the run's model loses on an executor.

    Args:
        run: of a model with a circuit, and with its data within reach.
        executor: ``NAME[:OPTION=VALUE,...]``; None is the run's own.
        settings: number of rows and samples, and the seed.
        progress: told what is going on, and beforehand if it takes long.

    Raises:
        ExecutorError: the executor can't be had or fails, or the model has no circuit.
    """
    label = chosen_executor(run.config, executor).label
    with running_on(run, executor) as model, progress.work(f"measuring on {label}") as report:
        started, announced = time.perf_counter(), False

        def advance(done: int, total: int) -> None:
            nonlocal announced
            expected = (time.perf_counter() - started) * total / done
            if expected > _LONG_SECONDS and not announced:
                progress.say(
                    f"measuring on {label} takes about {expected:,.0f} s: {total:,} circuits; fewer: evaluation.num_test or "
                    "evaluation.num_generated"
                )
                announced = True
            report(done / total, "")

        measured = quality(model, run.dataset, settings, advance)
        seconds = round(time.perf_counter() - started, 2)
    exact = quality(run.model, run.dataset, settings)
    return executor_loss(label, exact, measured, seconds, run.dataset, run.device)
