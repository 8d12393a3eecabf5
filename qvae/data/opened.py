"""Files of data, looked at before they are read: regular files that hold no more than memory does."""

from __future__ import annotations

import io
import os
import stat
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from qvae.errors import DataError
from qvae.memory import require_memory

MOST_PIXELS = 50_000_000
"""Of one image: decoded, turned and converted it takes a gigabyte."""
_REMEDY = "take a smaller file"

# An encrypted part is a RuntimeError, one packed in a way that this Python lacks a NotImplementedError, and a header that is
# no Python at all whatever its parser says.
_DAMAGE = (
    *(ValueError, EOFError, KeyError, TypeError, MemoryError, OverflowError, RecursionError, SyntaxError),
    *(RuntimeError, NotImplementedError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, struct.error),
)


def require_file(path: Path) -> None:
    """Raise a DataError of a pipe or device, which might be waited for without end."""
    mode = os.stat(path).st_mode if os.path.exists(path) else stat.S_IFREG
    if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        raise DataError(f"{path} is no file, but a device or pipe; name a file.")


def opened_image(file: Path, content: bytes | None = None) -> Image.Image:
    """A PNG, JPEG or GIF, decoded; of one that was read already, the ``content``.

    Raises:
        DataError: it is none, is damaged, or would be too large.
    """
    require_file(file)
    try:
        # Of the other formats some are read by other programs, and none is wanted.
        image = Image.open(file if content is None else io.BytesIO(content), formats=("PNG", "JPEG", "GIF"))
        width, height = image.size
        if width * height > MOST_PIXELS:
            raise DataError(f"{file} has {width:,} x {height:,} pixels, more than {MOST_PIXELS:,}; make it smaller.")
        image.load()
    except FileNotFoundError:
        raise DataError(f"there is no file {file}; name an existing image.") from None
    except (OSError, SyntaxError, ValueError, EOFError, OverflowError, Image.DecompressionBombError) as error:
        raise DataError(f"{file} can't be read as an image ({error}); save it again or remove it.") from None
    return image


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Raise a DataError where the .npy or .npz that the block reads is missing, can't be read or is damaged."""
    try:
        yield
    except FileNotFoundError:
        raise DataError(f"there is no file {path.absolute()}; name an existing .npy or .npz.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
    except _DAMAGE as error:
        if "pickle" in str(error) or "Python objects" in str(error):
            reason = "holds no array of plain numbers (pickled objects are never read); save one with numpy.save"
        else:
            reason = f"isn't an intact .npy or .npz file ({error}); save it again with numpy.save or numpy.savez"
        raise DataError(f"{path} {reason}.") from None


def require_arrays_fit(path: Path) -> None:
    """Raise a DataError if the arrays of an .npz, unpacked, or the one of an .npy file are larger than they can be.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: it is damaged.
    """
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            if file.read(6) == b"\x93NUMPY":
                file.seek(0)
                _require_whole(file, path.stat().st_size, f"{path}")
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        require_memory(sum(member.file_size for member in members), f"{path}, unpacked,", _REMEDY, DataError)
        for member in members:
            with archive.open(member) as file:
                _require_whole(file, member.file_size, f"{member.filename} in {path}")


def _require_whole(file: object, size: int, what: str) -> None:
    """Raise a ValueError if an array's header tells of more bytes than follow."""
    version = np.lib.format.read_magic(file)  # type: ignore[arg-type]
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)  # type: ignore[arg-type]
    count = 1
    for length in shape:
        count *= length
    if not dtype.hasobject and count * dtype.itemsize > size:
        raise ValueError(f"{what} tells of {count * dtype.itemsize:,} bytes, but holds {size:,}")
