"""Worker of pennylane: default.qubit with broadcasting and backpropagation, lightning.qubit with its adjoint gradient."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pennylane as qml  # type: ignore[import-not-found]
import torch
from circuit_worker import Step, serve_circuits, torch_step

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
_GATES = {"h": qml.Hadamard, "rx": qml.RX, "ry": qml.RY, "rz": qml.RZ, "cx": qml.CNOT, "cz": qml.CZ, "cry": qml.CRY}


def prepare(case: dict[str, Any], x: np.ndarray, w: np.ndarray, dual: np.ndarray, device: str, gradient: str) -> Step:
    """Lightning has complex64; default.qubit takes complex128, whatever the parameters are."""
    n = case["qubits"]
    options = {"c_dtype": np.complex64} if device == "lightning.qubit" else {}

    @qml.qnode(qml.device(device, wires=n, **options), interface="torch", diff_method=gradient)
    def circuit(x: torch.Tensor, w: torch.Tensor) -> list[Any]:
        angles = [*x.T, *w]
        for name, qubits, parameter in case["gates"]:
            _GATES[name](*([] if parameter is None else [angles[parameter]]), wires=qubits)
        return [qml.expval(qml.Z(q)) for q in range(n)]

    inputs, weights = torch.from_numpy(x).requires_grad_(), torch.from_numpy(w).requires_grad_()
    return torch_step(lambda: torch.stack(list(circuit(inputs, weights)), 1), inputs, [weights], dual)


if __name__ == "__main__":
    serve_circuits(prepare, ["pennylane", "pennylane_lightning", "torch"])
