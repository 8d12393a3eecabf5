"""An .npz that is written a few rows at a time, so that memory stays flat however many they are."""

from __future__ import annotations

import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from qvae.files import replacing


class Archive:
    """Arrays that grow by rows.

    Args:
        folder: for what is written until the archive is packed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._parts: dict[str, tuple[IO[bytes], np.dtype, tuple[int, ...]]] = {}
        self._counts: dict[str, int] = {}

    def append(self, **rows: np.ndarray) -> None:
        """Add rows (B, ...) to the arrays of these names; those of one array are of one shape and type."""
        for name, array in rows.items():
            if name not in self._parts:
                stream: IO[bytes] = open(self._folder / name, "w+b")  # noqa: SIM115 (close() does)
                self._parts[name], self._counts[name] = (stream, array.dtype, array.shape[1:]), 0
            stream, dtype, shape = self._parts[name]
            assert (array.dtype, array.shape[1:]) == (dtype, shape)
            stream.write(np.ascontiguousarray(array).tobytes())
            self._counts[name] += len(array)

    def pack(self, file: Path) -> None:
        """Write the .npz."""
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, allowZip64=True) as archive:
            for name, (stream, dtype, shape) in self._parts.items():
                header = {
                    "descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": (self._counts[name], *shape)
                }  # fmt: skip
                stream.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as packed:
                    np.lib.format.write_array_header_2_0(packed, header)
                    shutil.copyfileobj(stream, packed)

    def close(self) -> None:
        """Close what lies in the folder."""
        for stream, *_ in self._parts.values():
            stream.close()


@contextmanager
def archive(file: Path) -> Iterator[Archive]:
    """An archive that becomes ``file`` at the end of the block; where that fails, nothing of it is left.

    Raises:
        RunError: the disk is full, or the folder may not be written to.
    """
    with replacing(file) as temporary, tempfile.TemporaryDirectory(prefix="qvae-", ignore_cleanup_errors=True) as folder:
        growing = Archive(Path(folder))
        try:
            yield growing
            growing.pack(temporary)
        finally:
            growing.close()
