"""A user's own arrays: data in memory, or in .npy and .npz files."""

from __future__ import annotations

import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from qvae.config.schema import DataConfig
from qvae.data import tables
from qvae.data.dataset import Dataset, Kind
from qvae.data.kinds import Numbers, make_dataset, scale
from qvae.data.memory import from_map_style, is_map_style, to_array, to_columns
from qvae.data.opened import reading, require_arrays_fit, require_file
from qvae.data.split import Split, hold_out, is_mapped
from qvae.errors import DataError, nearest
from qvae.memory import total_memory

Binarize = Literal["dynamic", "fixed", "threshold"]
Layout = Literal["auto", "nchw", "nhwc"]

_SMALLEST_SIDE = 8  # of images that come as flat rows: fewer numbers are rather a table
_SHARE_OF_MEMORY = 4  # a .npy file that would fill a quarter of it stays on the disk

_ARCHIVE = {
    "train": ("train", "x_train", "images", "x", "X", "data"),
    "test": ("test", "x_test"),
    "train_labels": ("train_labels", "y_train", "labels", "y", "target"),
    "test_labels": ("test_labels", "y_test"),
}


def dataset_from_arrays(
    train: Any,
    test: Any = None,
    train_labels: Any = None,
    test_labels: Any = None,
    binarize: Binarize = "dynamic",
    name: str = "arrays",
    kind: Kind = "bits",
    feature_names: tuple[str, ...] | list[str] | None = None,
    layout: Layout = "auto",
) -> Dataset:
    """A data set from rows of shape (N, H, W), (N, H, W, C), (N, C, H, W) with 1 or 3 channels, or (N, D).

    Rows are NumPy arrays, tensors, nested lists, data frames of pandas or polars (whose columns are features), or, for
    ``train`` and ``test``, data sets of PyTorch that are read by index. They are copied, but for memory-mapped arrays,
    which stay on the disk: only rows that are used are read, and what is written to the file later is seen.

    As bits, floats are grey levels in [0, 1], integers 0..255 (or bits, if none is above 1), booleans bits. Flat rows of
    D numbers are square images where D is a square number from 64 on and features have no names. Without ``test``, a tenth
    of the rows, chosen by a fixed seed, is held out; of a memory map the last tenth.

    Args:
        train: rows to train on.
        test: rows to evaluate on.
        train_labels: whole numbers, (N,).
        test_labels: the same of ``test``.
        binarize: how grey levels become bits, as ``data.binarize`` in a configuration.
        name: for messages and results.
        kind: of data that the model's likelihood takes: bits, reals, counts or categories.
        feature_names: of the columns of (N, D).
        layout: where the channels of images stand, as ``data.layout`` in a configuration.

    Raises:
        DataError: too few rows, shapes that don't fit, or values that the likelihood doesn't take.
    """
    for key, value, allowed in (("kind", kind, Kind), ("layout", layout, Layout), ("binarize", binarize, Binarize)):
        if value not in get_args(allowed):
            raise DataError(f"{name}: {key} is {value!r}; {nearest(str(value), get_args(allowed))}.")
    parts, labels = {"train": train, "test": test}, {"train": train_labels, "test": test_labels}
    for part, data in parts.items():
        if is_map_style(data):
            parts[part], found = from_map_style(data, f"{name}: {part}")
            labels[part] = found if labels[part] is None else labels[part]
    given = {part: data for part, data in parts.items() if data is not None}
    columns = {part: to_columns(data, f"{name}: {part}") for part, data in given.items()}
    frames = {f"{name}: {part}": found for part, found in columns.items() if found is not None}
    if len(frames) == len(given):
        feature_names = feature_names or tuple(next(iter(frames.values())))
        coded, categories = tables.to_numbers(frames, kind)
        arrays = dict(zip(given, coded, strict=True))
    else:
        arrays = {part: to_array(data, f"{name}: {part}") for part, data in given.items()}
        categories = {}
    names = None if feature_names is None else tuple(feature_names)
    return replace(_from_arrays(arrays, labels, name, kind, binarize, names, layout), category_names=categories)


def _from_arrays(
    arrays: dict[str, np.ndarray],
    labels: dict[str, Any],
    name: str,
    kind: Kind,
    binarize: Binarize,
    feature_names: tuple[str, ...] | None,
    layout: Layout,
) -> Dataset:
    for part, array in arrays.items():
        _check_names(feature_names, array, f"{name}: {part}")
    numbers = {part: Numbers.of(array, f"{name}: {part}", kind, feature_names) for part, array in arrays.items()}
    rows = {part: _rows(array, layout, f"{name}: {part}", feature_names) for part, array in arrays.items()}
    levels, remarks = scale(kind, list(numbers.values()), rows["train"].ndim >= 3)
    if arrays["train"].ndim == 2 and rows["train"].ndim == 3:
        pixels, side = arrays["train"].shape[1], rows["train"].shape[1]
        remarks += (f"{name}: rows of {pixels} numbers are taken for images of {side}x{side}; with names they are a table's.",)
    if _is_ambiguous(arrays["train"]) and layout == "auto":
        remarks += (f"{name}: images of {arrays['train'].shape[1:]} are read as (C, H, W); data.layout=nhwc reads (H, W, C).",)
    train, train_labels = rows["train"], _labels(labels["train"], len(rows["train"]), f"{name}: train_labels")
    if "test" in rows:
        test = rows["test"]
        split = Split(train, test, train_labels, _labels(labels["test"], len(test), f"{name}: test_labels"))
    else:
        split = hold_out(train, train_labels, name)
        if is_mapped(train):
            remarks += (f"{name} stays on the disk; its last {len(split.test):,} rows are the test set.",)
    return make_dataset(name, split, kind, binarize, levels, feature_names, remarks)


def _rows(array: np.ndarray, layout: Layout, where: str, feature_names: tuple[str, ...] | None) -> np.ndarray:
    """The same numbers as (N, D), (N, H, W) or (N, C, H, W)."""
    if array.ndim == 2:
        side = math.isqrt(array.shape[1])
        is_square = side >= _SMALLEST_SIDE and side * side == array.shape[1] and feature_names is None
        return array.reshape(-1, side, side) if is_square else array
    if array.ndim == 4:
        first = array.shape[1] in (1, 3) and layout != "nhwc"
        last = array.shape[3] in (1, 3) and layout != "nchw"
        if first or last:
            images = array if first else np.moveaxis(array, 3, 1)
            return images[:, 0] if images.shape[1] == 1 else images
    if array.ndim != 3:
        allowed = "(N, D), (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        chosen = "" if layout == "auto" or array.ndim != 4 else f", and data.layout is {layout}"
        raise DataError(f"{where} has the shape {array.shape}; images have {allowed}{chosen}.")
    return array


def _is_ambiguous(array: np.ndarray) -> bool:
    return array.ndim == 4 and array.shape[1] in (1, 3) and array.shape[3] in (1, 3)


def _check_names(names: tuple[str, ...] | None, array: np.ndarray, where: str) -> None:
    if names is not None and (array.ndim != 2 or array.shape[1] != len(names)):
        raise DataError(
            f"{where} has {len(names)} feature names, but its shape is {array.shape}; it must be (N, {len(names)})."
        )


def _labels(data: Any, count: int, where: str) -> np.ndarray | None:
    if data is None:
        return None
    array = to_array(data, where)
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(f"{where} is {array.dtype} of shape {array.shape}; it must be integers of shape ({count},).")
    return array


# Files ----------------------------------------------------------------------------------------------------------------


def load_array_file(config: DataConfig, kind: Kind) -> Dataset:
    """The data set in the .npy or .npz file that ``config.name`` names."""
    arrays = read_arrays(Path(os.path.expanduser(config.name)))
    chosen: dict[str, np.ndarray] = {}
    if len(arrays) == 1:
        chosen["train"] = arrays.popitem()[1]
    for role, names in _ARCHIVE.items():
        present = [name for name in names if name in arrays]
        if len(present) > 1:
            raise DataError(f"{config.name} holds {' and '.join(present)}, which mean the same; leave one of them.")
        if present:
            chosen[role] = arrays.pop(present[0])
    if arrays or "train" not in chosen:
        roles = ", ".join(f"{name} (or {', '.join(others)})" for name, *others in _ARCHIVE.values())
        raise DataError(
            f"{config.name} holds {', '.join([*chosen, *arrays]) or 'nothing'}; "
            f"an .npz holds one array, or train among these: {roles}."
        )
    return dataset_from_arrays(
        chosen["train"],
        chosen.get("test"),
        chosen.get("train_labels"),
        chosen.get("test_labels"),
        binarize=config.binarization,
        name=config.name,
        kind=kind,
        layout=config.layout,
    )


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by their names, or the one of an .npy as ``train``.

    Raises:
        DataError: it can't be read, is damaged, or holds more than memory does.
    """
    with reading(path):
        require_file(path)
        if path.is_file():
            require_arrays_fit(path)
        mapped: Literal["r"] | None = "r" if path.suffix == ".npy" and path.stat().st_size > _largest_read() else None
        loaded = np.load(path, mmap_mode=mapped, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"train": loaded}
        with loaded:
            return dict(loaded)


def _largest_read() -> int:
    """Bytes of a file that is read whole."""
    return total_memory() // _SHARE_OF_MEMORY
