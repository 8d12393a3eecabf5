"""Data from memory as NumPy arrays: arrays, tensors, nested lists, data frames and map-style data sets of PyTorch."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qvae.data.tables import Columns
from qvae.errors import DataError
from qvae.memory import total_memory


def to_array(data: Any, where: str) -> np.ndarray:
    """An array of what has numbers; arrays and memory maps come back as they are.

    Raises:
        DataError: it can't be one.
    """
    if isinstance(data, torch.Tensor):
        data = data.detach().cpu()
        return (data.float() if data.dtype == torch.bfloat16 else data).numpy()
    if hasattr(data, "to_numpy"):  # a column of a data frame
        data = data.to_numpy()
    if np.ma.is_masked(data):
        raise DataError(f"{where} has masked values; fill or drop them.")
    if isinstance(data, np.ndarray):
        return data
    if isinstance(data, list | tuple):
        return _stacked(list(data), where)
    if _is_array_like(data):  # a picture of Pillow's
        return np.asarray(data)
    if isinstance(data, str | Path):
        raise DataError(f"{where} is a {type(data).__name__}; a file or folder is named by data.name in the configuration.")
    raise DataError(
        f"{where} is a {type(data).__name__}; give an array, a tensor, nested lists, a data frame or a torch Dataset with "
        "a length."
    )


def to_columns(data: Any, where: str) -> Columns | None:
    """The columns of a data frame of pandas or polars, or of a mapping of names to columns; None if it isn't one.

    Raises:
        DataError: two columns have one name.
    """
    if isinstance(data, dict):
        return {str(name): to_array(column, f"{where}: {name}") for name, column in data.items()}
    if not (hasattr(data, "columns") and hasattr(data, "to_numpy")):
        return None
    names = list(data.columns)
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{where} has two columns named {twice!r}; rename one.")
    return {str(name): np.asarray(data[name].to_numpy()) for name in names}


def is_map_style(data: Any) -> bool:
    """Whether this is a data set of PyTorch that is read by index: anything with items and a length that is no sequence."""
    if isinstance(data, np.ndarray | torch.Tensor | list | tuple | str | dict) or hasattr(data, "to_numpy"):
        return False
    return hasattr(data, "__getitem__") and hasattr(data, "__len__") and not _is_array_like(data)


def from_map_style(data: Any, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Rows and labels of a map-style data set, whose items are a row, or a row and a label.

    Rows that would take more than half of the memory go into a temporary file, from which they are mapped.

    Raises:
        DataError: items can't be stacked, or the disk is full.
    """
    count = len(data)
    first = _parts_of(data[0], where) if count else (np.zeros(0), None)
    row, label = to_array(first[0], where), first[1]
    if count * row.nbytes > total_memory() / 2:
        return _in_a_file(data, row, label is not None, where)
    items = [_parts_of(data[index], where) for index in range(count)]
    rows = _stacked([item[0] for item in items], where)
    return rows, None if label is None else _stacked([item[1] for item in items], f"{where}_labels")


def _parts_of(item: Any, where: str) -> tuple[Any, Any]:
    """The row and the label, or None, of an item."""
    if not isinstance(item, list | tuple):
        return item, None
    if len(item) > 2 or not item:
        raise DataError(f"{where} has items of {len(item)} parts; they must be a row, or a row and its label.")
    return item[0], item[1] if len(item) == 2 else None


def _in_a_file(data: Any, first: np.ndarray, has_labels: bool, where: str) -> tuple[np.ndarray, np.ndarray | None]:
    """The same in a file of the system's temporary folder, which goes when nobody uses the rows any more."""
    shape, labels = (len(data), *first.shape), []
    with tempfile.TemporaryFile(prefix="qvae-") as file:
        try:
            if hasattr(os, "posix_fallocate"):  # a disk that fills up while it is mapped would end the process
                os.posix_fallocate(file.fileno(), 0, len(data) * first.nbytes)
            rows = np.memmap(file, first.dtype, "w+", shape=shape)
        except OSError as error:
            size = f"{where} takes {len(data) * first.nbytes / 1e9:,.1f} GB, for which {tempfile.gettempdir()} has no room"
            raise DataError(f"{size} ({error.strerror}); name another folder in the variable TMPDIR.") from error
        for index in range(len(data)):
            item, label = _parts_of(data[index], where)
            row = to_array(item, where)
            if row.shape != first.shape or row.dtype != first.dtype:
                raise DataError(f"{where} has rows of different shapes or types; all must be alike.")
            rows[index] = row
            labels.append(label)
    return rows, _stacked(labels, f"{where}_labels") if has_labels else None


def _stacked(items: list[Any], where: str) -> np.ndarray:
    try:
        return np.array([to_array(item, where) if _is_array_like(item) else item for item in items])
    except (ValueError, TypeError):
        raise DataError(f"{where} has rows of different shapes or types; all must be alike.") from None


def _is_array_like(data: Any) -> bool:
    return hasattr(data, "__array__") or hasattr(data, "__array_interface__")
