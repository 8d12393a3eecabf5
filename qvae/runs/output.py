"""A folder of results that aren't a run: held by one process, and known by its content before anything there is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from qvae.errors import RunError
from qvae.files import from_user, read_plain, require_plain
from qvae.runs.lock import writing


@contextmanager
def output_folder(out: str | Path, names: Sequence[str]) -> Iterator[Path]:
    """The folder, absolute, made if it isn't there, and held while the block writes there.

    Args:
        out: as the user names it.
        names: of what the block may replace.

    Raises:
        RunError: it can't be made, another process writes there, or it holds links under these names.
    """
    folder = from_user(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {out} can't be made: {error.strerror}; choose another --out.") from error
    with writing(folder):
        require_plain(folder, names)
        yield folder


def has_keys(file: Path, *keys: str) -> bool:
    """Whether a file holds a JSON object with these keys, as results of ours have."""
    try:
        found = json.loads(read_plain(file))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and set(keys) <= set(found)
