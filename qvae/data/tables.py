"""Tables: named columns from .csv and .parquet files or data frames, and the numbers in them."""

from __future__ import annotations

import numbers
from pathlib import Path
from typing import Any

import numpy as np

from qvae.data.dataset import Kind
from qvae.data.opened import require_file
from qvae.errors import DataError
from qvae.memory import require_memory

_PLACES, _LOOK = 16, 2**16
_BYTES_OF_A_CELL = 16  # a number as it is read, and in an array of all columns
_LEAST_OF_A_BYTE = 0.5  # a number takes 25 characters at most

Columns = dict[str, np.ndarray]
"""Values of each column, (N,): numbers, or objects such as texts."""


def to_numbers(
    frames: dict[str, Columns], kind: Kind, is_given: bool = False
) -> tuple[list[np.ndarray], dict[str, tuple[str, ...]]]:
    """An array (N, D) of each table, and the categories of the columns that hold text, in the order of their numbers.

    Text is taken for ``categories`` alone, as the positions of its values in sorted order, the same in all tables.

    Args:
        frames: tables by what they are called in messages.
        kind: of data that the model's likelihood takes.
        is_given: to a trained model, whose columns and likelihood are what they are.

    Raises:
        DataError: the tables have different columns, values are missing, or a column holds no numbers.
    """
    first_where, first = next(iter(frames.items()))
    for where, columns in frames.items():
        if not columns:
            raise DataError(f"{where} has no columns of features.")
        lengths = sorted({len(column) for column in columns.values()})
        if lengths[0] == 0:
            raise DataError(f"{where} is empty: it has no rows.")
        if len(lengths) > 1:
            raise DataError(f"{where} has columns of {lengths[0]:,} and of {lengths[1]:,} rows; all must be alike.")
        odd = sorted(set(columns) ^ set(first))
        if odd:
            raise DataError(f"{first_where} and {where} must have the same columns; only one has {', '.join(odd)}.")
    coded: dict[str, list[np.ndarray]] = {where: [] for where in frames}
    names: dict[str, tuple[str, ...]] = {}
    for name in first:
        parts = {where: _plain(columns[name], f"column {name!r} of {where}") for where, columns in frames.items()}
        categories: list[str] = []
        if kind == "categories":
            categories = sorted({value for part in parts.values() if part.dtype == object for value in part})
        if categories:
            names[name] = tuple(categories)
        for where, part in parts.items():
            if part.dtype == object:
                if not categories:
                    raise _text_refused(part, f"column {name!r} of {where}", is_given)
                part = _positions(part, categories)
            coded[where].append(part)
    return [np.column_stack(parts) for parts in coded.values()], names


def to_labels(column: np.ndarray, where: str) -> tuple[np.ndarray, list[str]]:
    """Class labels, int64, (N,), and the names of the classes, in order, where the column holds text.

    Raises:
        DataError: labels are missing, or neither whole numbers nor text.
    """
    plain = _plain(column, where)
    if plain.dtype == object:
        names = sorted(set(plain))
        return _positions(plain, names), names
    if plain.dtype.kind == "f":
        raise DataError(f"{where} is {plain.dtype}; class labels are whole numbers or text.")
    return plain.astype(np.int64), []


def read_table(path: Path) -> Columns:
    """The columns of a .csv file, whose first line names them, or of a .parquet file.

    Raises:
        DataError: the file can't be read, or pyarrow isn't installed.
    """
    try:
        import pyarrow as arrow
        from pyarrow import csv, parquet
    except ImportError:
        raise DataError(f"reading {path} needs pyarrow; in the clone of qvae: pip install -e '.[tables]'") from None
    require_file(path)
    try:
        if path.suffix == ".parquet":
            found = parquet.read_metadata(path)
            unpacked = sum(found.row_group(place).total_byte_size for place in range(found.num_row_groups))
            unpacked = max(unpacked, 8 * found.num_rows * found.num_columns)
            require_memory(unpacked, f"{path}, unpacked,", "take a smaller one", DataError)
            table = parquet.read_table(path)
        else:
            delimiter = _delimiter(path)
            _require_csv_fits(path, delimiter)
            convert = csv.ConvertOptions(strings_can_be_null=True)
            table = csv.read_csv(path, parse_options=csv.ParseOptions(delimiter=delimiter), convert_options=convert)
    except FileNotFoundError:
        raise DataError(f"there is no file {path.absolute()}; set data.name to an existing .csv or .parquet.") from None
    except (OSError, arrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} can't be read as a {path.suffix} file: {' '.join(str(error).split())}.") from None
    names = table.column_names
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{path} has two columns named {twice!r}; rename one.")
    if names and all(_is_number(name) for name in names):
        raise DataError(f"the first line of {path} holds numbers; it must hold the names of the columns.")
    return {name: _decoded(table.column(name), arrow).to_numpy() for name in names}


def _delimiter(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        header = file.readline()
    return max(",;\t", key=header.count)


def _require_csv_fits(path: Path, delimiter: str) -> None:
    """Raise a DataError if a table takes more memory than there is, by its size and the number of its cells in 16 places."""
    size, cells, seen = path.stat().st_size, 0, 0
    with path.open("rb") as file:
        for place in range(_PLACES):
            file.seek(place * size // _PLACES)
            part = file.read(_LOOK)
            seen, cells = seen + len(part), cells + part.count(delimiter.encode()) + part.count(b"\n")
    unpacked = size * max(_LEAST_OF_A_BYTE, _BYTES_OF_A_CELL * cells / max(1, seen))
    require_memory(unpacked, f"{path}, read,", "take a smaller one", DataError)


def _decoded(column: Any, arrow: Any) -> Any:
    return column.cast(column.type.value_type) if arrow.types.is_dictionary(column.type) else column


def _plain(column: np.ndarray, where: str) -> np.ndarray:
    """Numbers, or texts as an array of objects; no value is missing."""
    column = column.astype(object) if column.dtype.kind in "UT" else column
    if column.dtype.kind not in "biufO":
        raise DataError(f"{where} is of type {column.dtype}; drop it or turn it into numbers.")
    if column.dtype.kind in "fO":
        missing = np.isnan(column) if column.dtype.kind == "f" else np.array([_is_missing(value) for value in column], bool)
        if missing.any():
            share = f"{int(missing.sum()):,} of {len(column):,} values"
            raise DataError(f"{where} lacks {share}, the first in row {int(missing.argmax()) + 1}; fill or drop such rows.")
    if column.dtype.kind != "O" or all(isinstance(value, str) for value in column):
        return column
    odd = next(((row, value) for row, value in enumerate(column) if not isinstance(value, numbers.Number)), None)
    if odd is not None:
        what = f"{short(odd[1])} ({type(odd[1]).__name__}) in row {odd[0] + 1}"
        raise DataError(f"{where} holds {what} among other things; a column holds numbers alone or text alone.")
    return column.astype(np.float64)


def _is_missing(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and value != value)


def _positions(column: np.ndarray, categories: list[str]) -> np.ndarray:
    positions = {value: position for position, value in enumerate(categories)}
    return np.array([positions[value] for value in column], np.int64)


def _text_refused(column: np.ndarray, where: str, is_given: bool) -> DataError:
    rows = [row for row, value in enumerate(column) if not _is_number(value)] or list(range(len(column)))
    what = f"text in {len(rows):,} of {len(column):,} rows, the first {short(column[rows[0]])} in row {rows[0] + 1}"
    others = (
        ", drop the column, name it by data.labels if it holds classes, or set model.likelihood=categorical if all columns "
        "hold categories"
    )
    return DataError(f"{where} holds {what}; put numbers there{'' if is_given else others}.")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def short(value: Any) -> str:
    """A value in quotes, cut where it is long."""
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
