"""Rows of a table for a trained model: its columns by the names that the model knows, texts by the numbers that it learnt."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from qvae.data.dataset import Kind
from qvae.data.tables import Columns, read_table, short, to_numbers
from qvae.errors import DataError

TABLE_ENDINGS = (".csv", ".parquet")
IDS = ("id", "ids")


@dataclass(frozen=True)
class KnownColumns:
    """What the training data tell of a table's columns.

    Attributes:
        names: in the order of the model's features; None where the data aren't within reach.
        categories: of columns that held text, in the order of their numbers.
    """

    names: tuple[str, ...] | None = None
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def table_rows(path: Path, kind: Kind, known: KnownColumns) -> tuple[np.ndarray, list[str] | None]:
    """Numbers (N, D) of a .csv or .parquet file, which is read whole, and its column ``id``, if it has one.

    Columns that the model doesn't know are left out; without names all must be its features, in their order.

    Raises:
        DataError: it can't be read, lacks a column, or holds texts that the model doesn't know.
    """
    columns = read_table(path)
    taken: Columns = {name: column for name, column in columns.items() if name not in IDS}
    if known.names is not None:
        missing = [name for name in known.names if name not in columns]
        if missing:
            raise DataError(f"{path} has no column {', '.join(map(repr, missing[:5]))}, which the model was trained on.")
        taken = {name: columns[name] for name in known.names}
    where = str(path)
    taken = {name: _numbered(column, name, where, known) for name, column in taken.items()}
    # Texts that are left are refused: numbered anew they would mean other categories than the model learnt.
    (rows,), _ = to_numbers({where: taken}, "reals" if kind == "categories" else kind, is_given=True)
    ids = next((columns[name] for name in IDS if name in columns and name not in (known.names or ())), None)
    return rows, None if ids is None else [str(name) for name in ids]


def _numbered(column: np.ndarray, name: str, where: str, known: KnownColumns) -> np.ndarray:
    if name not in known.categories:
        return column
    numbers = {value: number for number, value in enumerate(known.categories[name])}
    unknown = next(((row, value) for row, value in enumerate(column) if value not in numbers), None)
    if unknown is not None:
        what = f"{short(unknown[1])} in row {unknown[0] + 1} of column {name!r}"
        raise DataError(f"{where} has {what}, which the model was not trained on; leave such rows out.")
    return np.array([numbers[value] for value in column], np.int64)
