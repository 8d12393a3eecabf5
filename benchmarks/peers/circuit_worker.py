"""What the workers of circuits share: a case is prepared as one step, whose first call and later calls are timed.

A case is what ``circuit_cases.Case.to_json`` gives; a step is one forward and backward pass from the case's numbers to
values (B, n) and gradients in inputs (B, n) and weights (W,), as anything that numpy makes arrays of.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from protocol import Timer, serve

Step = Callable[[], tuple[Any, Any, Any]]
Prepare = Callable[..., Step]
"""From (case, x, w, dual) and a method's own arguments."""


def serve_circuits(prepare: Prepare, packages: list[str]) -> None:
    """A worker's main loop, with jobs ``load`` and ``run``."""
    step: Step

    def load(case: str, numbers: str, out: str, **arguments: Any) -> dict[str, float]:
        """Make the step and call it once, which compiles it where it is compiled; keep what it found."""
        nonlocal step
        data = np.load(numbers)
        with Timer() as timer:
            step = prepare(json.loads(Path(case).read_text()), data["x"], data["w"], data["dual"], **arguments)
            found = [np.asarray(array) for array in step()]
        np.savez(out, values=found[0], by_x=found[1], by_w=found[2])
        return timer.seconds()

    def run() -> dict[str, float]:
        with Timer() as timer:
            step()
        return timer.seconds()

    serve({"load": load, "run": run}, packages)


def torch_step(run: Callable[[], Any], x: Any, weights: list[Any], dual: np.ndarray) -> Step:
    """The step of a torch function that makes the values from leaves ``x`` and ``weights``."""
    import torch

    duals = torch.from_numpy(dual)

    def step() -> tuple[Any, Any, Any]:
        values = run()
        by_x, *by_weights = torch.autograd.grad(values, [x, *weights], duals.to(values.dtype))
        return values.detach(), by_x, torch.cat([gradient.reshape(-1) for gradient in by_weights])

    return step
