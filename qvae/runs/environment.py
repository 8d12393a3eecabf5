"""Versions, the device and when a run was started: ``environment.json``."""

from __future__ import annotations

import platform
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

import qvae

_PACKAGES = ("torch", "numpy", "numba", "dimod", "dwave-samplers", "dwave-system", "qiskit", "qiskit-aer", "safetensors")


def environment(device: torch.device) -> dict[str, Any]:
    """Of a training on a device, as plain values."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "qvae": qvae.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": versions,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads",
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
