"""Locks that are files: one holder at a time, and the system frees those of a process that is gone."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from qvae.errors import RunError

if sys.platform == "win32":
    import msvcrt

    def _lock(descriptor: int) -> None:
        os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        finally:
            os.lseek(descriptor, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


_NO_SUCH_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # on this file system
_LOCKED_BYTE = 4096  # past the text, which others read
_PAUSE = 0.01  # seconds between two looks at a lock that is taken


class Taken(Exception):
    """Somebody else holds a lock; the text says who, as far as is known."""


@contextlib.contextmanager
def held(file: Path, wait: bool = False) -> Iterator[None]:
    """Hold a lock file while the block runs; it goes with the end.

    Where the file system has no locks, the file itself is one, and names process and host, so that it is taken over where
    they are of this host and gone.

    Args:
        file: the lock, which nobody uses for anything else.
        wait: until it is free.

    Raises:
        Taken: somebody else holds it, and ``wait`` isn't set.
        RunError: it can't be made, or is no lock.
    """
    descriptor = _acquired(file, wait)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            _write(descriptor, "")  # where an open file can't be removed
            file.unlink()
        os.close(descriptor)


def take(descriptor: int) -> bool:
    """Lock an open file until it is closed; False if another process has.

    Raises:
        OSError: its file system has no such locks.
    """
    try:
        _lock(descriptor)
    except OSError as error:
        if error.errno in _NO_SUCH_LOCKS:
            raise
        return False
    return True


def _acquired(file: Path, wait: bool) -> int:
    """The descriptor of the lock file, which is ours until it is closed."""
    while True:
        descriptor = _opened(file)
        try:
            is_free = _is_free(descriptor)
            if not is_free and not wait:
                raise Taken(_owner(descriptor))
            # Whoever held it before may have removed this very file meanwhile, and somebody else made a new one.
            if is_free and _is_still(descriptor, file):
                _write(descriptor, f"{os.getpid()} {socket.gethostname()}")
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not is_free:
            time.sleep(_PAUSE)


def _opened(file: Path) -> int:
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise RunError(f"{file} can't be opened: {error.strerror}; remove it, or allow writing to its folder.") from error
    found = os.fstat(descriptor)
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        os.close(descriptor)
        raise RunError(f"{file} is a lock, but not one that qvae made; remove it.")
    return descriptor


def _is_free(descriptor: int) -> bool:
    """Try to take it."""
    try:
        return take(descriptor)
    except OSError:
        return not _names_a_living_process(descriptor)


def _names_a_living_process(descriptor: int) -> bool:
    """Whether a lock file is of a process that goes on, as far as can be told from here."""
    pid, _, host = _text(descriptor).partition(" ")
    if not pid.isdecimal() or host != socket.gethostname() or sys.platform == "win32":  # where looking would kill it
        return bool(pid)
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, OverflowError):
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
