"""Angle encoding: each input turns a qubit of its own."""

from __future__ import annotations

from dataclasses import replace

from qvae.circuits.circuit import Circuit
from qvae.circuits.library.placed import placed_gates
from qvae.errors import CircuitError, nearest

_ROTATIONS = ("rx", "ry", "rz")


def angle_encoding(num_qubits: int, rotation: str = "ry", hadamard: bool = False) -> Circuit:
    """A rotation of qubit q by input q, in radians: a product state.

    Args:
        num_qubits: n, hence n inputs.
        rotation: ``rx``, ``ry``, or ``rz``, of which only what follows other gates is seen.
        hadamard: begin with a Hadamard gate on every qubit, as ``rz`` needs at the start of a circuit.

    Raises:
        CircuitError: there is no such rotation.

    >>> [gate.name for gate in angle_encoding(2, "rz", hadamard=True).gates]
    ['h', 'h', 'rz', 'rz']
    """
    if rotation not in _ROTATIONS:
        raise CircuitError(f"no rotation encodes angles by the name {rotation!r}: {nearest(rotation, _ROTATIONS)}.")
    names = ["h", rotation] if hadamard else [rotation]
    circuit = placed_gates(num_qubits, [(name, (qubit,)) for name in names for qubit in range(num_qubits)])
    return replace(circuit, num_inputs=circuit.num_parameters)
