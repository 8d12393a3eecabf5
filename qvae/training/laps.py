"""Milliseconds of the parts of a step, measured so seldom that waiting for the device costs nothing."""

from __future__ import annotations

import time

import numpy as np
import torch

_STEPS_BETWEEN = 50


class Laps:
    """Times parts of every fiftieth step; in the steps between, a lap costs nothing.

    Args:
        device: waited for before the clock is read.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._milliseconds: dict[str, list[float]] = {}
        self._last: float | None = None

    def start(self, step: int) -> None:
        """Begin a step, which is timed or not."""
        self._last = now(self._device) if step % _STEPS_BETWEEN == 0 else None

    def lap(self, part: str) -> None:
        """Book the time since the last lap under the name of a part."""
        if self._last is not None:
            ended = now(self._device)
            self._milliseconds.setdefault(part, []).append(1e3 * (ended - self._last))
            self._last = ended

    def medians(self) -> dict[str, float]:
        """The median of each part since the last call."""
        found = {part: float(np.median(times)) for part, times in self._milliseconds.items()}
        self._milliseconds.clear()
        return found


def now(device: torch.device) -> float:
    """Seconds of a clock, read when the device has done its work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
