"""A user's own arrays: images in memory, or in .npy and .npz files."""

from __future__ import annotations

import math
import os
import zipfile
import zlib
from pathlib import Path
from typing import Literal

import numpy as np

from qvae.config.schema import DataConfig
from qvae.data.dataset import SPLIT_SEED, WHITE, Dataset, codes_of_bits, codes_of_levels, make_dataset, permutation
from qvae.errors import DataError

_ARRAYS = {
    "train": ("train", "x_train"),
    "test": ("test", "x_test"),
    "train_labels": ("train_labels", "y_train"),
    "test_labels": ("test_labels", "y_test"),
}


def dataset_from_arrays(
    train: np.ndarray,
    test: np.ndarray | None = None,
    train_labels: np.ndarray | None = None,
    test_labels: np.ndarray | None = None,
    binarize: Literal["dynamic", "fixed", "threshold"] = "dynamic",
    name: str = "arrays",
) -> Dataset:
    """A data set from images of shape (N, H, W), (N, H, W, C), (N, C, H, W) with 1 or 3 channels, or (N, D).

    Floats are grey levels in [0, 1], integers 0..255 (or bits, if none is above 1), booleans bits. Flat images of D
    pixels are squares where D is a square number, and single rows otherwise. Without ``test``, a tenth of the images,
    chosen by a fixed seed, is held out.

    Args:
        train: images to train on.
        test: images to evaluate on.
        train_labels: whole numbers, (N,).
        test_labels: the same of ``test``.
        binarize: as ``data.binarize`` in a configuration.
        name: for messages and results.

    Raises:
        DataError: too few images, shapes that don't fit, or values that aren't grey levels.
    """
    images = _images(train, f"{name}: train")
    labels = _labels(train_labels, len(images), f"{name}: train_labels")
    if test is None:
        if len(images) < 10:
            raise DataError(f"{name} holds {len(images)} images; at least 10 are needed to hold a tenth out.")
        order = permutation(len(images), SPLIT_SEED)
        kept, held_out = np.split(order, [len(images) - len(images) // 10])
        test_images, images = images[held_out], images[kept]
        held_out_labels, labels = (None, None) if labels is None else (labels[held_out], labels[kept])
    else:
        test_images = _images(test, f"{name}: test")
        held_out_labels = _labels(test_labels, len(test_images), f"{name}: test_labels")
    if len(images) < 2 or len(test_images) < 1:
        counts = f"{len(images)} training and {len(test_images)} test images"
        raise DataError(f"{name} holds {counts}; at least 2 and 1 are needed.")
    if images.shape[1:] != test_images.shape[1:]:
        shapes = f"{images.shape[1:]} and {test_images.shape[1:]}"
        raise DataError(f"{name}: training and test images have the shapes {shapes}; they must be of one shape.")
    return make_dataset(name, images, test_images, labels, held_out_labels, binarize)


def load_array_file(config: DataConfig) -> Dataset:
    """The data set in the .npy or .npz file that ``config.name`` names."""
    arrays = _read_arrays(Path(os.path.expanduser(config.name)))
    if len(arrays) == 1:
        return dataset_from_arrays(next(iter(arrays.values())), binarize=config.binarization, name=config.name)
    chosen = {role: arrays.pop(name) for role, names in _ARRAYS.items() for name in names if name in arrays}
    if arrays or "train" not in chosen:
        roles = ", ".join(f"{name} (or {other})" for name, other in _ARRAYS.values())
        raise DataError(
            f"{config.name} holds {', '.join([*chosen, *arrays]) or 'nothing'}; "
            f"an .npz holds one array, or train among these: {roles}."
        )
    return dataset_from_arrays(**chosen, binarize=config.binarization, name=config.name)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"train": loaded}
        with loaded:
            return dict(loaded)
    except FileNotFoundError:
        raise DataError(f"there is no file {path.absolute()}; set data.name to an existing .npy or .npz.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
    except (ValueError, EOFError, KeyError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if "pickle" in str(error):
            reason = "holds no array of plain numbers (pickled objects are never read); save one with numpy.save"
        else:
            reason = f"isn't an intact .npy or .npz file ({error}); save it again with numpy.save or numpy.savez"
        raise DataError(f"{path} {reason}.") from None


def _images(array: np.ndarray, where: str) -> np.ndarray:
    """Codes of grey levels, (N, H, W) or (N, C, H, W)."""
    codes = _codes_of_values(array, where)
    if codes.ndim == 2:
        pixels = codes.shape[1]
        side = math.isqrt(pixels)
        return codes.reshape(-1, side, side) if side * side == pixels else codes.reshape(-1, 1, pixels)
    if codes.ndim == 4 and codes.shape[3] in (1, 3):
        codes = np.moveaxis(codes, 3, 1)
    if codes.ndim == 4 and codes.shape[1] in (1, 3):
        return np.ascontiguousarray(codes[:, 0] if codes.shape[1] == 1 else codes)
    if codes.ndim != 3:
        allowed = "(N, D), (N, H, W), (N, H, W, C) or (N, C, H, W) with C = 1 or 3"
        raise DataError(f"{where} has the shape {array.shape}; images have {allowed}.")
    return codes


def _codes_of_values(array: np.ndarray, where: str) -> np.ndarray:
    if array.size == 0:
        raise DataError(f"{where} is empty: its shape is {array.shape}.")
    if array.dtype.kind == "b":
        return codes_of_bits(array)
    if array.dtype.kind in "iu":
        _require(array, (array < 0) | (array > 255), "outside 0..255", "give whole numbers in 0..255", where)
        return codes_of_bits(array > 0) if array.max() <= 1 else codes_of_levels(array, white=255)
    if array.dtype.kind == "f":
        _require(array, ~np.isfinite(array), "that are NaN or infinite", "replace them", where)
        remedy = "divide by 255 or save them as uint8" if 1 < array.max() <= 255 else "scale them to [0, 1]"
        _require(array, (array < 0) | (array > 1), "outside [0, 1]", remedy, where)
        return (np.rint(array.astype(np.float32) * WHITE) - 1).astype(np.int16)
    raise DataError(f"{where} is of type {array.dtype}; images are floats in [0, 1], integers in 0..255 or booleans.")


def _require(array: np.ndarray, wrong: np.ndarray, what: str, remedy: str, where: str) -> None:
    if wrong.any():
        first = np.unravel_index(int(wrong.argmax()), wrong.shape)
        place = ", ".join(str(int(index)) for index in first)
        count = f"{int(wrong.sum()):,} of {wrong.size:,} values"
        raise DataError(f"{where} has {count} {what}, the first {array[first]} at [{place}]; {remedy}.")


def _labels(array: np.ndarray | None, count: int, where: str) -> np.ndarray | None:
    if array is None:
        return None
    if array.shape != (count,) or array.dtype.kind not in "iu":
        raise DataError(f"{where} is {array.dtype} of shape {array.shape}; it must be integers of shape ({count},).")
    return array
