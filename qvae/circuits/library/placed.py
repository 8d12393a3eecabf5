"""Circuits from names and places of gates: every angle is a parameter of its own."""

from __future__ import annotations

from collections.abc import Iterable

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gates import GATES
from qvae.errors import CircuitError

Placed = tuple[str, tuple[int, ...]]
"""A gate's name and qubits, as ("rzz", (0, 1))."""


def placed_gates(num_qubits: int, places: Iterable[Placed]) -> Circuit:
    """The circuit of these gates, in which the angles are its weights, in their order.

    >>> placed_gates(2, [("h", (0,)), ("ry", (1,)), ("rzz", (0, 1))]).num_weights
    2
    """
    gates, count = [], 0
    for name, qubits in places:
        angles = range(count, count + (GATES[name].num_angles if name in GATES else 0))
        count = angles.stop
        gates.append(Gate(name, qubits, tuple(Affine(index) for index in angles)))
    return Circuit(num_qubits, gates, num_parameters=count)


def check_layers(layers: int) -> None:
    """Refuse what has no layer.

    Raises:
        CircuitError: there are fewer than 1, or no whole number of them.
    """
    if not isinstance(layers, int) or layers < 1:
        raise CircuitError(f"the circuit has {layers} layers; it needs 1 or more, a whole number.")
