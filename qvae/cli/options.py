"""Arguments and options that several commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override any key, as in training.epochs=5.")
]
ConfigName = Annotated[
    str | None,
    typer.Argument(metavar="CONFIG", help="A YAML file or a shipped name: digits, digits-quantum, mnist, mnist-notebook."),
]
RunFolder = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]
