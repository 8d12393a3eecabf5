"""The file of compressed rows: a header that names the model, the rows' names where they have some, and blocks with checksums.

    8 bytes   89 is no letter, and line ends tell of damage by text mode, as in PNG
    2, 4      version, length of the header
    header    JSON, and its CRC-32
    names     where there are some: length, a list in JSON packed by zlib, CRC-32
    blocks    number of words, shift of the grid, CRC-32 of the rows; the words; CRC-32 of all that

Numbers are little-endian, without a sign. In version 1 rows that were kept without loss were bits.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from qvae.coding.bits_back import MOST_ROWS, Block
from qvae.data.opened import require_file
from qvae.errors import DataError
from qvae.files import replacing
from qvae.models.autoencoder import Autoencoder

_MAGIC, _VERSION = b"\x89qvae\r\n\x1a", 2
_START, _LENGTH, _BLOCK = struct.Struct("<8sHI"), struct.Struct("<I"), struct.Struct("<IBI")
_LONGEST_NAME = 4096  # bytes in JSON, on average: as of a path
_FEWEST_BYTES = _BLOCK.size + _LENGTH.size  # of a block
_REMEDY = "restore it from a copy, or compress the rows again"

Count = Annotated[int, Field(ge=1, le=2**48, strict=True)]


class Header(BaseModel):
    """What a file says of its rows.

    Attributes:
        identity: of the model, from :func:`identity`.
        rows: how many.
        shape: of one.
        is_lossy: their codes alone are kept.
        temperatures: of the prior's chain.
        has_names: they have names, else their numbers will do.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    identity: str
    rows: Count
    shape: tuple[Count, ...]
    is_lossy: bool
    temperatures: Annotated[int, Field(ge=1, le=2**12, strict=True)]
    has_names: bool


def identity(model: Autoencoder) -> str:
    """The first 128 bits, in hexadecimal, of a SHA-256 over the names, types, shapes and values of all weights."""
    digest = hashlib.sha256(type(model).__name__.encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(json.dumps([name, str(value.dtype), list(value.shape)]).encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:32]


# Writing --------------------------------------------------------------------------------------------------------------


class Writer:
    """Appends blocks to a file that :func:`writing` opened."""

    def __init__(self, stream: IO[bytes], header: Header, names: list[str]) -> None:
        self._stream = stream
        text = header.model_dump_json().encode()
        stream.write(_START.pack(_MAGIC, _VERSION, len(text)))
        self._sealed(text)
        if header.has_names:
            listed = json.dumps(names).encode()
            if len(listed) > _LONGEST_NAME * header.rows:
                raise DataError(f"names of rows are too long, above {_LONGEST_NAME:,} bytes each; give shorter ids.")
            packed = zlib.compress(listed, 9)
            stream.write(_LENGTH.pack(len(packed)))
            self._sealed(packed)

    def append(self, block: Block) -> None:
        """The next rows."""
        self._sealed(_BLOCK.pack(len(block.words), block.shift, block.checksum) + block.words.astype("<u4").tobytes())

    def _sealed(self, content: bytes) -> None:
        self._stream.write(content + _LENGTH.pack(zlib.crc32(content)))


@contextmanager
def writing(path: Path, header: Header, names: list[str]) -> Iterator[Writer]:
    """A file that is there, whole, at the end of the block; where that fails, nothing of it is left.

    Raises:
        DataError: names are so long that they wouldn't be read again.
        RunError: the disk is full, or the folder may not be written to.
    """
    with replacing(path) as temporary, temporary.open("xb") as stream:
        yield Writer(stream, header, names)


# Reading --------------------------------------------------------------------------------------------------------------


class Reader:
    """What a file holds; no more than a block of it is in memory.

    Attributes:
        header: of the file.
        names: of the rows; None where their numbers will do.
    """

    def __init__(self, stream: IO[bytes], path: Path) -> None:
        self._stream, self._path, self._size = stream, path, os.fstat(stream.fileno()).st_size
        magic, version, length = _START.unpack(stream.read(_START.size).ljust(_START.size, b"\0"))
        if magic != _MAGIC:
            raise DataError(f"{path} is no file of `qvae apply compress`; name one that it wrote.")
        if not 1 <= version <= _VERSION:
            raise DataError(f"{path} has format version {version}, but this qvae reads up to version {_VERSION}; update qvae.")
        try:
            self.header = Header.model_validate_json(self._sealed(b"", length, "its header"))
        except ValidationError:
            raise self._damaged("its header") from None
        # Asked of the file's size first: a stranger could write any number.
        if self.header.rows > MOST_ROWS * (self._size // _FEWEST_BYTES):
            raise self._damaged("its header")
        self.names = self._names() if self.header.has_names else None

    def blocks(self, count: int) -> Iterator[Block]:
        """The ``count`` blocks of the file, one after the other.

        Raises:
            DataError: it is truncated or damaged, or something follows them.
        """
        for number in range(1, count + 1):
            what = f"block {number} of {count}"
            head = self._read(_BLOCK.size, what)
            num_words, shift, checksum = _BLOCK.unpack(head)
            words = np.frombuffer(self._sealed(head, 4 * num_words, what), "<u4").astype(np.uint32)
            if num_words and not words[-1]:  # which no coder writes, and none takes
                raise self._damaged(what)
            yield Block(words, shift, checksum)
        if self._stream.tell() != self._size:
            raise self._damaged("its end")

    def _names(self) -> list[str]:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, "the list of its names"))
        packed = self._sealed(b"", length, "the list of its names")
        try:
            names = json.loads(zlib.decompressobj().decompress(packed, _LONGEST_NAME * self.header.rows))
        except (zlib.error, ValueError, RecursionError):
            names = None
        if not isinstance(names, list) or len(names) != self.header.rows or not all(isinstance(name, str) for name in names):
            raise self._damaged("the list of its names")
        return names

    def _sealed(self, head: bytes, length: int, what: str) -> bytes:
        """As many bytes, if the checksum behind them is that of ``head`` and them."""
        content = self._read(length + _LENGTH.size, what)
        body, (checksum,) = content[:length], _LENGTH.unpack(content[length:])
        if zlib.crc32(body, zlib.crc32(head)) != checksum:
            raise self._damaged(what)
        return body

    def _read(self, length: int, what: str) -> bytes:
        # Asked of the file's size first: a damaged length could be any.
        if length > self._size - self._stream.tell():
            raise DataError(f"{self._path} is truncated: {what} is cut off at {self._size:,} bytes; {_REMEDY}.")
        return self._stream.read(length)

    def _damaged(self, what: str) -> DataError:
        return DataError(f"{self._path} was damaged or changed since it was written: {what} isn't what it was; {_REMEDY}.")


@contextmanager
def reading_compressed(path: Path) -> Iterator[Reader]:
    """A file that :func:`writing` wrote.

    Raises:
        DataError: it is missing, no such file, of a newer version, truncated or damaged.
    """
    require_file(path)
    try:
        with path.open("rb") as stream:
            yield Reader(stream, path)
    except FileNotFoundError:
        raise DataError(f"there is no file {path}; name one that `qvae apply compress` wrote.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
