"""Files of ours: written whole or not at all, so that a kill leaves the old file or the new one; and links not followed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from qvae.errors import RunError
from qvae.locks import take

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{12}\.part")
_NEW_SECONDS = 1.0  # a temporary file may be made, and not held yet
_ABANDONED_SECONDS = 60.0  # one of that age is of a process that was killed, where files can't be held


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
    temporary = _temporary(path)
    try:
        with open(_opened_new(temporary), "wb") as file:
            with contextlib.suppress(OSError):
                take(file.fileno())  # which tells those who clear up that somebody is writing
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


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a new file that takes the place of ``path`` at the end of the block; nothing of it stays where that fails.

    For what is too large to be written by :func:`atomic_write_bytes`; it isn't seen onto the disk.

    Raises:
        RunError: the disk is full, or the folder may not be written to.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"{path} can't be written: {reason}; free some space or choose another --out.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """In the same folder, under a name that nobody else has."""
    return path.with_name(f".{path.name}.{secrets.token_hex(6)}.part")


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
    """Remove the temporary files that killed processes left in a folder, and in the folders there."""
    for place in (folder, *(entry for entry in folder.iterdir() if entry.is_dir() and not entry.is_symlink())):
        for file in place.glob(".*.part"):
            with contextlib.suppress(OSError):
                age = time.time() - file.lstat().st_mtime
                if _TEMPORARY.fullmatch(file.name) and age > _NEW_SECONDS and _is_abandoned(file, age):
                    file.unlink()


def _is_abandoned(file: Path, age: float) -> bool:
    descriptor = opened_plain(file, os.O_RDWR)
    try:
        return take(descriptor)
    except OSError:
        return age > _ABANDONED_SECONDS
    finally:
        os.close(descriptor)


# Links ----------------------------------------------------------------------------------------------------------------


def require_plain(folder: Path, names: Iterable[str] | None = None) -> None:
    """Raise unless all in a folder are files and folders: what a link leads to would be read, shown or overwritten.

    Args:
        folder: it may be a link itself, as its user named it, and needn't be there.
        names: in it, to look at these alone, and what is below them.

    Raises:
        RunError: something is a link, a pipe or a device.
    """
    for name in names if names is not None else os.listdir(folder) if folder.is_dir() else ():
        _require_plain(os.path.join(folder, name))
        for above, folders, files in os.walk(os.path.join(folder, name)):
            for entry in (*folders, *files):
                _require_plain(os.path.join(above, entry))


def _require_plain(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):  # gone meanwhile, as temporary files are
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            what = "a link" if stat.S_ISLNK(mode) else "no file, but a device or pipe"
            raise RunError(f"{path} is {what}; such a folder holds its files themselves: remove it, or put a copy there.")


def opened_plain(file: Path, flags: int = os.O_RDONLY) -> int:
    """The descriptor of a file of ours, be it a stranger's: no link is followed, and no pipe waited for.

    Raises:
        OSError: it can't be opened, or is a link, a folder, a pipe or a device.
    """
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if os.path.islink(file):  # also where the system can't be told not to follow
        raise OSError(errno.ELOOP, "it is a link, which isn't followed", str(file))
    descriptor = os.open(file, flags, 0o666)
    mode = os.fstat(descriptor).st_mode
    if stat.S_ISREG(mode):
        return descriptor
    os.close(descriptor)
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(file))
    raise OSError(errno.EINVAL, "it is no file, but a device or pipe", str(file))


def read_plain(file: Path, most: int = -1) -> bytes:
    """The bytes of a file of ours, no more than ``most``; raises as :func:`opened_plain` does."""
    with open(opened_plain(file), "rb") as stream:
        return stream.read(most)


def append_text(file: Path, text: str) -> None:
    """Add to a file of ours, which is made if it isn't there; raises as :func:`opened_plain` does."""
    with open(opened_plain(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND), "a", encoding="utf-8") as stream:
        stream.write(text)


# Parts of the above ---------------------------------------------------------------------------------------------------


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
