"""Data from memory as NumPy arrays: arrays, tensors, nested lists, data frames and map-style data sets of PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from qvae.data.tables import Columns
from qvae.errors import DataError


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

    Raises:
        DataError: items can't be stacked.
    """
    items = [data[index] for index in range(len(data))]
    if not items or not isinstance(items[0], list | tuple):
        return _stacked(items, where), None
    if len(items[0]) == 1:
        return _stacked([item[0] for item in items], where), None
    if len(items[0]) != 2:
        raise DataError(f"{where} has items of {len(items[0])} parts; they must be a row, or a row and its label.")
    return _stacked([item[0] for item in items], where), _stacked([item[1] for item in items], f"{where}_labels")


def _stacked(items: list[Any], where: str) -> np.ndarray:
    try:
        return np.array([to_array(item, where) if _is_array_like(item) else item for item in items])
    except (ValueError, TypeError):
        raise DataError(f"{where} has rows of different shapes or types; all must be alike.") from None


def _is_array_like(data: Any) -> bool:
    return hasattr(data, "__array__") or hasattr(data, "__array_interface__")
