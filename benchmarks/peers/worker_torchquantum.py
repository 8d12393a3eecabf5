"""Worker of torchquantum-ng: its batched quantum device, complex64."""

from __future__ import annotations

import os
import sys
from types import ModuleType
from typing import Any

import numpy as np
import torch
from circuit_worker import Step, serve_circuits, torch_step

# Its data sets need a torchvision of the same build as torch, which isn't always there; circuits need none of them.
sys.modules["torchquantum.dataset"] = ModuleType("torchquantum.dataset")
import torchquantum as tq  # type: ignore[import-not-found]  # noqa: E402
from torchquantum import functional as gates  # type: ignore[import-not-found]  # noqa: E402

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
_NAMES = {"h": "hadamard", "cx": "cnot"}


def prepare(case: dict[str, Any], x: np.ndarray, w: np.ndarray, dual: np.ndarray) -> Step:
    n = case["qubits"]
    inputs, weights = torch.from_numpy(x).requires_grad_(), torch.from_numpy(w).requires_grad_()
    measure = tq.MeasureAll(tq.PauliZ)

    def values() -> torch.Tensor:
        device, angles = tq.QuantumDevice(n_wires=n, bsz=len(x)), [*inputs.T, *weights]
        for name, qubits, parameter in case["gates"]:
            angle = {} if parameter is None else {"params": angles[parameter]}
            getattr(gates, _NAMES.get(name, name))(device, wires=qubits, **angle)
        return measure(device)

    return torch_step(values, inputs, [weights], dual)


if __name__ == "__main__":
    serve_circuits(prepare, ["torchquantum-ng", "torch"])
