"""The lock of a folder: one process, and one thread of it, writes there at a time."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

from qvae.errors import RunError
from qvae.files import clear_abandoned
from qvae.locks import Taken, held

LOCK = ".lock"
_holders: dict[Path, int] = {}  # folders, and the threads of this process that hold them


@contextlib.contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Hold a folder while the block writes there; a thread that holds it already goes on.

    Raises:
        RunError: another process writes there, or the folder can't be written to.
    """
    key = folder.resolve()
    if _holders.get(key) == threading.get_ident():
        yield
        return
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(folder / LOCK))
        except Taken as owner:
            raise RunError(f"{folder} is being written by {owner}; wait for its end, or choose another folder.") from None
        _holders[key] = threading.get_ident()
        stack.callback(_holders.pop, key)
        clear_abandoned(folder)
        stack.callback(clear_abandoned, folder)  # of what was killed a moment ago, too
        yield
