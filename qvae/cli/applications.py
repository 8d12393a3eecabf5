"""A command for every application and task: its function's parameters become options, and its outcome is printed."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import Annotated, Any, get_origin, get_type_hints

import typer

from qvae.applications import APPLICATIONS, TASKS
from qvae.cli.options import RunFolder, Set, Trust
from qvae.cli.progress import ConsoleProgress
from qvae.cli.show import make_console, print_files


def add_to(app: typer.Typer) -> None:
    """Add a command for every line of the tables: applications stand alone, tasks in the group ``apply``."""
    _add(app, APPLICATIONS)
    group = typer.Typer(no_args_is_help=True, rich_markup_mode="rich", help="Put a trained model to a task on your own rows.")
    _add(group, TASKS)
    app.add_typer(group, name="apply")


def _add(app: typer.Typer, table: Mapping[str, str]) -> None:
    for name, module in table.items():
        app.command(name)(_command(getattr(importlib.import_module(module), name.replace("-", "_"))))


def _command(function: Callable[..., Any]) -> Callable[..., None]:
    """A function with the signature that typer reads: the run's folder, the application's own options, --set and --trust."""

    def command(run: Any, overrides: Any, trust: Any, **options: Any) -> None:
        from qvae.runs.run import load_run

        console = make_console()
        if tells:
            options["progress"] = ConsoleProgress(console)
        outcome = function(load_run(run, overrides or [], trust=trust or []), **options)
        for sentence in outcome.sentences:
            console.print(sentence)
        print_files(console, outcome.files)

    tells = "progress" in inspect.signature(function).parameters
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
    """The parameters that are annotated with a text, which is their help."""
    # The module doesn't import what only names the types of the run and of whoever watches.
    hints = get_type_hints(function, localns={"Run": Any, "Progress": Any}, include_extras=True)
    found = []
    for parameter in inspect.signature(function).parameters.values():
        hint = hints[parameter.name]
        if get_origin(hint) is not Annotated:
            continue
        kind, text = hint.__origin__, hint.__metadata__[0]
        option = Annotated[kind, typer.Option(help=text)]  # type: ignore[valid-type]
        found.append(parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=option))
    return found
