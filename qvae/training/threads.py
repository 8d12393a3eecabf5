"""How many threads a training takes: a small model is faster on one, where nobody waits for another."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

_SMALL = 2e8  # multiplications of a step's forward pass: digits have 5e7 and take 5.4 s on one thread, 7.2 s on two


@contextmanager
def threads_for(model: nn.Module, device: torch.device, batch_size: int, say: Callable[[str], None]) -> Iterator[None]:
    """One thread of torch's for a small model while the block runs, which is said; a user's ``OMP_NUM_THREADS`` wins.

    It goes by size and not by a measurement, so that a run has the same bits when it is made again. A number in the environment
    that torch hasn't taken is none of the user's: dask's clusters leave theirs there, for the processes that they start.
    """
    before = torch.get_num_threads()
    is_users = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip() == str(before)
    if before == 1 or device.type != "cpu" or is_users or not _is_small(model, batch_size):
        yield
        return
    say(f"a model as small as this trains faster on one thread than on {before}; OMP_NUM_THREADS={before} takes them all")
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _is_small(model: nn.Module, batch_size: int) -> bool:
    """Whether a step's products are too few to be shared; a convolution uses each weight many times."""
    has_convolutions = any(isinstance(module, nn.modules.conv._ConvNd) for module in model.modules())
    return not has_convolutions and batch_size * sum(p.numel() for p in model.parameters()) < _SMALL
