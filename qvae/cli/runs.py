"""`qvae train`, `evaluate`, `report` and `compare`."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from qvae.cli.options import ConfigName, RunFolder, Set, Trust
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import (
    fail,
    from_here,
    leave_output,
    make_console,
    print_evaluation,
    print_facts,
    print_files,
    print_losses,
    print_table,
)
from qvae.errors import ConfigError, DataError, QvaeError, RunError
from qvae.files import from_user
from qvae.progress import Progress, Sturdy

if TYPE_CHECKING:
    from qvae.runs.run import Run


def train(
    config: ConfigName = None,
    model: Annotated[str | None, typer.Option(metavar="KIND", help="Kind of model, at its defaults for these data.")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler of the negative phase, NAME[:OPTION=VALUE,...].")] = None,
    executor: Annotated[str | None, typer.Option(help="The executor of a model's circuit, NAME[:OPTION=VALUE,...].")] = None,
    overrides: Set = None,
    trust: Trust = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/... if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue a run folder, or the latest one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what training would take and cost, and stop.")] = False,
) -> None:
    """Train a model, evaluate it, and leave a run folder."""
    from qvae import workflow
    from qvae.config.load import load_config
    from qvae.config.paths import settled
    from qvae.runs.folder import CHECKPOINT, CONFIG, REPORT, held_by_first, latest_run, new_folder
    from qvae.runs.plan import plan
    from qvae.training import ranks

    console = make_console()
    if dry_run and ranks.is_one_of_several():
        raise ConfigError("--dry-run plans what one process would do; leave torchrun out.")
    ranks.join()
    progress = Sturdy(ConsoleProgress(console) if ranks.is_first() else Progress())
    backends = {"sampler": sampler, "executor": executor}
    settings = [line for section, text in backends.items() if text for line in backend_settings(section, text)]
    settings += overrides or []
    if dry_run:
        if resume:
            raise ConfigError("--dry-run is of a new run; leave --resume out.")
        print_facts(console, plan(load_config(config, settings, model, trust or []), out))
        console.print("nothing was spent or written")
        return
    if ranks.is_restartable():
        if out is None:
            raise ConfigError("torchrun may start this training again (--max-restarts), and must find its run then: add --out.")
        checkpoint = from_user(out) / CHECKPOINT
        resume = resume or ranks.first_does(checkpoint.exists)
        config, model = (None, None) if resume else (config, model)
    if resume:
        if config is not None and out is None and (Path(config) / CONFIG).exists():
            out, config = Path(config), None
        if out is not None and config is not None:
            raise ConfigError(f"--resume goes on with the configuration in {out}; leave {config!r} out, or use --set.")
        if model is not None:
            raise ConfigError(f"--resume goes on with the model that there is; leave --model {model} out.")
        # The run may have been started with these settings, or be given them now.
        wanted = config and [settled(load_config(config, keys)) for keys in (settings, [])]
        folder = Path(ranks.first_does(lambda: str(out or latest_run(wanted or None))))
        finished = _resumable(progress, lambda: workflow.resume(folder, settings, progress, trust=trust or []), folder)
    else:
        chosen = load_config(config, settings, model, trust or [])
        with held_by_first(new_folder(out, chosen)) as folder:
            finished = _resumable(progress, lambda: workflow.train(chosen, folder, progress), folder)
    if not ranks.is_first():
        return
    print_evaluation(console, finished)
    path = from_here(finished.path)
    console.print(f"run folder: {path}", style="bold", soft_wrap=True)
    if (finished.path / REPORT).exists():
        console.print(f"report: {path / REPORT}", style="bold", soft_wrap=True)


def backend_settings(section: str, text: str) -> list[str]:
    """``NAME[:OPTION=VALUE,...]`` as overrides of a section of a configuration."""
    from qvae.config.load import parse_backend

    spec = parse_backend(text)
    options = (f"{section}.options.{key}={json.dumps(value)}" for key, value in spec.options.items())
    return [f"{section}.name={spec.name}", *options]


def _resumable(progress: Progress, work: Callable[[], Run], folder: Path) -> Run:
    """Do the work; where it is cut short, say how to go on."""
    try:
        return work()
    except (KeyboardInterrupt, QvaeError, OSError) as error:
        from qvae.runs.folder import CHECKPOINT
        from qvae.training import ranks

        folder = from_user(folder)
        refused = isinstance(error, ConfigError | DataError | RunError)
        can_go_on = not refused and (folder / CHECKPOINT).exists()
        several = "torchrun ... -m " if ranks.is_one_of_several() else ""
        how = f"to go on from the last checkpoint: {several}qvae train --resume --out {shlex.quote(str(from_here(folder)))}"
        if isinstance(error, BrokenPipeError):
            leave_output()
            fail(f"nobody reads the output any more, so this was stopped; {how}", 141)
        if can_go_on:
            progress.say(how)
        if isinstance(error, KeyboardInterrupt):
            fail("interrupted", 130)
        raise


def evaluate(
    run: RunFolder,
    executor: Annotated[
        str | None, typer.Option(help="Measure what a circuit loses there, NAME[:OPTION=VALUE,...], and nothing else.")
    ] = None,
    overrides: Set = None,
    trust: Trust = None,
) -> None:
    """ELBO and importance-weighted log-likelihood, again or with other settings (--set importance_samples=1000)."""
    from qvae import workflow
    from qvae.runs.run import load_run

    console = make_console()
    sections = ("evaluation.", "data.", "executor.")
    settings = [text if text.startswith(sections) else f"evaluation.{text}" for text in overrides or []]
    opened = load_run(run, settings, trust=trust or [])
    if executor is None:
        workflow.evaluate(opened, progress=ConsoleProgress(console))
        print_evaluation(console, opened)
    else:
        measured = workflow.measure(opened, executor, progress=ConsoleProgress(console))
        print_losses(console, opened, measured.executor)


def report(run: RunFolder, overrides: Set = None, trust: Trust = None) -> None:
    """Draw the pictures again and write report.html, one file to send to a colleague."""
    from qvae import workflow
    from qvae.runs.run import load_run

    console = make_console()
    opened = load_run(run, overrides or [], trust=trust or [])
    print_files(console, [workflow.report(opened, ConsoleProgress(console))])


def compare_twins(
    config: ConfigName = "digits-vqvae",
    seeds: Annotated[int, typer.Option(help="How often, each time with another seed.")] = 3,
    overrides: Set = None,
    trust: Trust = None,
    out: Annotated[Path, typer.Option(help="A folder of their runs; what it holds isn't trained again.")] = Path("twins"),
) -> None:
    """A circuit model beside four twins: unentangled, frozen, a perceptron, plain Gaussian latents; same budget, same seeds."""
    from qvae.config.load import load_config
    from qvae.reporting.twins import twins_table
    from qvae.twins import train_twins

    console = make_console()
    chosen = load_config(config, overrides or [], trust=trust or [])
    print_table(console, twins_table(train_twins(chosen, seeds, from_user(out), Sturdy(ConsoleProgress(console)))))


def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Run folders.")],
    trust: Trust = None,
    out: Annotated[Path, typer.Option(help="The HTML file; a PNG goes beside it.")] = Path("comparison.html"),
) -> None:
    """Runs side by side: the same numbers and pictures, for instance one run per sampler."""
    from qvae import workflow
    from qvae.reporting.compare import comparison_table
    from qvae.runs.run import load_run

    console = make_console()
    opened = [load_run(run, trust=trust or []) for run in runs]
    files = workflow.compare(opened, out)
    print_table(console, comparison_table(opened))
    print_files(console, files)
