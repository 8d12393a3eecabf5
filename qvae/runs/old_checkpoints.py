"""Checkpoints of earlier versions in today's form."""

from __future__ import annotations

from typing import Any


def upgraded(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint's state as today's trainer keeps it; one of today comes back as it is.

    Version 0.1.0 kept what is seen of a sampler among the metrics.
    """
    return state if "watch" in state or "monitor" not in state else state | {"watch": state["monitor"]}
