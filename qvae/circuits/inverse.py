"""The circuit that undoes another one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import pi

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.elementary import scaled

_PAIRS = {"s": "sdg", "t": "tdg", "sx": "sxdg", "cs": "csdg"}
_PARTNERS = _PAIRS | {partner: name for name, partner in _PAIRS.items()}
_PERIODS = {"csx": 4, "c3sx": 4, "iswap": 4, "dcx": 3}
"""How often a gate acts until nothing is changed, where neither it nor another gate of the table undoes it."""


def inverse(circuit: Circuit) -> Circuit:
    """The gates undone, the last one first; of the same parameters.

    >>> inverse(Circuit(1, [Gate("s", (0,)), Gate("rx", (0,), (0.5,))])).gates
    (Gate(name='rx', qubits=(0,), angles=(-0.5,)), Gate(name='sdg', qubits=(0,), angles=()))
    """
    return replace(circuit, gates=tuple(undo for gate in reversed(circuit.gates) for undo in _undone(gate)))


def _undone(gate: Gate) -> Iterator[Gate]:
    name = _PARTNERS.get(gate.name, gate.name)
    for _ in range(_PERIODS.get(name, 2) - 1):
        yield gate._replace(name=name, angles=_angles(gate))


def _angles(gate: Gate) -> tuple[float | Affine, ...]:
    """Those of the inverse: all turn the other way, but the axis of a rotation stays, and Euler's angles change places."""
    angles = gate.angles
    if gate.name in ("r", "xx_plus_yy", "xx_minus_yy"):
        return scaled(angles[0], -1), angles[1]
    if gate.name == "u2":  # u(pi/2, phi, lam), whose inverse has -pi/2 there
        return scaled(angles[1], -1, -pi), scaled(angles[0], -1, pi)
    if gate.name in ("u", "u3", "cu", "cu3"):
        theta, phi, lam, *phase = (scaled(angle, -1) for angle in angles)
        return theta, lam, phi, *phase
    return tuple(scaled(angle, -1) for angle in angles)
