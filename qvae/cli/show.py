"""How results look on a terminal: tables, facts, files and errors."""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from qvae.files import from_here

if TYPE_CHECKING:
    from rich.console import Console

    from qvae.reporting.page import Table
    from qvae.runs.run import Run


_FILE_WIDTH = 120  # of tables in a file or a pipe
_PLAINER = {"±": "+-", "…": ".", "─": "-", "━": "-", "→": "->", "ζ": "zeta", "–": "-"}


def make_console() -> Console:
    """The terminal, or the file that takes its place, in which lines are as long as they are.

    Texts mean themselves: what is bold or coloured is a ``Text`` or has a style, so that brackets and colons in a user's
    names and paths are no markup.
    """
    from rich.console import Console

    class Honest(Console):
        """Lets the work that prints decide what follows when the reader of its output leaves."""

        def on_broken_pipe(self) -> None:
            raise

    console = Honest(highlight=False, markup=False, emoji=False)
    if not console.is_terminal:
        console.soft_wrap, console.width = True, max(_FILE_WIDTH, console.width)
    return console


def accept_any_encoding() -> None:
    """Write what the terminal's encoding lacks as something near, "+-" for "±", or as "?"; nothing raises."""

    def plainer(error: UnicodeError) -> tuple[str, int]:
        if not isinstance(error, UnicodeEncodeError):
            raise error
        return "".join(_PLAINER.get(letter, "?") for letter in error.object[error.start : error.end]), error.end

    codecs.register_error("qvae-plainer", plainer)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # others are no files
            stream.reconfigure(errors="qvae-plainer")


def fail(message: str, code: int) -> NoReturn:
    """End with a sentence and an exit code; of processes that train together one says it."""
    if os.environ.get("WORLD_SIZE", "1") == "1" or _is_said_here(message):
        print(f"qvae: {message}", file=sys.stderr)
    sys.exit(code)


def _is_said_here(message: str) -> bool:
    from qvae.training import ranks

    return ranks.says(message)


def leave_output() -> None:
    """Write to nowhere from now on: the reader of the output has left, and what is still buffered would fail at the end."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_table(console: Console, found: Table) -> None:
    """A table with its note; where its words don't fit side by side, the rows one after the other, each as a list."""
    from rich import box
    from rich.table import Table

    num_columns = len(found.header)
    # A cell has a space on either side, and there is one between two cells and at the edges.
    widths = _widths([found.header, *found.rows], console.width - 3 * num_columns - 1)
    if widths is None:
        for row in found.rows:
            console.print(f"\n{row[0]}", style="bold")
            print_facts(console, dict(zip(found.header[1:], row[1:], strict=True)), indent=2)
    else:
        table = Table(box=box.SIMPLE_HEAD)
        for column, width in zip(found.header, widths, strict=True):
            table.add_column(column, overflow="fold", width=width)
        for row in found.rows:
            table.add_row(*row)
        console.print(table)
    if found.note:
        console.print(found.note, style="dim")


def _widths(rows: Sequence[Sequence[str]], available: int) -> list[int] | None:
    """Widths of columns that break no word, and as few lines as there is room for; None if there isn't any.

    >>> _widths([["a", "of two"], ["bcd", "words"]], 20), _widths([["a", "of two"], ["bcd", "words"]], 8)
    ([3, 6], [3, 5])
    """
    from rich.cells import cell_len

    columns = list(zip(*rows, strict=True))
    widths = [max((cell_len(word) for cell in column for word in cell.split()), default=1) for column in columns]
    wanted = [max(width, *map(cell_len, column)) - width for column, width in zip(columns, widths, strict=True)]
    spare = available - sum(widths)
    if spare < 0:
        return None
    by_want = sorted(range(len(columns)), key=wanted.__getitem__)
    for others, place in zip(range(len(columns), 0, -1), by_want, strict=True):
        more = min(spare // others, wanted[place])  # equal parts; what one doesn't want goes to those that want more
        widths[place] += more
        spare -= more
    return widths


def print_facts(console: Console, facts: Mapping[str, Any], indent: int = 0) -> None:
    """Names and what they stand for, in two columns."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for key, value in facts.items():
        table.add_row(Text(key, style="dim"), Text(str(value), overflow="fold"))
    console.print(Padding.indent(table, indent) if indent else table)


def print_warning(console: Console, text: str) -> None:
    """A sentence about something that looks wrong."""
    from rich.text import Text

    console.print(Text.assemble(("warning:", "yellow"), f" {text}"))


def print_files(console: Console, files: Iterable[Path]) -> None:
    """Files that were written."""
    for file in files:
        console.print(f"wrote {from_here(file)}", soft_wrap=True)


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


def print_losses(console: Console, run: Run, measured: str) -> None:
    """What a circuit loses on the executor that was ``measured``, and on others before; no number of the evaluation itself."""
    from qvae.reporting.report import evaluated, row_noun
    from qvae.reporting.tables import executor_tables

    found = evaluated(run)
    for table in executor_tables(found, row_noun(run)):
        print_table(console, table)
    if len(found["executors"]) > 1:
        console.print(f"measured now: {measured}; the other rows are from before", soft_wrap=True)
