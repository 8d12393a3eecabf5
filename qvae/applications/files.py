"""Files that applications write: where the user says, or at a new numbered place in the run folder, never over others."""

from __future__ import annotations

import io
import itertools
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from qvae.errors import RunError
from qvae.files import atomic_write_bytes, from_user, require_plain, reserve

if TYPE_CHECKING:
    import numpy as np

    from qvae.runs.run import Run


@contextmanager
def new_files(
    run: Run, name: str, out: Path | None, ending: str = ".npz", with_folder: bool = False, with_picture: bool = True
) -> Iterator[tuple[Path, Path]]:
    """A file for arrays, which is reserved, and a .png for a picture of them; where the block fails, nothing is left.

    Args:
        run: whose folder takes ``NAME.npz`` and ``figures/NAME.png``, or ``NAME-2`` and so on, if no other place is named.
        name: of the files, without an ending.
        out: a file that isn't there yet, or a folder that takes both; None for the run's.
        ending: of the file for arrays.
        with_folder: whoever asks fills a folder of the file's name, less its ending, which must not be there yet either.
        with_picture: whoever asks draws the picture, likewise.

    Raises:
        RunError: ``out`` is there already, or can't be written.
    """
    for arrays, picture in _places(run, name, out, ending):
        others = {"a picture": picture} if with_picture else {}
        others |= {"a folder": arrays.with_suffix("")} if with_folder else {}
        if not any(other.exists() for other in others.values()) and reserve(arrays):
            break
    else:
        of_its_name = f" or {' or '.join(others)} of its name" if others else ""
        raise RunError(f"{out}{of_its_name} is there already; choose another --out.")
    try:
        yield arrays, picture
    except BaseException:
        if with_folder:
            shutil.rmtree(arrays.with_suffix(""), ignore_errors=True)
        raise
    finally:
        if arrays.exists() and arrays.stat().st_size == 0:
            arrays.unlink()


def _places(run: Run, name: str, out: Path | None, ending: str) -> Iterator[tuple[Path, Path]]:
    from qvae.runs.folder import FIGURES

    if out is not None and not from_user(out).is_dir():
        file = from_user(out)
        arrays = file if file.suffix == ending else file.with_name(f"{file.name}{ending}")
        yield arrays, arrays.with_suffix(".png")
        return
    if out is None:
        require_plain(run.path)
    folder, pictures = (from_user(out),) * 2 if out is not None else (run.path, run.path / FIGURES)
    for number in itertools.count(1):
        numbered = name if number == 1 else f"{name}-{number}"
        yield folder / f"{numbered}{ending}", pictures / f"{numbered}.png"


def write_arrays(file: Path, **arrays: np.ndarray) -> Path:
    """An .npz of arrays by their names, whole or not at all."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write_bytes(file, buffer.getvalue())
    return file
