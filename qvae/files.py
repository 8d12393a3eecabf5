"""Files written whole or not at all: a kill at any moment leaves the old file or the new one."""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from qvae.errors import RunError


def atomic_write_bytes(path: str | Path, data: bytes) -> None:
    """Replace the file at ``path`` by ``data``, through a temporary file in the same folder, and see it onto the disk.

    Raises:
        RunError: the disk is full, the folder is missing or may not be written to; the old file is still there.
    """
    path = Path(path)
    # One name for all attempts, so that a killed one leaves no litter that the next doesn't clear away.
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise RunError(_why_not(path, len(data), error)) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Replace the file at ``path`` by ``text`` in UTF-8, as :func:`atomic_write_bytes` does, with the same errors."""
    atomic_write_bytes(path, text.encode())


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
