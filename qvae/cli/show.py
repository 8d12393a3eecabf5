"""How results look on a terminal: tables, facts, files and errors."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from qvae.files import from_here

if TYPE_CHECKING:
    from rich.console import Console

    from qvae.reporting.page import Table
    from qvae.runs.run import Run


def make_console() -> Console:
    """The terminal, or the file that takes its place, in which lines are as long as they are."""
    from rich.console import Console

    class Honest(Console):
        """Lets the work that prints decide what follows when the reader of its output leaves."""

        def on_broken_pipe(self) -> None:
            raise

    console = Honest(highlight=False)
    console.soft_wrap = not console.is_terminal
    return console


def fail(message: str, code: int) -> NoReturn:
    """End with a sentence and an exit code."""
    print(f"qvae: {message}", file=sys.stderr)
    sys.exit(code)


def leave_output() -> None:
    """Write to nowhere from now on: the reader of the output has left, and what is still buffered would fail at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_table(console: Console, found: Table) -> None:
    """A table with its note."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for column in found.header:
        table.add_column(column, overflow="fold")
    for row in found.rows:
        table.add_row(*map(_plain, row))
    console.print(table)
    if found.note:
        console.print(found.note, style="dim", markup=False)


def print_facts(console: Console, facts: Mapping[str, Any]) -> None:
    """Names and what they stand for, in two columns."""
    from rich.table import Table

    table = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        table.add_row(f"[dim]{key}[/dim]", _plain(str(value)))
    console.print(table)


def print_warning(console: Console, text: str) -> None:
    """A sentence about something that looks wrong."""
    console.print(f"[yellow]warning:[/yellow] {_plain(text)}")


def print_files(console: Console, files: Iterable[Path]) -> None:
    """Files that were written."""
    for file in files:
        console.print(f"wrote {from_here(file)}", markup=False, soft_wrap=True)


def print_evaluation(console: Console, run: Run) -> None:
    """The numbers of a run."""
    from qvae.reporting.report import evaluated, row_noun
    from qvae.reporting.tables import evaluation_tables

    found = evaluated(run)
    for table in evaluation_tables(found, row_noun(run)):
        print_table(console, table)
    warning = found["log_z_details"].get("warning")
    if warning:
        print_warning(console, warning)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
