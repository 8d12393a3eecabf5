"""The global random generators of torch, NumPy and Python, which a third party's code may draw from."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch


def global_random_state(device: torch.device | None = None) -> dict[str, Any]:
    """Their states, as tensors and plain values; on a CUDA device torch has one more."""
    version, internal, gauss = random.getstate()
    name, keys, position, has_gauss, cached = np.random.get_state()  # noqa: NPY002
    return {
        "torch": torch.get_rng_state(),
        "python": [version, list(internal), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys, dtype=np.int64)), position, has_gauss, cached],
        **({"cuda": torch.cuda.get_rng_state(device)} if device is not None and device.type == "cuda" else {}),
    }


def restore_global_random_state(state: dict[str, Any], device: torch.device | None = None) -> None:
    """Go on from :func:`global_random_state`.

    Raises:
        ValueError, TypeError: it is none.
    """
    version, internal, gauss = state["python"]
    name, keys, position, has_gauss, cached = state["numpy"]
    if not 0 <= position <= len(keys):  # which NumPy takes on trust, and would read past the end
        raise ValueError(f"NumPy's generator has no place {position}")
    torch.set_rng_state(state["torch"])
    if device is not None and device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
    random.setstate((version, tuple(internal), gauss))
    np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))  # noqa: NPY002
