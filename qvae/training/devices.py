"""Where a training runs, and in which precision."""

from __future__ import annotations

import torch

from qvae.errors import ConfigError
from qvae.ising.block_gibbs import multiplies_bfloat16
from qvae.training import ranks


def choose_device(name: str) -> torch.device:
    """The device of a configuration; ``auto`` is CUDA where there is one, of several processes one for each of them.

    Raises:
        ConfigError: CUDA is asked for, but there is none, or not one for each process of this machine.
    """
    device = torch.device(name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cuda" and ranks.count() > 1:
        if device.index is not None:
            raise ConfigError(f"training.device is {name!r}, but several processes train, one on each device; say cuda.")
        device = torch.device("cuda", ranks.local_number())
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"training.device is {name!r}, but this machine has {torch.cuda.device_count()} CUDA devices; "
            "use `--set training.device=cpu`, a device that exists, or as many processes as there are devices."
        )
    return device


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """Whether the networks run in bfloat16; ``auto`` where the machine multiplies it natively, of several processes all theirs.

    It must be the same in all: their messages depend on it.
    """
    if precision != "auto":
        return precision == "bfloat16"
    return ranks.highest([not multiplies_bfloat16(device)]) == [False]
