"""Circuits worked out basis state by basis state, slow and plain: the ground truth of the checks for executors."""

from __future__ import annotations

from functools import reduce

import numpy as np
import torch

from qvae.circuits.circuit import Circuit
from qvae.circuits.paulis import PauliSum

_PAULIS = {
    "I": np.eye(2),
    "X": np.array([[0, 1], [1, 0]]),
    "Y": np.array([[0, -1j], [1j, 0]]),
    "Z": np.diag([1, -1]),
}


def dense_state(circuit: Circuit, values: torch.Tensor) -> np.ndarray:
    """The state of one row of values (P,), complex128, (2**n,)."""
    rows = values.detach().double().cpu().unsqueeze(0)
    state = np.zeros(2**circuit.num_qubits, dtype=complex)
    state[0] = 1
    for gate in circuit.gates:
        matrix = gate.matrix(rows).reshape(2 ** len(gate.qubits), -1).numpy()
        reached = np.zeros_like(state)
        for index, amplitude in enumerate(state):
            column = sum((index >> qubit & 1) << k for k, qubit in enumerate(gate.qubits))
            others = index & ~sum(1 << qubit for qubit in gate.qubits)
            for row in range(len(matrix)):
                target = others | sum((row >> k & 1) << qubit for k, qubit in enumerate(gate.qubits))
                reached[target] += matrix[row, column] * amplitude
        state = reached
    return state


def dense_expectation(state: np.ndarray, observable: PauliSum) -> float:
    """<O>, by Kronecker products of Pauli matrices."""
    total = sum(weight * reduce(np.kron, [_PAULIS[letter] for letter in label]) for label, weight in observable)
    return float((state.conj() @ total @ state).real)
