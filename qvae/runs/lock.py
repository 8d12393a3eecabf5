"""The lock of a folder: one process writes there at a time, and one that is gone holds nothing."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from qvae.errors import RunError
from qvae.files import clear_abandoned

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

LOCK = ".lock"
_NO_SUCH_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # on this file system
_LOCKED_BYTE = 4096  # past the text, which others read
_held: dict[Path, int] = {}  # folders, and the threads of this process that hold them


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold a folder while the block writes there; a thread that holds it already goes on.

    The system frees a lock when its process ends in any way. Where it has no such locks, the file itself is one, and names
    process and host, so that it is taken over where they are of this host and gone.

    Raises:
        RunError: another process writes there, the folder can't be written to, or it holds links, which lead elsewhere.
    """
    key = folder.resolve()
    if _held.get(key) == threading.get_ident():
        yield
        return
    refuse_links(folder)
    descriptor = _acquired(folder)
    _held[key] = threading.get_ident()
    try:
        clear_abandoned(folder)
        yield
    finally:
        del _held[key]
        with contextlib.suppress(OSError):
            _write(descriptor, "")  # where an open file can't be removed
            (folder / LOCK).unlink()
        os.close(descriptor)


def refuse_links(folder: Path) -> None:
    """Raise a RunError if a folder of ours holds links: what is written there would go elsewhere."""
    links = [entry for entry in folder.iterdir() if entry.is_symlink()] if folder.is_dir() else []
    if links:
        raise RunError(f"{links[0]} is a link, so that writing there would write elsewhere; put what it names in its place.")


def _acquired(folder: Path) -> int:
    """The descriptor of the lock file, which is ours until it is closed."""
    file = folder / LOCK
    while True:
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        except OSError as error:
            raise RunError(f"{folder} can't be written to: {error.strerror}; allow it, or choose another folder.") from error
        try:
            if _is_taken(descriptor):
                whose = f"{folder} is being written by {_owner(descriptor)}"
                raise RunError(f"{whose}; wait for its end, or choose another folder.")
            # Whoever held it before may have removed this very file meanwhile, and somebody else made a new one.
            if _is_still(descriptor, file):
                _write(descriptor, f"{os.getpid()} {socket.gethostname()}")
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _is_taken(descriptor: int) -> bool:
    """Try to lock an open file; True if another process holds it."""
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise RunError(f"a run folder's {LOCK} is not one that qvae made; remove it.")
    try:
        if sys.platform == "win32":
            os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in _NO_SUCH_LOCKS or _names_a_living_process(descriptor)
    return False


def _names_a_living_process(descriptor: int) -> bool:
    """Whether a lock file is of a process that goes on, as far as can be told from here."""
    pid, _, host = _text(descriptor).partition(" ")
    if not pid.isdecimal() or host != socket.gethostname():
        return bool(pid)
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is somebody else's
        return True
    return True


def _is_still(descriptor: int, file: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(file, follow_symlinks=False))
    except FileNotFoundError:
        return False


def _owner(descriptor: int) -> str:
    pid, _, host = _text(descriptor).partition(" ")
    return f"process {pid} on {host}" if host else "another process"


def _text(descriptor: int) -> str:
    """What a lock file says: process and host."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return os.read(descriptor, 300).decode(errors="replace").strip()


def _write(descriptor: int, text: str) -> None:
    os.ftruncate(descriptor, 0)
    os.lseek(descriptor, 0, os.SEEK_SET)
    os.write(descriptor, text.encode())
