"""Data sets: embedded digits, MNIST and Fashion-MNIST from idx files, and a user's own arrays; grey levels to bits."""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import math
import os
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import torch
from torch import Tensor

from qvae.config.schema import DataConfig
from qvae.errors import DataError
from qvae.files import atomic_write_bytes

Binarization = Literal["dynamic", "fixed-seed", "threshold"]

_WHITE = 2**15  # grey levels are multiples of 1/32768, so that 15 random bits make a pixel
_SPLIT_SEED = 0  # of the split into training and test images, where a data set has none
_FIXED_SEED = 0  # of binarize: fixed, whatever the seed of the training
_TIMEOUT = 30.0  # seconds without a byte from a mirror


@dataclass(frozen=True)
class Dataset:
    """Images as grey levels, and how they become bits.

    A grey level g in [0, 1] is kept as the integer round(32768 g) - 1 in int16: half the memory of float32, and a pixel
    is drawn by one comparison with 15 random bits. :meth:`grey` gives the level back, :meth:`binarize` gives bits; both
    take any rows of ``train`` or ``test``, flattened or not, on any device.

    Attributes:
        name: as in the configuration.
        train: coded grey levels, int16, (N, *image_shape).
        test: the same of images that training doesn't see.
        train_labels: int64, (N,), or None.
        test_labels: the same of ``test``.
        binarization: ``dynamic`` draws pixels anew at every use; ``fixed-seed`` drew them once, ``threshold`` cut them
            at 0.5, when the data was loaded. Likelihoods under different binarizations can't be compared.
    """

    name: str
    train: Tensor
    test: Tensor
    train_labels: Tensor | None
    test_labels: Tensor | None
    binarization: Binarization

    @property
    def image_shape(self) -> tuple[int, ...]:
        """(H, W) or (C, H, W)."""
        return tuple(self.train.shape[1:])

    @property
    def mean_image(self) -> Tensor:
        """Mean grey level of the training images, which is the mean of their bits, (*image_shape)."""
        mean = self.train.numpy().mean(0, dtype=np.float64)
        return torch.from_numpy((mean + 1) / _WHITE).float()

    def grey(self, images: Tensor) -> Tensor:
        """Grey levels in [0, 1], float32, of coded ``images``."""
        return (images.float() + 1) / _WHITE

    def binarize(self, images: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Bits as float32 in the shape of coded ``images``: 1 with the probability of the grey level.

        Images that were binarized when they were loaded come out as they are, and draw nothing from the generator.
        """
        bits = torch.empty(images.shape, device=images.device)
        if self.binarization != "dynamic":
            return torch.gt(images, 0, out=bits)
        # Four pixels from each 64-bit number: three times as fast as torch.rand and a comparison of floats.
        count = images.numel()
        noise = torch.empty(-(-count // 4), dtype=torch.int64, device=images.device).random_(generator=generator)
        noise = noise.bitwise_and_(0x7FFF_7FFF_7FFF_7FFF).view(torch.int16)[:count].view(images.shape)
        return torch.le(noise, images, out=bits)


def binarize_fixed(dataset: Dataset, images: Tensor, seed: int) -> Tensor:
    """Bits that depend on the seed alone, and not on the device: the draw of the test images that an evaluation uses.

    The first rows are the same however many follow.
    """
    return dataset.binarize(images.cpu(), torch.Generator().manual_seed(seed)).to(images.device)


def epoch_permutation(num_images: int, epoch: int, seed: int) -> Tensor:
    """The order of the training images in an epoch, int64, (num_images,): a function of its arguments and nothing else.

    >>> epoch_permutation(5, epoch=0, seed=0).tolist() == epoch_permutation(5, epoch=0, seed=0).tolist()
    True
    """
    return torch.from_numpy(_permutation(num_images, [seed, epoch]))


def _permutation(count: int, seed: int | list[int]) -> np.ndarray:
    # NumPy promises the raw stream of a bit generator for all its versions, but not what its distributions make of it.
    return np.argsort(np.random.PCG64(np.random.SeedSequence(seed)).random_raw(count), kind="stable")


def load_data(config: DataConfig) -> Dataset:
    """The data set that a configuration names.

    ``digits`` are the 1,797 digits of 8x8 pixels and 17 grey levels in scikit-learn, split once and for all into 1,500
    training and 297 test images. ``mnist`` and ``fashion-mnist`` are read from the usual idx files. Arrays in a .npy or
    .npz file are taken as :func:`dataset_from_arrays` says; an .npz holds ``train`` (or ``x_train``) and perhaps
    ``test``, ``train_labels`` and ``test_labels`` (or ``x_test``, ``y_train``, ``y_test``), or one array of any name.

    Raises:
        DataError: files are missing, damaged or not what they should be, or values are out of range.
    """
    if config.name == "digits":
        return _load_digits(config)
    if config.name in _IDX_SETS:
        return _load_idx_set(config)
    return _load_array_file(config)


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
        order = _permutation(len(images), _SPLIT_SEED)
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
    return _dataset(name, images, test_images, labels, held_out_labels, binarize)


def _dataset(
    name: str,
    train: np.ndarray,
    test: np.ndarray,
    train_labels: np.ndarray | None,
    test_labels: np.ndarray | None,
    binarize: Literal["dynamic", "fixed", "threshold"],
) -> Dataset:
    """Binarize now what is to be binarized once."""
    if binarize == "fixed":
        train, test = (_binarize_once(images, [_FIXED_SEED, part]) for part, images in enumerate((train, test)))
    elif binarize == "threshold":
        train, test = (_codes_of_bits(images >= _WHITE // 2 - 1) for images in (train, test))
    return Dataset(
        name,
        torch.from_numpy(train),
        torch.from_numpy(test),
        None if train_labels is None else torch.from_numpy(train_labels.astype(np.int64)),
        None if test_labels is None else torch.from_numpy(test_labels.astype(np.int64)),
        "fixed-seed" if binarize == "fixed" else binarize,
    )


def _binarize_once(codes: np.ndarray, seed: list[int]) -> np.ndarray:
    generator = np.random.PCG64(np.random.SeedSequence(seed))
    noise = generator.random_raw(-(-codes.size // 4)).astype("<u8").view("<i2")[: codes.size]
    return _codes_of_bits((noise & 0x7FFF).reshape(codes.shape) <= codes)


def _codes_of_bits(bits: np.ndarray) -> np.ndarray:
    return np.where(bits, np.int16(_WHITE - 1), np.int16(-1))


def _codes_of_levels(levels: np.ndarray, white: int) -> np.ndarray:
    """Codes of integer grey levels 0..white."""
    table = np.rint(np.arange(white + 1) * (_WHITE / white)) - 1
    return table.astype(np.int16)[levels]


def _load_digits(config: DataConfig) -> Dataset:
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = _permutation(len(digits.images), _SPLIT_SEED)
    images, labels = _codes_of_levels(digits.images.astype(np.uint8), white=16)[order], digits.target[order]
    return _dataset("digits", images[:1500], images[1500:], labels[:1500], labels[1500:], config.binarization)


# Idx files ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _IdxFile:
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
class _IdxSet:
    """Training images, training labels, test images and test labels, and where they can be fetched."""

    files: tuple[_IdxFile, _IdxFile, _IdxFile, _IdxFile]
    mirrors: tuple[str, ...]


_IDX_SETS = {
    "mnist": _IdxSet(
        (
            _IdxFile("train-images", (60_000, 28, 28), "6bbc9ace898e44ae57da46a324031adb"),
            _IdxFile("train-labels", (60_000,), "a25bea736e30d166cdddb491f175f624"),
            _IdxFile("t10k-images", (10_000, 28, 28), "2646ac647ad5339dbf082846283269ea"),
            _IdxFile("t10k-labels", (10_000,), "27ae3e4e09519cfbb04c329615203637"),
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
    ),
    "fashion-mnist": _IdxSet(
        (
            _IdxFile("train-images", (60_000, 28, 28), "f4a8712d7a061bf5bd6d2ca38dc4d50a"),
            _IdxFile("train-labels", (60_000,), "9018921c3c673c538a1fc5bad174d6f9"),
            _IdxFile("t10k-images", (10_000, 28, 28), "8181f5470baa50b63fa0f6fddb340f0a"),
            _IdxFile("t10k-labels", (10_000,), "15d484375f8d13e6eb1aabb0c3f46965"),
        ),
        ("http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",),
    ),
}


def _load_idx_set(config: DataConfig) -> Dataset:
    idx_set = _IDX_SETS[config.name]
    paths = _find(config) or _download(config)
    arrays = [_read_idx(path, file) for path, file in zip(paths, idx_set.files, strict=True)]
    train, test = (_codes_of_levels(images, white=255) for images in (arrays[0], arrays[2]))
    return _dataset(config.name, train, test, arrays[1], arrays[3], config.binarization)


def _folders(config: DataConfig) -> list[Path]:
    """Where the files may be; the last is where they are downloaded to."""
    if config.root is not None:
        return [Path(os.path.expanduser(config.root))]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"))
    return [Path("data", config.name), cache / "qvae" / config.name]


def _path_in(folder: Path, file: _IdxFile) -> Path | None:
    return next((folder / name for name in file.names if os.path.isfile(folder / name)), None)


def _find(config: DataConfig) -> list[Path] | None:
    """The four files in the first folder that holds them all; None where they are to be downloaded."""
    files = _IDX_SETS[config.name].files
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


def _read_idx(path: Path, file: _IdxFile) -> np.ndarray:
    try:
        with path.open("rb") as stream:
            return _parse_idx(stream, str(path), file)
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None


def _parse_idx(stream: BinaryIO, where: str, file: _IdxFile) -> np.ndarray:
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
    folder, idx_set = _folders(config)[-1], _IDX_SETS[config.name]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(f"{folder} can't be made ({error.strerror}); download to another by data.root.") from None
    return [_path_in(folder, file) or _fetch(file, idx_set.mirrors, folder) for file in idx_set.files]


def _fetch(file: _IdxFile, mirrors: tuple[str, ...], folder: Path) -> Path:
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


# Arrays ---------------------------------------------------------------------------------------------------------------

_ARRAYS = {
    "train": ("train", "x_train"),
    "test": ("test", "x_test"),
    "train_labels": ("train_labels", "y_train"),
    "test_labels": ("test_labels", "y_test"),
}


def _load_array_file(config: DataConfig) -> Dataset:
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
        return _codes_of_bits(array)
    if array.dtype.kind in "iu":
        _require(array, (array < 0) | (array > 255), "outside 0..255", "give whole numbers in 0..255", where)
        return _codes_of_bits(array > 0) if array.max() <= 1 else _codes_of_levels(array, white=255)
    if array.dtype.kind == "f":
        _require(array, ~np.isfinite(array), "that are NaN or infinite", "replace them", where)
        remedy = "divide by 255 or save them as uint8" if 1 < array.max() <= 255 else "scale them to [0, 1]"
        _require(array, (array < 0) | (array > 1), "outside [0, 1]", remedy, where)
        return (np.rint(array.astype(np.float32) * _WHITE) - 1).astype(np.int16)
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
