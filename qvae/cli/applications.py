"""A command for every application: its function's parameters become options, and its outcome is printed."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable
from typing import Annotated, Any, get_type_hints

import typer

from qvae.applications import APPLICATIONS
from qvae.cli.options import RunFolder, Set, Trust
from qvae.cli.show import make_console, print_files


def add_to(app: typer.Typer) -> None:
    """Add a command for every line of the table."""
    for name, module in APPLICATIONS.items():
        app.command(name)(_command(getattr(importlib.import_module(module), name.replace("-", "_"))))


def _command(function: Callable[..., Any]) -> Callable[..., None]:
    """A function with the signature that typer reads: the run's folder, the application's own options, --set and --trust."""

    def command(run: Any, overrides: Any, trust: Any, **options: Any) -> None:
        from qvae.runs.run import load_run

        outcome = function(load_run(run, overrides or [], trust=trust or []), **options)
        console = make_console()
        for sentence in outcome.sentences:
            console.print(sentence)
        print_files(console, outcome.files)

    parameters = [
        inspect.Parameter("run", inspect.Parameter.KEYWORD_ONLY, annotation=RunFolder),
        *_options(function),
        inspect.Parameter("overrides", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Set),
        inspect.Parameter("trust", inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Trust),
    ]
    command.__doc__ = (inspect.getdoc(function) or "").split("\n\n")[0]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _options(function: Callable[..., Any]) -> list[inspect.Parameter]:
    """The parameters after the run, with the texts of their annotations as help."""
    # The module doesn't import what only names the type of the run.
    hints = get_type_hints(function, localns={"Run": Any}, include_extras=True)
    found = []
    for parameter in list(inspect.signature(function).parameters.values())[1:]:
        hint = hints[parameter.name]
        kind, text = hint.__origin__, hint.__metadata__[0]
        option = Annotated[kind, typer.Option(help=text)]  # type: ignore[valid-type]
        found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=option))
    return found
