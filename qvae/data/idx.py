"""Data sets in idx files, MNIST and Fashion-MNIST: where they are looked for, fetched from and how they are read."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import math
import os
import urllib.request
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from qvae.config.schema import DataConfig
from qvae.data.dataset import Dataset, Kind
from qvae.data.kinds import make_dataset
from qvae.data.split import Split
from qvae.errors import DataError
from qvae.files import atomic_write_bytes

_TIMEOUT = 30.0  # seconds without a byte from a mirror


@dataclass(frozen=True)
class IdxFile:
    """One of the four files of a data set: its name without an ending, its exact shape and the MD5 of its content."""

    stem: str
    shape: tuple[int, ...]
    md5: str

    @property
    def size(self) -> int:
        """Bytes: a magic number, the shape and the values."""
        return 4 + 4 * len(self.shape) + math.prod(self.shape)

    @property
    def names(self) -> list[str]:
        """Spellings in use, in the order in which they are looked for."""
        plain = [f"{self.stem}-idx{len(self.shape)}-ubyte", f"{self.stem}.idx{len(self.shape)}-ubyte"]
        return [*plain, *(f"{name}.gz" for name in plain)]


@dataclass(frozen=True)
class IdxSet:
    """Training images, training labels, test images and test labels, and where they can be fetched."""

    files: tuple[IdxFile, IdxFile, IdxFile, IdxFile]
    mirrors: tuple[str, ...]


IDX_SETS = {
    "mnist": IdxSet(
        (
            IdxFile("train-images", (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
            IdxFile("train-labels", (60_000,), "a25bea736e30d166cdddb491f175f624"),
            IdxFile("t10k-images", (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
            IdxFile("t10k-labels", (10_000,), "27ae3e4e09519cfbb04c329615203637"),
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "fashion-mnist": IdxSet(
        (
            IdxFile("train-images", (60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            IdxFile("train-labels", (60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
            IdxFile("t10k-images", (10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
            IdxFile("t10k-labels", (10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
        ),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    ),
}


def load_idx_set(config: DataConfig, kind: Kind) -> Dataset:
    """The data set ``config.name``, from files found or downloaded."""
    paths = _find(config) or _download(config)
    arrays = [_read_idx(path, file) for path, file in zip(paths, IDX_SETS[config.name].files, strict=True)]
    split = Split(train=arrays[0], train_labels=arrays[1], test=arrays[2], test_labels=arrays[3])
    return make_dataset(config.name, split, kind, config.binarization, levels=256)


def _folders(config: DataConfig) -> list[Path]:
    """Where the files may be; the last is where they are downloaded to."""
    if config.root is not None:
        return [Path(os.path.expanduser(config.root))]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return [Path("data", config.name), cache / "qvae" / config.name]


def _path_in(folder: Path, file: IdxFile) -> Path | None:
    return next((folder / name for name in file.names if os.path.isfile(folder / name)), None)


def _find(config: DataConfig) -> list[Path] | None:
    """The four files in the first folder that holds them all; None where they are to be downloaded."""
    files = IDX_SETS[config.name].files
    lacking = []
    for folder in _folders(config):
        found = [_path_in(folder, file) for file in files]
        paths = [path for path in found if path is not None]
        if len(paths) == len(files):
            return paths
        missing = ", ".join(file.names[0] for file, path in zip(files, found, strict=True) if path is None)
        lacking.append(f"{folder.absolute()} has no {missing}")
    if config.download:
        return None
    raise DataError(
        f"the files of {config.name}, plain or .gz, weren't found: {'; '.join(lacking)}; "
        "name their folder by `--set data.root=FOLDER` or fetch them by `--set data.download=true`."
    )


def _read_idx(path: Path, file: IdxFile) -> np.ndarray:
    try:
        with path.open("rb") as stream:
            return _parse_idx(stream, str(path), file)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None


def _parse_idx(stream: BinaryIO, where: str, file: IdxFile) -> np.ndarray:
    """Values of an idx file, uint8: zero, zero, type 8 (unsigned byte), number of dimensions, dimensions, values.

    Format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".
    """
    rank = len(file.shape)
    content = _unpacked(stream, where, file.size + 1) if where.endswith(".gz") else stream.read(file.size + 1)
    magic = bytes([0, 0, 8, rank])
    if content[:4] != magic[: len(content)]:
        begin = f"{where} begins with {content[:4].hex()}, not with {magic.hex()}"
        raise DataError(f"{begin}: it isn't the idx file of {file.stem}.")
    shape = tuple(int.from_bytes(content[4 + 4 * i : 8 + 4 * i], "big") for i in range(rank))
    if len(content) >= 4 + 4 * rank and shape != file.shape:
        raise DataError(f"{where} holds values of shape {shape}, but {file.stem} has {file.shape}: it is another file.")
    if len(content) < file.size:
        held = f"{len(content):,} of {file.size:,} bytes"
        raise DataError(f"{where} is truncated: it holds {held}; copy or fetch it again.")
    if len(content) > file.size:
        raise DataError(f"{where} holds more than the {file.size:,} bytes of {file.stem}; copy or fetch it again.")
    md5 = hashlib.md5(content, usedforsecurity=False).hexdigest()
    if md5 != file.md5:
        raise DataError(f"the content of {where} has MD5 {md5}, not {file.md5}: it is damaged or another data set's.")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(file.shape)


def _unpacked(stream: BinaryIO, where: str, size: int) -> bytes:
    """Up to ``size`` bytes of what a gzip stream holds; as far as it goes, where it breaks off."""
    content = bytearray()
    try:
        with gzip.GzipFile(fileobj=stream) as unpacking:
            while len(content) < size and (piece := unpacking.read(min(2**20, size - len(content)))):
                content += piece
    except EOFError:
        pass
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{where} isn't an intact .gz file ({error}); copy or fetch it again.") from None
    return bytes(content)


def _download(config: DataConfig) -> list[Path]:
    """Fetch the files that the last folder lacks; each is written once its content has been checked."""
    folder, idx_set = _folders(config)[-1], IDX_SETS[config.name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} can't be made ({error.strerror}); download to another by data.root.") from None
    return [_path_in(folder, file) or _fetch(file, idx_set.mirrors, folder) for file in idx_set.files]


def _fetch(file: IdxFile, mirrors: tuple[str, ...], folder: Path) -> Path:
    name = f"{file.names[0]}.gz"
    failures = []
    for mirror in mirrors:
        try:
            with urllib.request.urlopen(mirror + name, timeout=_TIMEOUT) as reply:
                packed = reply.read(file.size + 2**16)
            _parse_idx(io.BytesIO(packed), mirror + name, file)
        except (OSError, http.client.HTTPException, DataError) as error:
            failures.append(f"{mirror + name}: {getattr(error, 'reason', error)}")
            continue
        atomic_write_bytes(folder / name, packed)
        return folder / name
    raise DataError(
        f"{name} can't be downloaded ({'; '.join(failures)}); try again later, "
        f"or put the files into {folder.absolute()} or another folder, named by `--set data.root=FOLDER`."
    )
