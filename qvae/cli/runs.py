"""`qvae train`, `evaluate`, `report` and `compare`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qvae.cli.options import ConfigName, RunFolder, Set
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import (
    fail,
    from_here,
    make_console,
    print_evaluation,
    print_facts,
    print_files,
    print_table,
)
from qvae.errors import ConfigError, DataError, QvaeError, RunError

if TYPE_CHECKING:
    from qvae.runs.run import Run


def train(
    config: ConfigName = None,
    model: Annotated[str | None, typer.Option(metavar="KIND", help="Kind of model, at its defaults for these data.")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler of the negative phase.")] = None,
    overrides: Set = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/... if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, or the latest one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what training would take and cost, and stop.")] = False,
) -> None:
    """Train a model, evaluate it, and leave a run folder."""
    from qvae import workflow
    from qvae.config.load import load_config
    from qvae.runs.folder import REPORT, choose_folder, latest_run

    console = make_console()
    progress = ConsoleProgress(console)
    settings = [*([f"sampler.name={sampler}"] if sampler else []), *(overrides or [])]
    if dry_run:
        if resume:
            raise ConfigError("--dry-run is of a new run; leave --resume out.")
        print_facts(console, workflow.plan(load_config(config, settings, model), out))
        console.print("nothing was spent or written")
        return
    if resume:
        if out is not None and config is not None:
            raise ConfigError(f"--resume goes on with the configuration in {out}; leave {config!r} out, or use --set.")
        if model is not None:
            raise ConfigError(f"--resume goes on with the model that there is; leave --model {model} out.")
        folder = out or latest_run(config)
        finished = _resumable(progress, lambda: workflow.resume(folder, settings, progress), folder)
    else:
        chosen = load_config(config, settings, model)
        folder = choose_folder(out, chosen)
        progress.say(f"training on {chosen.data.name} with sampler {chosen.sampler.name}")
        finished = _resumable(progress, lambda: workflow.train(chosen, folder, progress), folder)
    print_evaluation(console, finished)
    path = from_here(finished.path)
    console.print(f"run folder: {path}\nreport: {path / REPORT}", style="bold", soft_wrap=True)


def _resumable(progress: ConsoleProgress, work: Callable[[], Run], folder: Path) -> Run:
    """Do the work; where it is cut short, say how to go on."""
    try:
        return work()
    except (KeyboardInterrupt, QvaeError, OSError) as error:
        from qvae.runs.folder import CHECKPOINT

        refused = isinstance(error, ConfigError | DataError | RunError)
        if not refused and (folder / CHECKPOINT).exists():
            progress.say(f"to go on from the last checkpoint: qvae train --resume --out {folder}")
        if isinstance(error, KeyboardInterrupt):
            fail("interrupted", 130)
        raise


def evaluate(run: RunFolder, overrides: Set = None) -> None:
    """ELBO and importance-weighted log-likelihood, again or with other settings (--set importance_samples=1000)."""
    from qvae import workflow
    from qvae.runs.run import load_run

    console = make_console()
    sections = ("evaluation.", "data.")
    settings = [text if text.startswith(sections) else f"evaluation.{text}" for text in overrides or []]
    opened = load_run(run, settings)
    workflow.evaluate(opened, progress=ConsoleProgress(console))
    print_evaluation(console, opened)


def report(run: RunFolder, overrides: Set = None) -> None:
    """Draw the pictures again and write report.html, one file to send to a colleague."""
    from qvae import workflow
    from qvae.runs.run import load_run

    console = make_console()
    print_files(console, [workflow.report(load_run(run, overrides or []), ConsoleProgress(console))])


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The HTML file; a PNG goes beside it.")] = Path("comparison.html"),
) -> None:
    """Runs side by side: the same numbers and pictures, for instance one run per sampler."""
    from qvae import workflow
    from qvae.reporting.compare import comparison_table
    from qvae.runs.run import load_run

    console = make_console()
    opened = [load_run(run) for run in runs]
    files = workflow.compare(opened, out)
    print_table(console, comparison_table(opened))
    print_files(console, files)
