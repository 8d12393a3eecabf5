"""The command line: `qvae train`, `evaluate`, `generate`, `reconstruct`, `report`, `compare`, `samplers` and `benchmark`."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from qvae.errors import ConfigError, DataError, QvaeError, RunError

if TYPE_CHECKING:
    from rich.console import Console

    from qvae.reporting.page import Table as PlainTable
    from qvae.run import Run

app = typer.Typer(
    help="Variational autoencoders with a (quantum) Boltzmann machine as latent prior, and samplers to choose from.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)
samplers_app = typer.Typer(help="List the registered samplers, or check one.", invoke_without_command=True)
app.add_typer(samplers_app, name="samplers")
benchmark_app = typer.Typer(help="Measure samplers, or training with them, side by side.", no_args_is_help=True)
app.add_typer(benchmark_app, name="benchmark")

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key, as in training.epochs=5.")
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


def main() -> None:
    """Run the command line; a user's mistake ends in one sentence and exit code 2, Ctrl-C in 130."""
    # Threads of OpenMP spin while they wait for each other; with other work on the machine that makes a step 25 times
    # slower, and without it a shorter spin costs 4 %. Read when torch is loaded, so it must be set before.
    os.environ.setdefault("GOMP_SPINCOUNT", "3000")
    try:
        app()
    except QvaeError as error:
        _fail(str(error), 2)
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror}; free some space or choose another folder.", 2)


def _fail(message: str, code: int) -> NoReturn:
    print(f"qvae: {message}", file=sys.stderr)
    sys.exit(code)


def _console() -> Console:
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


@app.command()
def train(
    config: Annotated[str | None, typer.Argument(help="A YAML file or a shipped name (digits, mnist).")] = None,
    sampler: Annotated[str | None, typer.Option(help="The sampler of the negative phase.")] = None,
    overrides: Set = None,
    out: Annotated[Path | None, typer.Option(help="The run folder; runs/... if left out.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in --out, or the latest one.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what training would take and cost, and stop.")] = False,
) -> None:
    """Train a model, evaluate it, and leave a run folder."""
    from qvae import run as runs
    from qvae.config.load import load_config
    from qvae.report import REPORT

    console = _console()
    settings = [*([f"sampler.name={sampler}"] if sampler else []), *(overrides or [])]
    if dry_run:
        if resume:
            raise ConfigError("--dry-run is of a new run; leave --resume out.")
        _print_facts(console, runs.plan(load_config(config, settings), out))
        console.print("nothing was sampled or written")
        return
    if resume:
        if out is not None and config is not None:
            raise ConfigError(f"--resume goes on with the configuration in {out}; leave {config!r} out, or use --set.")
        folder = out or runs.latest_run(config)
        finished = _resumable(console, lambda: runs.resume(folder, settings, console), folder)
    else:
        chosen = load_config(config, settings)
        folder = runs.choose_folder(out, chosen)
        console.print(f"training on [bold]{chosen.data.name}[/bold] with sampler [bold]{chosen.sampler.name}[/bold]")
        finished = _resumable(console, lambda: runs.train(chosen, folder, console), folder)
    _print_evaluation(console, finished)
    console.print(f"run folder: {finished.path}\nreport: {finished.path / REPORT}", style="bold", markup=False)


def _resumable(console: Console, work: Any, folder: Path) -> Run:
    """Do the work; where it is cut short, say how to go on."""
    try:
        return work()
    except (KeyboardInterrupt, QvaeError, OSError) as error:
        from qvae.run import CHECKPOINT

        refused = isinstance(error, ConfigError | DataError | RunError)
        if not refused and (folder / CHECKPOINT).exists():
            console.print(f"to go on from the last checkpoint: qvae train --resume --out {folder}")
        if isinstance(error, KeyboardInterrupt):
            _fail("interrupted", 130)
        raise


@app.command()
def evaluate(
    run: RunFolder,
    overrides: Set = None,
) -> None:
    """ELBO and importance-weighted log-likelihood, again or with other settings (--set importance_samples=1000)."""
    from qvae.look import evaluate as evaluate_run
    from qvae.run import load_run

    console = _console()
    sections = ("evaluation.", "data.")
    settings = [text if text.startswith(sections) else f"evaluation.{text}" for text in overrides or []]
    opened = load_run(run, settings)
    evaluate_run(opened, console=console)
    _print_evaluation(console, opened)


@app.command()
def generate(
    run: RunFolder,
    num: Annotated[int, typer.Option(min=1, help="How many images.")] = 64,
    sampler: Annotated[str | None, typer.Option(help="Another sampler than the run's own.")] = None,
    label: Annotated[int | None, typer.Option(help="Steer towards one class, by bias fields on the latent spins.")] = None,
    strength: Annotated[float, typer.Option(min=0, help="Of those fields; 1 is right for uncoupled spins.")] = 0.5,
) -> None:
    """Sample the prior and decode: an .npz of images and a picture."""
    import numpy as np

    from qvae.look import class_fields, class_share, write_generated
    from qvae.run import load_run

    opened = load_run(run)
    bias = None if label is None else strength * class_fields(opened, label)
    files = write_generated(opened, num, sampler, bias)
    if label is not None:
        share = class_share(opened, np.load(files[0])["images"], label)
        _console().print(f"the classifier takes {share:.0%} of the images for a {label}")
    _print_files(files)


@app.command()
def reconstruct(
    run: RunFolder,
    num: Annotated[int, typer.Option(min=1, help="How many test images.")] = 64,
    overrides: Set = None,
) -> None:
    """Test images beside their reconstructions: an .npz and a picture."""
    from qvae.look import write_reconstructions
    from qvae.run import load_run

    _print_files(write_reconstructions(load_run(run, overrides or []), num))


@app.command()
def report(run: RunFolder, overrides: Set = None) -> None:
    """Draw the pictures again and write report.html, one file to send to a colleague."""
    from qvae.report import write_report
    from qvae.run import load_run

    _print_files((write_report(load_run(run, overrides or [])),))


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN RUN ...", help="Run folders.")],
    out: Annotated[Path, typer.Option(help="The HTML file; a PNG goes beside it.")] = Path("comparison.html"),
) -> None:
    """Runs side by side: the same numbers and pictures, for instance one run per sampler."""
    from qvae.report import compare as compare_runs
    from qvae.report import comparison_table
    from qvae.run import load_run

    opened = [load_run(run) for run in runs]
    files = compare_runs(opened, out)
    _print_table(_console(), comparison_table(opened))
    _print_files(files)


@samplers_app.callback()
def samplers(context: typer.Context) -> None:
    """Every registered sampler: package, version, capabilities, or why it is unavailable and what to install."""
    if context.invoked_subcommand is not None:
        return
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    from qvae.sampling.registry import sampler_infos

    table = Table(box=box.SIMPLE_HEAD)
    for column in ("sampler", "package", "spins", "in a field", "moments", "chains", "runs"):
        table.add_column(column, no_wrap=column in ("sampler", "package"))
    unavailable = []
    for info in sampler_infos():
        if info.capabilities is None:
            unavailable.append(f"[bold]{info.name}[/bold] ({info.package} {info.version}) {escape(info.reason)}.")
            continue
        able = info.capabilities
        table.add_row(
            info.name,
            f"{info.package} {info.version}",
            _spins(able.max_spins),
            _spins(able.max_quantum_spins or able.max_spins) if able.transverse_field else "no",
            "exact" if able.exact else "sampled",
            "kept" if able.persistent else "fresh",
            "remote" if able.remote else "here",
        )
    console = _console()
    console.print(table)
    for line in unavailable:
        console.print(line)


def _spins(limit: int | None) -> str:
    return "any" if limit is None else f"up to {limit}"


@samplers_app.command("check")
def check(
    name: Annotated[str, typer.Argument(help="A registered sampler.")],
    overrides: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option of the sampler.")
    ] = None,
    spend: Annotated[bool, typer.Option("--spend", help="Run the suite on a remote sampler, too.")] = False,
) -> None:
    """Run the conformance suite on a sampler; exit code 1 if a check fails. Of a remote one, say what it is and costs."""
    from rich.markup import escape

    from qvae.config.load import parse_assignments
    from qvae.sampling.abilities import Remote
    from qvae.sampling.registry import load_sampler
    from qvae.testing import run_checks

    console = _console()
    chosen = load_sampler(name, **parse_assignments(overrides or []))
    if isinstance(chosen, Remote):
        try:
            _print_facts(console, chosen.describe())
        finally:
            chosen.close()
        if not spend:
            console.print("nothing was submitted; --spend runs the conformance suite, which takes paid time")
            return
    marks = {"passed": "[green]passed[/green]", "failed": "[red]failed[/red]", "skipped": "[dim]skipped[/dim]"}
    counts = dict.fromkeys(marks, 0)
    for result in run_checks(name, **parse_assignments(overrides or [])):
        counts[result.outcome] += 1
        detail = f"  [dim]{escape(result.detail)}[/dim]" if result.detail else ""
        console.print(f"{marks[result.outcome]}  {result.name}{detail}")
    console.print(", ".join(f"{count} {outcome}" for outcome, count in counts.items()))
    if counts["failed"]:
        raise typer.Exit(1)


@samplers_app.command("recommend")
def recommend(
    source: Annotated[str, typer.Argument(metavar="CONFIG_OR_RUN", help="A configuration, or a run folder.")],
    seconds: Annotated[float, typer.Option(min=1, help="Time for all measurements.")] = 60.0,
    overrides: Set = None,
) -> None:
    """Which sampler and settings give this prior's gradient the accuracy it needs at the least cost, on this machine."""
    from qvae.measuring.recommend import recommend as measure
    from qvae.measuring.recommend import recommendation_table, recommendation_text

    console = _console()
    with _working(console) as progress:
        found = measure(source, seconds, overrides or [], progress)
    _print_table(console, recommendation_table(found))
    for warning in found.warnings:
        console.print(f"[yellow]warning:[/yellow] {warning}")
    for sentence in recommendation_text(found):
        console.print(sentence, style="bold", markup=False)


@benchmark_app.command("samplers")
def benchmark_samplers(
    problem: Annotated[
        list[str] | None,
        typer.Option(metavar="SPEC", help="FAMILY[:SIZE][,OPTION=VALUE...], a run folder or an .npz; several by default."),
    ] = None,
    sampler: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:OPTION=VALUE,...]", help="A sampler; all local ones by default.")
    ] = None,
    budget: Annotated[float, typer.Option(min=0.01, help="Seconds for each sampler on each problem.")] = 4.0,
    reference: Annotated[float | None, typer.Option(min=0.01, help="Seconds of a reference run; five budgets.")] = None,
    out: Annotated[Path, typer.Option(help="Results go here; what is there already is not measured again.")] = Path(
        "benchmark-samplers"
    ),
    seed: Annotated[int, typer.Option(min=0, help="Of samplers and reference runs.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or cuda:N.")] = "cpu",
    qpu_price: Annotated[float | None, typer.Option(min=0, help="Of an hour of QPU time.")] = None,
) -> None:
    """Speed and errors of samplers on problems whose truth is known: a table, results.json and report.html."""
    from qvae.config.load import load_config
    from qvae.measuring.problems import DEFAULT_PROBLEMS, make_problem
    from qvae.measuring.report import overview_table, sampler_table, write_sampler_report
    from qvae.measuring.samplers import RESULTS, local_samplers, parse_sampler, run_benchmark
    from qvae.training.trainer import choose_device

    console = _console()
    device = load_config(None, [f"training.device={device}"]).training.device  # says what a device is called
    if not console.is_terminal:
        console.width = max(100, console.width)  # the tables'
    problems = [make_problem(spec) for spec in problem or DEFAULT_PROBLEMS]
    chosen, left_out = ([parse_sampler(text) for text in sampler], {}) if sampler else local_samplers()
    with _continued(out), _working(console) as progress:
        results = run_benchmark(
            problems, chosen, out, budget, reference, seed, choose_device(device), qpu_price, left_out, progress
        )
    for found in results["problems"]:
        console.print(f"\n[bold]{found['spec']}[/bold]  {found['size']}")
        _print_table(console, sampler_table(found))
    _print_table(console, overview_table(results))
    for name, reason in left_out.items():
        console.print(f"{name} takes no part: {reason}", style="dim", markup=False)
    _print_files((out / RESULTS, write_sampler_report(results, out)))


@benchmark_app.command("training")
def benchmark_training(
    config: Annotated[str, typer.Argument(help="A YAML file or a shipped name (digits, mnist).")],
    sampler: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:OPTION=VALUE,...]", help="A sampler; the configured one by default.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of training with each sampler.")] = 60.0,
    overrides: Set = None,
    out: Annotated[Path, typer.Option(help="Results go here; what is there already is not measured again.")] = Path(
        "benchmark-training"
    ),
) -> None:
    """Images per second, where the time goes, memory and likelihood against time, with one sampler and another."""
    from qvae.config.load import load_config
    from qvae.measuring.samplers import RESULTS, parse_sampler
    from qvae.measuring.training import benchmark_training as measure
    from qvae.measuring.training import training_table, write_training_report

    console = _console()
    chosen = load_config(config, overrides or [])
    specs = [parse_sampler(text) for text in sampler or []] or [chosen.sampler]
    with _continued(out), _working(console) as progress:
        results = measure(chosen, specs, seconds, out, progress)
    _print_table(console, training_table(results))
    _print_files((out / RESULTS, write_training_report(results, out)))


@contextmanager
def _continued(out: Path) -> Iterator[None]:
    """Where the block is interrupted, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        _fail(f"interrupted; the same command goes on with what {out} holds", 130)


@contextmanager
def _working(console: Console) -> Iterator[Callable[[str, float], None]]:
    """A bar on a terminal, told what is being done and the part of all that is done; a line now and then elsewhere."""
    if not console.is_terminal:
        last = ""

        def tell(text: str, share: float) -> None:
            nonlocal last
            if text != last:
                last = text
                console.print(f"{share:4.0%}  {text}", markup=False)

        yield tell
        return
    from rich.progress import Progress

    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda text, share: bar.update(task, description=text, completed=share)


def _print_evaluation(console: Console, run: Run) -> None:
    from qvae.report import evaluation_tables

    found = run.evaluation
    assert found is not None
    for table in evaluation_tables(found):
        _print_table(console, table)
    warning = found["log_z_details"].get("warning")
    if warning:
        console.print(f"[yellow]warning:[/yellow] {warning}")


def _print_table(console: Console, found: PlainTable) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in found.header:
        table.add_column(column, overflow="fold")
    for row in found.rows:
        table.add_row(*row)
    console.print(table)
    if found.note:
        console.print(found.note, style="dim")


def _print_facts(console: Console, facts: dict[str, Any]) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        table.add_row(f"[dim]{key}[/dim]", escape(str(value)))
    console.print(table)


def _print_files(files: tuple[Path, ...]) -> None:
    console = _console()
    for file in files:
        console.print(f"wrote {file}")
