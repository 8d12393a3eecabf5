"""The machine and the versions that a result was measured with."""

from __future__ import annotations

import contextlib
import os
import platform
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

import qvae
from qvae.ising.compiled import name_of_kernels


def environment(device: torch.device) -> dict[str, Any]:
    """Machine and versions, for a result's reader."""
    return {
        "qvae": qvae.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "kernels": name_of_kernels(device),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
    }


def _processor() -> str:
    with contextlib.suppress(OSError):
        lines: Iterable[str] = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.processor())
    return platform.processor()
