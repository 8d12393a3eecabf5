"""What each likelihood takes: numbers are looked at, refused if they are another likelihood's, and stored."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from qvae.data import grey
from qvae.data.dataset import Binarization, Dataset, Kind, chunks
from qvae.data.split import Split, is_mapped, require_fit
from qvae.errors import DataError

_FIXED_SEED = 0  # of binarize: fixed, whatever the seed of the training
_MOST_CATEGORIES = 1024
_LARGEST_COUNT = 2**24  # up to which float32 tells whole numbers apart
IN_PLACE = ("bool", "uint8", "int8", "int16", "int32", "int64", "float16", "float32", "float64")  # used from a file


@dataclass(frozen=True)
class Numbers:
    """An array and what was found in it.

    Attributes:
        array: as it came.
        where: whose it is, for messages.
        names: of its columns, if it is a table.
        low: the smallest.
        high: the largest.
        whole: whether all are whole numbers.
        is_given: to a trained model, whose likelihood is what it is.
    """

    array: np.ndarray
    where: str
    names: tuple[str, ...] | None
    low: float
    high: float
    whole: bool
    is_given: bool = False

    @classmethod
    def of(
        cls, array: np.ndarray, where: str, kind: Kind, names: tuple[str, ...] | None = None, is_given: bool = False
    ) -> Numbers:
        """Look through an array, a piece at a time.

        Raises:
            DataError: it is empty, or holds something else than finite numbers.
        """
        if array.size == 0:
            raise DataError(f"{where} is empty: its shape is {array.shape}.")
        if array.dtype.kind not in "biuf":
            takes = "images are floats in [0, 1], integers in 0..255 or booleans" if kind == "bits" else "give numbers"
            raise DataError(f"{where} is of type {array.dtype}; {takes}.")
        pieces = list(map(_look, chunks(np.atleast_1d(array))))
        low, high = min(piece[0] for piece in pieces), max(piece[1] for piece in pieces)
        numbers = cls(array, where, names, low, high, all(piece[2] for piece in pieces), is_given)
        if not np.isfinite(_single(np.array([low, high]))).all():
            numbers.refuse(lambda values: ~np.isfinite(_single(values)), "that are NaN or infinite", "replace them")
        return numbers

    @property
    def is_bits(self) -> bool:
        """Whether there is nothing but 0 and 1."""
        return self.whole and self.low >= 0 and self.high <= 1

    def otherwise(self, setting: str) -> str:
        """A remedy's last clause, the likelihood that takes such numbers, while it can be chosen."""
        return "" if self.is_given else f", or set model.likelihood={setting}"

    def refuse(self, wrong: Callable[[np.ndarray], np.ndarray], what: str, remedy: str) -> None:
        """Say how many numbers are wrong, and which is the first.

        Raises:
            DataError: always.
        """
        count, first, start = 0, None, 0
        array = np.atleast_1d(self.array)
        for piece in chunks(array):
            found = wrong(piece)
            if first is None and found.any():
                index = np.unravel_index(int(found.argmax()), found.shape)
                first = (int(index[0]) + start, *map(int, index[1:]))
            count, start = count + int(found.sum()), start + len(piece)
        assert first is not None
        place = f"at [{', '.join(map(str, first))}]"
        if self.names is not None:
            place = f"in row {first[0] + 1} of column {self.names[first[1]]!r}"
        total = f"{count:,} of {array.size:,} values"
        raise DataError(f"{self.where} has {total} {what}, the first {array[first]} {place}; {remedy}.")


def _look(values: np.ndarray) -> tuple[float, float, bool]:
    whole = values.dtype.kind != "f" or bool((values == np.rint(values)).all())
    return float(values.min()), float(values.max()), whole


def _single(values: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        return values.astype(np.float32, order="C")


# What is right for each kind: the number of levels, and what should be said ------------------------------------------


def scale(kind: Kind, parts: list[Numbers], is_image: bool) -> tuple[int | None, tuple[str, ...]]:
    """How many levels the numbers of all parts (training, perhaps test) have, and remarks on how they are taken.

    Raises:
        DataError: they aren't what the likelihood of this kind takes, or the parts are scaled apart.
    """
    return {"bits": _grey_scale, "reals": _real_scale, "counts": _count_scale, "categories": _category_scale}[kind](
        parts, is_image
    )


def _grey_scale(parts: list[Numbers], is_image: bool) -> tuple[int | None, tuple[str, ...]]:
    for part in parts:
        _require_grey_levels(part)
    brightest = max(parts, key=lambda part: part.high)
    if brightest.high <= 1:
        return 2, ()
    # Floats and bits are levels in [0, 1]; one part can't be when the other goes to 255.
    for part in parts:
        if part.array.dtype.kind == "f" or part.high <= 1:
            raise _scaled_apart(part, brightest)
    images_in_bytes = is_image and brightest.array.dtype == np.uint8
    if brightest.names is not None or brightest.high < (128 if images_in_bytes else 250):
        others = "poisson or negative-binomial for counts, categorical for numbers of categories, gaussian for measured numbers"
        raise DataError(
            f"{brightest.where} holds whole numbers up to {brightest.high:g}, which aren't grey levels 0..255; divide grey "
            f"levels by their white (by {brightest.high:g}?){brightest.otherwise(others)}."
        )
    return 256, ()


def _require_grey_levels(part: Numbers) -> None:
    if part.array.dtype.kind == "f" and not (part.low >= 0 and part.high <= 1):
        remedy = "scale them to [0, 1]"
        if part.low >= 0 and part.high <= 255:
            remedy = "divide by 255 or save them as uint8"
        other = "poisson (counts)" if part.whole and part.low >= 0 else "gaussian"
        remedy += part.otherwise(f"{other} to keep them as they are")
        part.refuse(lambda values: (values < 0) | (values > 1), "outside [0, 1]", remedy)
    if not (part.low >= 0 and part.high <= 255):
        other = "poisson (counts)" if part.low >= 0 else "gaussian"
        remedy = f"give whole numbers in 0..255{part.otherwise(f'{other} to keep them as they are')}"
        part.refuse(lambda values: (values < 0) | (values > 255), "outside 0..255", remedy)


def _real_scale(parts: list[Numbers], is_image: bool) -> tuple[int | None, tuple[str, ...]]:
    _refuse_bits(parts)
    low, widest = min(part.low for part in parts), max(parts, key=lambda part: part.high)
    for part in parts:
        if part.low >= 0 and part.high <= 1 and widest.high >= 100:
            raise _scaled_apart(part, widest)
    if not all(part.whole for part in parts):
        return None, ()
    in_bytes = widest.high >= 250 or all(part.array.dtype == np.uint8 for part in parts)
    if is_image and low >= 0 and widest.high <= 255 and in_bytes:
        return 256, ()
    return None, (
        f"{parts[0].where} holds whole numbers; model.likelihood=gaussian takes them for real ones, "
        "poisson and negative-binomial take counts.",
    )


def _count_scale(parts: list[Numbers], is_image: bool) -> tuple[int | None, tuple[str, ...]]:
    _refuse_bits(parts)
    for part in parts:
        require_counts(part)
    return None, ()


def _category_scale(parts: list[Numbers], is_image: bool) -> tuple[int | None, tuple[str, ...]]:
    for part in parts:
        require_whole(part, "numbers of categories")
        if part.high >= _MOST_CATEGORIES:
            most = f"above {_MOST_CATEGORIES - 1}"
            remedy = "number categories from 0, or set model.likelihood=poisson or negative-binomial for counts"
            part.refuse(lambda values: values >= _MOST_CATEGORIES, most, remedy)
    high = max(part.high for part in parts)
    if is_image and high >= 128 and all(part.array.dtype == np.uint8 for part in parts):
        return 256, ()
    return max(2, int(high) + 1), ()


def _refuse_bits(parts: list[Numbers]) -> None:
    if all(part.is_bits for part in parts):
        raise DataError(f"{parts[0].where} holds nothing but 0 and 1; set model.likelihood=bernoulli, which takes bits.")


def require_counts(part: Numbers) -> None:
    """Raise a DataError unless all are whole numbers from 0 to 2^24."""
    require_whole(part, "counts")
    if part.high > _LARGEST_COUNT:
        remedy = f"divide them{part.otherwise('gaussian')}"
        part.refuse(lambda values: values > _LARGEST_COUNT, f"above {_LARGEST_COUNT:,}", remedy)


def require_whole(part: Numbers, what: str) -> None:
    """Raise a DataError unless all are whole numbers from 0 on."""
    remedy = f"give {what} as whole numbers from 0{part.otherwise('gaussian for real numbers')}"
    if not part.whole:
        if part.low >= 0 and part.high <= 1 and not part.is_given:
            remedy += ", bernoulli for grey levels"
        part.refuse(lambda values: values != np.rint(values), "that aren't whole", remedy)
    if part.low < 0:
        part.refuse(lambda values: values < 0, "below 0", remedy)


def _scaled_apart(dark: Numbers, bright: Numbers) -> DataError:
    ends = f"{dark.where} ends at {dark.high:g} and {bright.where} at {bright.high:g}"
    return DataError(f"{ends}, so they are scaled apart; scale training and test data alike.")


# Storing --------------------------------------------------------------------------------------------------------------


def make_dataset(
    name: str,
    split: Split,
    kind: Kind,
    binarize: Literal["dynamic", "fixed", "threshold"],
    levels: int | None,
    feature_names: tuple[str, ...] | None = None,
    remarks: tuple[str, ...] = (),
) -> Dataset:
    """Store rows that are known to be what ``kind`` takes; those of a memory-mapped file stay where they lie.

    Args:
        name: for messages and results.
        split: rows, (N, *shape).
        kind: of data that the model's likelihood takes.
        binarize: how grey levels become bits.
        levels: the rows are whole numbers 0..levels-1, or floats between black and white if two; None for others.
        feature_names: of the columns.
        remarks: on how the rows were taken.

    Raises:
        DataError: rows are too few or differ in shape, or data in a file would have to be binarized once or converted.
    """
    require_fit(split, name)
    stays = is_mapped(split.train) or is_mapped(split.test)
    if kind == "reals" and levels is None:
        remarks += _constant_features(split.train, name, feature_names)
    binarization: Binarization = "none"
    if kind == "bits":
        binarization = "fixed-seed" if binarize == "fixed" else binarize
        if split.train.ndim == 4:
            remarks += (
                "colour images are cut to bits in each channel, eight colours; model.likelihood=gaussian keeps their shades.",
            )
    if stays and binarization == "fixed-seed":
        raise DataError(
            f"{name} is read from its file as it is used, and data.binarize=fixed draws all bits beforehand; "
            "set data.binarize to dynamic or threshold."
        )
    if stays:
        train, test = (in_place(rows, name) for rows in (split.train, split.test))
    elif kind == "bits":
        train, test = (
            _coded(rows, levels or 2, binarization, [_FIXED_SEED, part]) for part, rows in enumerate((split.train, split.test))
        )
    else:
        train, test = (_stored(rows, kind, levels) for rows in (split.train, split.test))
    return Dataset(
        name,
        train,
        test,
        None if split.train_labels is None else torch.from_numpy(split.train_labels.astype(np.int64)),
        None if split.test_labels is None else torch.from_numpy(split.test_labels.astype(np.int64)),
        binarization,
        kind,
        feature_names,
        None if kind == "counts" or (kind == "bits" and not stays) else levels,
        remarks,
    )


def _constant_features(rows: np.ndarray, name: str, names: tuple[str, ...] | None) -> tuple[str, ...]:
    """A remark on features that never vary, whose density is that of the smallest variance there may be."""
    ends = [(piece.min(0), piece.max(0)) for piece in chunks(rows)]
    low, high = np.min([end[0] for end in ends], 0).reshape(-1), np.max([end[1] for end in ends], 0).reshape(-1)
    constant = np.nonzero(low == high)[0]
    if not len(constant):
        return ()
    first = names[constant[0]] if names is not None else f"number {constant[0]}"
    return (
        f"{name}: {len(constant):,} of {low.size:,} features never vary (the first is {first}); to fit them without error "
        "raises the likelihood and tells nothing, and under model.variance=shared narrows the others: leave them out.",
    )


def can_stay(rows: np.ndarray) -> bool:
    """Whether PyTorch takes numbers as they lie in memory, or in a file."""
    return rows.dtype.name in IN_PLACE and rows.dtype.isnative and min(rows.strides) >= 0


def in_place(rows: np.ndarray, name: str) -> Tensor:
    """Rows of a memory-mapped file, where they lie; others are copied.

    Raises:
        DataError: they are of a type that would have to be converted.
    """
    if not is_mapped(rows):
        rows = rows.copy()
    if not can_stay(rows):
        raise DataError(
            f"{name} is of type {rows.dtype.str} and too large to be converted in memory; save it as one of "
            f"{', '.join(IN_PLACE)} in this machine's byte order and in ascending order."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # a file that is open for reading only isn't written to by us
        return torch.from_numpy(rows)


def _coded(rows: np.ndarray, levels: int, binarization: Binarization, seed: list[int]) -> Tensor:
    codes = torch.empty(rows.shape, dtype=torch.int16)
    start = 0
    for piece in chunks(rows):
        codes[start : start + len(piece)] = grey.codes_of_levels(torch.from_numpy(_single(piece)), levels)
        start += len(piece)
    if binarization == "fixed-seed":
        return grey.draw_once(codes, seed)
    return grey.cut(codes) if binarization == "threshold" else codes


def _stored(rows: np.ndarray, kind: Kind, levels: int | None) -> Tensor:
    if kind == "reals" and levels is None:
        return torch.from_numpy(rows.astype(np.float32, order="C"))
    return torch.from_numpy(rows.astype(np.uint8 if levels is not None and levels <= 256 else np.int32, order="C"))
