"""Whether there is memory for something, before it is asked for: the system would rather kill the process than refuse."""

from __future__ import annotations

import os
import sys
from functools import cache
from pathlib import Path

from qvae.errors import QvaeError, RunError


def require_memory(num_bytes: float, what: str, remedy: str, error: type[QvaeError] = RunError) -> None:
    """Raise ``error`` if something takes more memory than this machine has.

    Args:
        num_bytes: that it takes.
        what: it is, as the beginning of a sentence.
        remedy: a clause.
        error: what is raised.

    >>> require_memory(1e15, "the model", "lower model.network.hidden")
    Traceback (most recent call last):
    ...
    qvae.errors.RunError: the model takes 1,000,000.0 GB of memory, more than this machine has; lower model.network.hidden.
    """
    if num_bytes > total_memory():
        raise error(f"{what} takes {num_bytes / 1e9:,.1f} GB of memory, more than this machine has; {remedy}.")


@cache
def total_memory() -> int:
    """Bytes of memory that this process may have: the machine's, or its control group's, if that is less."""
    if not hasattr(os, "sysconf"):  # Windows, which doesn't kill for it
        return sys.maxsize
    found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    try:
        limit = int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # no control group, or "max"
        return found
    return min(found, limit)
