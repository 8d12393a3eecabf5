"""`qvae benchmark`: samplers, and training with them, measured side by side."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from qvae.cli.options import Cluster, Set, Trust
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import fail, make_console, print_files, print_table
from qvae.files import from_here, from_user

app = typer.Typer(help="Measure samplers, or training with them, side by side.", no_args_is_help=True)


@app.command("samplers")
def samplers(
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
    cluster: Cluster = None,
) -> None:
    """Speed and errors of samplers on problems whose truth is known: a table, results.json and report.html."""
    from rich.text import Text

    from qvae.config.load import load_config
    from qvae.measuring.benchmark import run_benchmark
    from qvae.measuring.folder import RESULTS
    from qvae.measuring.problems import DEFAULT_PROBLEMS, make_problem
    from qvae.measuring.report import overview_table, sampler_table, write_sampler_report
    from qvae.measuring.specs import local_samplers, parse_sampler
    from qvae.training.devices import choose_device

    console, out = make_console(), from_user(out)
    device = load_config(None, [f"training.device={device}"]).training.device  # says what a device is called
    problems = [make_problem(spec) for spec in problem or DEFAULT_PROBLEMS]
    chosen, left_out = ([parse_sampler(text) for text in sampler], {}) if sampler else local_samplers()
    with _continued(out), ConsoleProgress(console).work("measuring") as report:
        results = run_benchmark(
            problems,
            chosen,
            out,
            budget,
            reference,
            seed,
            choose_device(device),
            qpu_price,
            left_out,
            report,
            cluster,
        )
    for found in results["problems"]:
        console.print(Text.assemble("\n", (found["spec"], "bold"), f"  {found['size']}"))
        print_table(console, sampler_table(found))
    print_table(console, overview_table(results))
    for name, reason in left_out.items():
        console.print(f"{name} takes no part: {reason}", style="dim")
    print_files(console, (out / RESULTS, write_sampler_report(results, out)))


@app.command("training")
def training(
    config: Annotated[str, typer.Argument(help="A YAML file or a shipped name, as digits or mnist.")],
    sampler: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:OPTION=VALUE,...]", help="A sampler; the configured one by default.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of training with each sampler.")] = 60.0,
    overrides: Set = None,
    trust: Trust = None,
    out: Annotated[Path, typer.Option(help="Results go here; what is there already is not measured again.")] = Path(
        "benchmark-training"
    ),
) -> None:
    """Images per second, where the time goes, memory and likelihood against time, with one sampler and another."""
    from qvae.config.load import load_config
    from qvae.measuring.folder import RESULTS
    from qvae.measuring.specs import parse_sampler
    from qvae.measuring.training import benchmark_training, training_table, write_training_report
    from qvae.trust import texts

    console, out = make_console(), from_user(out)
    chosen = load_config(config, overrides or [], trust=trust or [])
    named = [parse_sampler(text) for text in sampler or []]
    chosen = chosen.trusting(text for spec in named for text in (spec.name, *texts(spec.options)))
    specs = named or [chosen.sampler]
    with _continued(out), ConsoleProgress(console).work("measuring") as report:
        results = benchmark_training(chosen, specs, seconds, out, report)
    print_table(console, training_table(results))
    print_files(console, (out / RESULTS, write_training_report(results, out)))


@contextmanager
def _continued(out: Path) -> Iterator[None]:
    """Where the block is interrupted, say how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on with what {from_here(out)} holds", 130)
