"""`qvae sweep`: many runs over a grid of settings and seeds, in one table."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qvae.cli.options import Cluster, ConfigName, Set, Trust
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import fail, make_console, print_files, print_table
from qvae.files import from_here, from_user
from qvae.progress import Sturdy


def sweep(
    config: ConfigName = None,
    grid: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUES",
            help="A key's values, [A, B, ...]; with several keys, every combination. For a search also a range, LOW..HIGH or "
            "log:LOW..HIGH, of whole numbers if both ends are.",
        ),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each combination, each with another seed.")] = 1,
    random: Annotated[int | None, typer.Option(min=1, help="So many combinations, drawn from all of them.")] = None,
    search: Annotated[
        str | None,
        typer.Option(
            metavar="SAMPLER",
            help="Optuna's tpe, gp or random proposes combinations, as in tpe:trials=40,aim=frechet; else every one is made.",
        ),
    ] = None,
    jobs: Annotated[int | None, typer.Option(min=1, help="Runs at once; one for each processor, or worker.")] = None,
    cluster: Cluster = None,
    model: Annotated[str | None, typer.Option(metavar="KIND", help="Kind of model, at its defaults for these data.")] = None,
    overrides: Set = None,
    trust: Trust = None,
    out: Annotated[Path, typer.Option(help="A folder of the runs; what is finished there isn't made again.")] = Path("sweep"),
) -> None:
    """Train many models over a grid of settings and seeds: run folders, one table with errors, and report.html."""
    from qvae.config.grid import parse_grid
    from qvae.reporting.sweep import failures_table, settings_table, write_sweep_report
    from qvae.search import parse_search
    from qvae.sweep import RESULTS
    from qvae.sweep import sweep as make_all

    console, out = make_console(), from_user(out)
    try:
        runs = make_all(
            config,
            parse_grid(grid or []),
            out,
            seeds=seeds,
            number=random,
            search=None if search is None else parse_search(search),
            jobs=jobs,
            cluster=cluster,
            overrides=overrides or [],
            model=model,
            trust=trust or [],
            progress=Sturdy(ConsoleProgress(console)),
        )
    except KeyboardInterrupt:
        fail(f"interrupted; the same command goes on with what {from_here(out)} holds", 130)
    print_table(console, settings_table(runs))
    failed = failures_table(runs)
    if failed.rows:
        print_table(console, failed)
    print_files(console, (out / RESULTS, write_sweep_report(runs, out)))
    if failed.rows:
        raise typer.Exit(1)
