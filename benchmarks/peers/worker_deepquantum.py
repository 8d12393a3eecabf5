"""Worker of deepquantum: inputs as encoded data, weights as its parameters, complex64."""

from __future__ import annotations

import os
from typing import Any

import deepquantum as dq  # type: ignore[import-not-found]
import numpy as np
import torch
from circuit_worker import Step, serve_circuits, torch_step

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
_NAMES = {"cx": "cnot"}


def prepare(case: dict[str, Any], x: np.ndarray, w: np.ndarray, dual: np.ndarray) -> Step:
    """Its data are read in the order of the gates, which is that of the inputs here."""
    n = case["qubits"]
    circuit = dq.QubitCircuit(n)
    for name, qubits, parameter in case["gates"]:
        encode = {} if parameter is None else {"encode": parameter < n}
        getattr(circuit, _NAMES.get(name, name))(*qubits, **encode)
    weights = list(circuit.parameters())
    with torch.no_grad():
        for weight, number in zip(weights, w.tolist(), strict=True):
            weight.fill_(number)
    basis = torch.arange(2**n)
    signs = torch.stack([1.0 - 2 * (basis >> (n - 1 - q) & 1) for q in range(n)])  # its qubit 0 is the highest bit
    inputs = torch.from_numpy(x).requires_grad_()

    def values() -> torch.Tensor:
        # Quicker than its expectation(), forward and backward.
        return circuit(inputs).squeeze(2).abs().square() @ signs.T

    return torch_step(values, inputs, weights, dual)


if __name__ == "__main__":
    serve_circuits(prepare, ["deepquantum", "torch"])
