"""`qvae diagnose`: what is wrong with a training, and what helps."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qvae.cli.options import Set, Trust
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import make_console, print_files, print_table

app = typer.Typer(help="Find out what is wrong with a training, and what helps.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Find out what is wrong with a training, and what helps."""


@app.command("gradients")
def gradients(
    source: Annotated[str, typer.Argument(metavar="RUN_OR_CONFIG", help="A run folder, a YAML file or a shipped name.")],
    overrides: Set = None,
    trust: Trust = None,
    steps: Annotated[int, typer.Option(min=1, help="Of training.")] = 100,
    out: Annotated[Path, typer.Option(help="The folder of tables, pictures and report.html.")] = Path("gradients"),
) -> None:
    """Name layers whose gradients vanish or explode; look whether a circuit has a barren plateau, and which starts help."""
    from qvae.diagnosis.diagnose import RESULTS, diagnose_gradients
    from qvae.diagnosis.report import findings, tables
    from qvae.runs.folder import REPORT

    console = make_console()
    found = diagnose_gradients(source, out, steps, overrides or [], trust or [], ConsoleProgress(console))
    for table in tables(found):
        print_table(console, table)
    for sentence in findings(found):
        console.print(sentence)
    print_files(console, (found.path / RESULTS, found.path / REPORT))
