"""A benchmark's folder: held by one process, and known by its content before anything there is replaced."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qvae.errors import RunError
from qvae.files import from_user, read_plain, require_plain
from qvae.runs.lock import writing

RESULTS = "results.json"
PIECES = "pieces"
TRUTH = "truth"
TRAININGS = "trainings"
_REPLACED = (RESULTS, "report.html", "figures")


@contextmanager
def benchmark_folder(out: Path) -> Iterator[Path]:
    """The folder, absolute, made if it isn't there, and held while the block measures.

    Raises:
        RunError: it can't be made, another process writes there, or it holds links, or somebody else's
            files, under names of ours.
    """
    folder = from_user(out)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"the folder {out} can't be made: {error.strerror}; choose another --out.") from error
    with writing(folder):
        require_plain(folder, (*_REPLACED, PIECES, TRUTH, TRAININGS))
        there = [name for name in _REPLACED if (folder / name).exists()]
        if there and not _is_of_a_benchmark(folder):
            raise RunError(f"{out} holds a {there[0]} that is not of a benchmark; choose another --out.")
        (folder / PIECES).mkdir(exist_ok=True)
        yield folder


def _is_of_a_benchmark(folder: Path) -> bool:
    try:
        found = json.loads(read_plain(folder / RESULTS))
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and {"schema", "qvae", "settings"} <= set(found)
