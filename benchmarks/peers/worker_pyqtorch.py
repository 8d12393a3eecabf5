"""Worker of pyqtorch: automatic differentiation in complex64, the state computed once for all expectation values."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pyqtorch as pyq  # type: ignore[import-not-found]
import torch
from circuit_worker import Step, serve_circuits, torch_step

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
_GATES = {"h": pyq.H, "rx": pyq.RX, "ry": pyq.RY, "rz": pyq.RZ, "cx": pyq.CNOT, "cz": pyq.CZ, "cry": pyq.CRY}


def prepare(case: dict[str, Any], x: np.ndarray, w: np.ndarray, dual: np.ndarray) -> Step:
    n = case["qubits"]
    operations = []
    for name, qubits, parameter in case["gates"]:
        operations.append(_GATES[name](*qubits, *([] if parameter is None else [f"p{parameter}"])))
    circuit = pyq.QuantumCircuit(n, operations).to(torch.complex64)
    basis = torch.arange(2**n)
    signs = torch.stack([1.0 - 2 * (basis >> (n - 1 - q) & 1) for q in range(n)])  # its qubit 0 is the highest bit
    inputs = torch.from_numpy(x).requires_grad_()
    weights = [torch.tensor([number]).requires_grad_() for number in w.tolist()]

    def values() -> torch.Tensor:
        parameters = {f"p{number}": angle for number, angle in enumerate([*inputs.T, *weights])}
        state = circuit(circuit.init_state(batch_size=len(x)).to(torch.complex64), parameters)
        return (signs @ state.abs().square().flatten(0, -2)).T

    return torch_step(values, inputs, weights, dual)


if __name__ == "__main__":
    serve_circuits(prepare, ["pyqtorch", "torch"])
