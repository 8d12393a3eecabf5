"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key, as in training.epochs=5.")
]
Trust = Annotated[
    list[str] | None,
    typer.Option(
        "--trust",
        metavar="TEXT",
        help="Use an import path, address or file to write that a configuration or run names; remembered for the run.",
    ),
]
Cluster = Annotated[
    str | None, typer.Option(metavar="ADDRESS", help="Scheduler of a dask cluster, as tcp://host:8786; else this machine.")
]
ConfigName = Annotated[
    str | None,
    typer.Argument(
        metavar="CONFIG",
        help="A YAML file or a shipped name: digits, digits-quantum, digits-vqgan, digits-vqgan-patch, digits-vqvae, mnist, "
        "mnist-notebook, mnist-vqgan, mnist-vqvae, strings, strings-vqvae. With --resume, a run folder, too.",
    ),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
