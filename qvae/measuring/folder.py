"""A benchmark's folder: held by one process, and known by its content before anything there is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from qvae.errors import RunError
from qvae.runs.output import has_keys, output_folder

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
    with output_folder(out, (*_REPLACED, PIECES, TRUTH, TRAININGS)) as folder:
        there = [name for name in _REPLACED if (folder / name).exists()]
        if there and not has_keys(folder / RESULTS, "schema", "qvae", "settings"):
            raise RunError(f"{out} holds a {there[0]} that is not of a benchmark; choose another --out.")
        (folder / PIECES).mkdir(exist_ok=True)
        yield folder
