"""Files written whole or not at all: a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import time
from pathlib import Path

from qvae.errors import RunError

_ABANDONED_SECONDS = 60.0  # a temporary file of that age is of a process that was killed


def from_user(path: str | Path) -> Path:
    """A path as a person typed it, made to hold from anywhere: ``~`` is their home, and the working folder may change."""
    return Path(os.path.expanduser(path)).absolute()


def from_here(path: Path) -> Path:
    """A path as short as it can be typed: from the working folder where it is inside."""
    return path.relative_to(Path.cwd()) if path.is_absolute() and path.is_relative_to(Path.cwd()) else path


def atomic_write_bytes(path: str | Path, data: bytes, sync: bool = True) -> None:
    """Replace the file at ``path`` by ``data``, through a temporary file in the same folder.

    The temporary file has a random name and is made by nobody else, so that two processes never write into each other's, and
    no link that lies there is followed; a link at ``path`` is replaced, not what it names.

    Args:
        path: of the file.
        data: all of its content.
        sync: see it onto the disk, so that it outlasts a power cut, too.

    Raises:
        RunError: the disk is full, the folder is missing or may not be written to; the old file is still there.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")
    try:
        with open(_opened_new(temporary), "wb") as file:
            file.write(data)
            file.flush()
            if sync:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if sync:
            _sync_folder(path.parent)
    except OSError as error:
        raise RunError(_why_not(path, len(data), error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str, sync: bool = True) -> None:
    """Replace the file at ``path`` by ``text`` in UTF-8, as :func:`atomic_write_bytes` does, with the same errors."""
    atomic_write_bytes(path, text.encode(), sync)


def reserve(path: Path) -> bool:
    """Make an empty file, to be replaced soon; False where there is something already.

    Raises:
        RunError: nothing can be made there.
    """
    try:
        os.close(_opened_new(path))
    except FileExistsError:
        return False
    except OSError as error:
        raise RunError(_why_not(path, 0, error)) from error
    return True


def clear_abandoned(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a folder."""
    for file in folder.glob(".*.part"):
        with contextlib.suppress(OSError):
            if time.time() - file.lstat().st_mtime > _ABANDONED_SECONDS:
                file.unlink()


def _opened_new(path: Path) -> int:
    """The descriptor of a file that nobody had before, with the rights that new files have."""
    return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)


def _sync_folder(folder: Path) -> None:
    """Make the new name last through a power cut, where the file system lets folders be synchronised."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _why_not(path: Path, size: int, error: OSError) -> str:
    before = "the file that was there before is intact" if os.path.exists(path) else "nothing is left behind"
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        reason, remedy = f"{error.strerror} for its {size / 1e6:.3g} MB", "free some space and try again"
    elif isinstance(error, PermissionError):
        reason, remedy = error.strerror or "no permission", "allow writing to its folder or choose another"
    else:
        reason, remedy = error.strerror or str(error), "check its folder"
    return f"{path} can't be written: {reason}; {before}; {remedy}."
