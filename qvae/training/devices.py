"""Where a training runs, and in which precision."""

from __future__ import annotations

import torch

from qvae.errors import ConfigError
from qvae.ising.block_gibbs import multiplies_bfloat16


def choose_device(name: str) -> torch.device:
    """The device of a configuration; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for, but there is none.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices; "
            "use `--set training.device=cpu` or a device that exists."
        )
    return device


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether the networks run in bfloat16; ``auto`` where the machine multiplies it natively."""
    if precision != "auto":
        return precision == "bfloat16"
    return multiplies_bfloat16(device)
