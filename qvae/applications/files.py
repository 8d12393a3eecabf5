"""Files that applications write."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

from qvae.files import atomic_write_bytes

if TYPE_CHECKING:
    import numpy as np


def write_arrays(file: Path, **arrays: np.ndarray) -> Path:
    """An .npz of arrays by their names, whole or not at all."""
    import numpy as np

    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    atomic_write_bytes(file, buffer.getvalue())
    return file
