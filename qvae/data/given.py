"""Rows that a trained model is given: opened without being read whole, and looked at before anything is done with them."""

from __future__ import annotations

import os
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import torch

from qvae.config.paths import holds_sound
from qvae.data.alphabet import Alphabet
from qvae.data.dataset import Dataset, Kind, chunks
from qvae.data.given_table import TABLE_ENDINGS, KnownColumns, table_rows
from qvae.data.images import IMAGE_ENDINGS, image_files, pixels, upright_image
from qvae.data.kinds import IN_PLACE, Numbers, can_stay, in_place, require_counts, require_whole, scale
from qvae.data.opened import reading, require_file
from qvae.data.sound import read_wav, spectrogram, wav_files
from qvae.data.strings import cleaned, read_lines
from qvae.errors import DataError
from qvae.files import from_user

_ROWS = ("images", "rows", "x", "X", "data", "train", "test")  # what they may be called in an .npz
_IDS = "ids"
_NOTHING_KNOWN = KnownColumns()


@dataclass(frozen=True)
class Given:
    """Rows in a file or folder, and what they mean.

    Attributes:
        dataset: they are its ``test`` rows, (N, *shape), which stay on the disk.
        ids: N names: those of files, of an array ``ids`` in the .npz or a column ``id`` of the table, strings themselves, or
            numbers from 0.
        extra: the other arrays of the .npz, such as a mask.
        are_pictures: whether they came as files of images.
    """

    dataset: Dataset
    ids: list[str]
    extra: Mapping[str, np.ndarray]
    are_pictures: bool

    def __len__(self) -> int:
        return len(self.dataset.test)


@contextmanager
def given_rows(
    path: str | Path,
    shapes: Sequence[tuple[int, ...]],
    kind: Kind,
    levels: int | None = None,
    cuts: bool = False,
    known: KnownColumns = _NOTHING_KNOWN,
    alphabet: Alphabet | None = None,
    rate: int | None = None,
) -> Iterator[Given]:
    """The rows of an .npy, .npz, .csv, .parquet or .txt file, the images of a PNG or JPEG file or of a folder, or clips in one.

    Memory stays flat however many they are: what isn't mapped where it lies is unpacked into a temporary folder, which goes
    with the block. A .csv, .parquet or .txt file is read whole.

    Args:
        path: of the file or folder.
        shapes: that a row may have; flat rows and a channel of its own fit as well.
        kind: of data that the model takes.
        levels: of categories, how many it knows.
        cuts: grey levels become bits by a cut at 0.5; else they are drawn.
        known: of the columns of a table.
        alphabet: of strings, those that the model knows.
        rate: of clips, samples a second, where it is known.

    Raises:
        DataError: there is nothing there, it is damaged, or rows are of another shape or out of range.
    """
    source = from_user(path)
    if (source.suffix == ".txt") != (kind == "strings"):
        takes = "strings, from a .txt file, one a line" if kind == "strings" else f"{kind}, no strings"
        raise DataError(f"{path} can't be taken: this model takes {takes}.")
    if not os.path.exists(source):
        raise DataError(f"there is no file or folder {source}; name one that is there.")
    if alphabet is not None:
        yield _given_strings(source, shapes[0][0], alphabet)
        return
    with tempfile.TemporaryDirectory(prefix="qvae-", ignore_cleanup_errors=True) as folder:
        are_clips = kind == "reals" and holds_sound(source)
        are_pictures = (source.is_dir() and not are_clips) or source.suffix.lower() in IMAGE_ENDINGS
        if are_pictures:
            files = image_files(source) if source.is_dir() else [source]
            ids = [os.path.relpath(file, source if source.is_dir() else source.parent) for file in files]
            rows = _unpacked_images(files, shapes, Path(folder))
            extra: dict[str, np.ndarray] = {}
        elif are_clips:
            sounds = wav_files(source)
            rows, ids, extra = _unpacked_clips(sounds, shapes[0], Path(folder), rate), [file.name for file in sounds], {}
        elif source.suffix in TABLE_ENDINGS:
            rows, names = table_rows(source, kind, known)
            rows, ids, extra = _shaped(rows, shapes, str(source)), names or _numbers(len(rows)), {}
        else:
            rows, extra = _chosen(mapped_arrays(source, Path(folder)), source)
            rows = _shaped(rows, shapes, str(source))
            ids = _ids(extra.pop(_IDS, None), len(rows), source)
        rows = _usable(rows, Path(folder))
        dataset = _dataset(rows, str(path), kind, levels, cuts, are_pictures)
        yield Given(dataset, ids, extra, are_pictures)


def _given_strings(source: Path, longest: int, alphabet: Alphabet) -> Given:
    """Lines of a text file, by their own names."""
    lines = read_lines(source)
    strings = cleaned(lines, str(source))
    if not strings:
        raise DataError(f"{source} holds no strings: each line must be one.")
    stored = torch.from_numpy(alphabet.encode(strings, longest, str(source)))
    dataset = Dataset(
        str(source), stored, stored, None, None, "none", "strings",
        levels=alphabet.size, remarks=tuple(_otherwise(lines, strings, source)), alphabet=alphabet,
    )  # fmt: skip
    return Given(dataset, strings, {}, are_pictures=False)


def _otherwise(lines: list[str], strings: list[str], source: Path) -> Iterator[str]:
    """What of the lines isn't in the strings."""
    if empty := len(lines) - len(strings):
        yield f"{source}: {empty:,} empty line{'s were' if empty > 1 else ' was'} left out"
    if changed := sum(map(str.__ne__, filter(str.strip, lines), strings)):
        yield f"{source}: {changed:,} line{'s' * (changed > 1)} changed: blanks at the ends go, and letters are composed"


def mapped_arrays(path: Path, folder: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz by their names, unpacked into ``folder``, or that of an .npy, called ``rows``; all are mapped.

    Raises:
        DataError: it can't be read, or is damaged.
    """
    with reading(path):
        require_file(path)
        if not zipfile.is_zipfile(path):
            return {"rows": np.load(path, mmap_mode="r", allow_pickle=False)}
        with zipfile.ZipFile(path) as archive:
            return {PurePosixPath(name).stem: _unpacked(archive, name, folder) for name in archive.namelist()}


def _unpacked(archive: zipfile.ZipFile, name: str, folder: Path) -> np.ndarray:
    size, free = archive.getinfo(name).file_size, shutil.disk_usage(folder).free
    if size > free:
        raise DataError(f"{name} in {archive.filename} unpacks to {size / 1e9:.1f} GB, but {free / 1e9:.1f} GB are free.")
    descriptor, file = tempfile.mkstemp(suffix=".npy", dir=folder)
    with archive.open(name) as packed, os.fdopen(descriptor, "wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
    # Numbers stay on the disk; texts, which can't, are few.
    array = np.load(file, mmap_mode="r", allow_pickle=False)
    return array if array.size else np.array(array)


def _chosen(arrays: dict[str, np.ndarray], source: Path) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """The rows of an .npz, and what else is in it."""
    names = [name for name in _ROWS if name in arrays]
    if not names and len(arrays) == 1:
        names = list(arrays)
    if len(names) != 1:
        holds = ", ".join(arrays) or "nothing"
        raise DataError(f"{source} holds {holds}; rows are its only array, or one of: {', '.join(_ROWS)}.")
    return arrays.pop(names[0]), arrays


def unit_levels(array: np.ndarray, where: str) -> torch.Tensor:
    """Grey levels, bits or truth values, from 0 to 1, float32.

    Raises:
        DataError: they are none of these.
    """
    levels, _ = scale("bits", [Numbers.of(array, where, "bits", is_given=True)], is_image=True)
    return torch.from_numpy(array.astype(np.float32)) / ((levels or 2) - 1)


def _ids(found: np.ndarray | None, count: int, source: Path) -> list[str]:
    if found is None:
        return _numbers(count)
    if found.shape != (count,):
        raise DataError(f"{source} holds {count} rows, but ids of shape {found.shape}; there must be one for each row.")
    return [str(name) for name in found]


def _numbers(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def _shaped(rows: np.ndarray, shapes: Sequence[tuple[int, ...]], where: str) -> np.ndarray:
    """The same numbers as (N, *shape)."""
    for shape in shapes:
        size = int(np.prod(shape))
        if rows.shape == shape:
            return rows[None]
        if rows.ndim > 1 and rows.shape[1:] in (shape, (1, *shape), (*shape, 1), (size,)):
            return rows.reshape(len(rows), *shape)
        if len(shape) == 3 and rows.shape[1:] == (*shape[1:], shape[0]):
            return np.moveaxis(rows, 3, 1)
    takes = " or ".join(f"(N, {', '.join(map(str, shape))})" for shape in shapes)
    raise DataError(f"{where} has the shape {rows.shape}, but this model takes {takes}.")


def _usable(rows: np.ndarray, folder: Path) -> np.ndarray:
    """The same numbers in a type and an order that PyTorch takes, if need be in a file of their own; others stay."""
    if rows.dtype.kind not in "iuf" or not rows.size or can_stay(rows):
        return rows
    wider = np.promote_types(rows.dtype, np.int8)
    target = np.lib.format.open_memmap(
        folder / "usable.npy", "w+", wider if wider.name in IN_PLACE else np.dtype(np.float64), rows.shape
    )
    start = 0
    for piece in chunks(rows):
        target[start : start + len(piece)] = piece
        start += len(piece)
    target.flush()
    return target


def _unpacked_images(files: list[Path], shapes: Sequence[tuple[int, ...]], folder: Path) -> np.ndarray:
    """(N, *shape), uint8, mapped."""
    is_grey = len(shapes[0]) == 2
    first = pixels(upright_image(files[0], is_grey))
    target = np.lib.format.open_memmap(folder / "images.npy", "w+", np.uint8, (len(files), *first.shape))
    for row, file in enumerate(files):
        image = pixels(upright_image(file, is_grey))
        if image.shape not in shapes or image.shape != first.shape:
            height, width = image.shape[-2:]
            takes = " or ".join(f"{shape[-2]} x {shape[-1]}" for shape in shapes if len(shape) > 1) or "rows, no images"
            raise DataError(f"{file} is {height} x {width} pixels, but this model takes {takes}, all of one size.")
        target[row] = image
    target.flush()
    return target


def _unpacked_clips(files: list[Path], shape: tuple[int, ...], folder: Path, rate: int | None) -> np.ndarray:
    """Spectrograms (N, *shape), float32, mapped."""
    if len(shape) != 2:
        raise DataError(f"{files[0].parent} holds sound, but this model takes rows of shape {shape}, no spectrograms.")
    window = 2 * (shape[0] - 1)
    target = np.lib.format.open_memmap(folder / "clips.npy", "w+", np.float32, (len(files), *shape))
    for row, file in enumerate(files):
        clip, its_rate = read_wav(file)
        if rate is not None and its_rate != rate:
            takes = f"{rate:,}, as the clips that it was trained on"
            raise DataError(f"{file} has {its_rate:,} samples a second, but this model takes {takes}; resample it.")
        frames = 1 + 4 * len(clip) // window
        if frames != shape[1] or len(clip) < window:
            takes = f"{(shape[1] - 1) * window // 4:,} samples, as the clips that it was trained on"
            raise DataError(f"{file} has {len(clip):,} samples, but this model takes {takes}.")
        target[row] = spectrogram(torch.from_numpy(clip).unsqueeze(0), window)[0].numpy()
    target.flush()
    return target


def _dataset(rows: np.ndarray, where: str, kind: Kind, levels: int | None, cuts: bool, are_pictures: bool) -> Dataset:
    numbers = Numbers.of(rows, where, kind, is_given=True)
    in_bytes = are_pictures or (rows.ndim > 2 and rows.dtype == np.uint8)
    if kind == "bits":
        levels = 256 if are_pictures else scale(kind, [numbers], rows.ndim > 2)[0]
    elif kind == "reals":
        levels = 256 if in_bytes else None
    elif kind == "counts":
        require_counts(numbers)
    else:
        require_whole(numbers, "numbers of categories")
        if levels is not None and numbers.high >= levels:
            known = levels  # of which the lambda is told now
            numbers.refuse(lambda values: values >= known, f"of unknown categories, {levels} and above", "leave such rows out")
    stored = in_place(rows, where)
    binarization = "none" if kind != "bits" else "threshold" if cuts else "dynamic"
    return Dataset(where, stored, stored, None, None, binarization, kind, levels=levels)  # type: ignore[arg-type]
