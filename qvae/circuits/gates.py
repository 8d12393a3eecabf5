"""Matrices of Qiskit's standard gates, in torch: one table, batched over angles and differentiable in them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import pi, sqrt

import torch
from torch import Tensor


@dataclass(frozen=True)
class GateKind:
    """A gate of the table.

    Attributes:
        num_qubits: k.
        num_angles: a.
        matrix: from a real tensors of one shape to (..., 2**k, 2**k), complex; the first qubit is the lowest bit of an index.
        letters: of a rotation exp(-i theta P / 2): those of the Pauli string P, the last on the first qubit; else "".
    """

    num_qubits: int
    num_angles: int
    matrix: Callable[..., Tensor]
    letters: str = ""


def gate_matrix(name: str, angles: Sequence[Tensor], like: Tensor) -> Tensor:
    """The gate's matrices, (..., 2**k, 2**k), complex in the precision of ``like`` and on its device.

    Args:
        name: a key of :data:`GATES`.
        angles: radians, real, of shapes that broadcast to (...).
        like: float32 or float64.

    >>> gate_matrix("cx", [], torch.zeros(())).real.tolist()
    [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0], [0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 0.0, 0.0]]
    """
    return GATES[name].matrix(*torch.broadcast_tensors(*angles)).to(like.device, like.dtype.to_complex())


def _constant(rows: object) -> Tensor:
    return torch.tensor(rows, dtype=torch.complex128)


_IDENTITY = _constant([[1, 0], [0, 1]])
_PAULIS = {
    "I": _IDENTITY,
    "X": _constant([[0, 1], [1, 0]]),
    "Y": _constant([[0, -1j], [1j, 0]]),
    "Z": _constant([[1, 0], [0, -1]]),
}
_SX = _constant([[1 + 1j, 1 - 1j], [1 - 1j, 1 + 1j]]) / 2
_SWAP = _constant([[1, 0, 0, 0], [0, 0, 1, 0], [0, 1, 0, 0], [0, 0, 0, 1]])
_ISWAP = _constant([[1, 0, 0, 0], [0, 0, 1j, 0], [0, 1j, 0, 0], [0, 0, 0, 1]])
_DCX = _constant([[1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]])
_ECR = _constant([[0, 1, 0, 1j], [1, 0, -1j, 0], [0, 1j, 0, 1], [-1j, 0, 1, 0]]) / sqrt(2)


def _fixed(matrix: Tensor) -> GateKind:
    return GateKind(len(matrix).bit_length() - 1, 0, lambda: matrix)


def _diagonal(angle: float) -> GateKind:
    """diag(1, exp(i angle))."""
    return _fixed(_phase(torch.tensor(angle, dtype=torch.float64)))


def _controlled(kind: GateKind) -> GateKind:
    """The gate where a new first qubit is |1>."""
    number = kind.num_qubits

    def matrix(*angles: Tensor) -> Tensor:
        gate = kind.matrix(*angles)
        one, other = (torch.eye(size, dtype=gate.dtype, device=gate.device) for size in (2, 2**number))
        off, on = one[:, :1] * one[:1], one[:, 1:] * one[1:]
        return torch.kron(other, off) + torch.kron(gate, on)

    return GateKind(number + 1, kind.num_angles, matrix)


def _rotation(letters: str) -> GateKind:
    """exp(-i theta P / 2), where the last letter of P acts on the first qubit, as in Qiskit's labels."""
    identity = "I" * len(letters)

    def matrix(theta: Tensor) -> Tensor:
        half, place = (theta / 2)[..., None, None], (theta.device, theta.dtype.to_complex())
        return half.cos() * _pauli_there(identity, *place) - 1j * half.sin() * _pauli_there(letters, *place)

    return GateKind(len(letters), 1, matrix, letters)


@lru_cache(64)
@torch.inference_mode(False)  # what is kept serves training, too
def _pauli_there(letters: str, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Kept, since a copy to a GPU waits for it."""
    return pauli_matrix(letters).to(device, dtype)


def pauli_matrix(letters: str) -> Tensor:
    """Of a Pauli string, complex128, (2**k, 2**k); the last letter acts on the lowest bit.

    >>> pauli_matrix("ZI").diagonal().real.tolist()
    [1.0, 1.0, -1.0, -1.0]
    """
    matrix = _PAULIS[letters[0]]
    for letter in letters[1:]:
        matrix = torch.kron(matrix, _PAULIS[letter])
    return matrix


def _exchange(first: int, second: int) -> GateKind:
    """A rotation between two of the four basis states, by theta about an axis at beta in the plane."""

    def matrix(theta: Tensor, beta: Tensor) -> Tensor:
        cos, sin = (theta / 2).cos(), (theta / 2).sin()
        entries = {(i, i): torch.ones_like(theta) for i in range(4)} | {
            (first, first): cos,
            (second, second): cos,
            (first, second): -1j * sin * torch.exp(-1j * beta),
            (second, first): -1j * sin * torch.exp(1j * beta),
        }
        zero = torch.zeros_like(theta)
        return _stacked([[entries.get((i, j), zero) for j in range(4)] for i in range(4)])

    return GateKind(2, 2, matrix)


def _phase(angle: Tensor) -> Tensor:
    one, zero = torch.ones_like(angle), torch.zeros_like(angle)
    return _stacked([[one, zero], [zero, torch.exp(1j * angle)]])


def _u(theta: Tensor, phi: Tensor, lam: Tensor) -> Tensor:
    cos, sin = (theta / 2).cos(), (theta / 2).sin()
    return _stacked(
        [
            [cos, -sin * torch.exp(1j * lam)],
            [sin * torch.exp(1j * phi), cos * torch.exp(1j * (phi + lam))],
        ]
    )


def _u_with_phase(theta: Tensor, phi: Tensor, lam: Tensor, gamma: Tensor) -> Tensor:
    return torch.exp(1j * gamma)[..., None, None] * _u(theta, phi, lam)


def _stacked(rows: list[list[Tensor]]) -> Tensor:
    """One matrix from entries of one shape, (..., rows, columns), complex."""
    return torch.stack([torch.stack([entry + 0j for entry in row], -1) for row in rows], -2)


_X, _Y, _Z, _S, _P = _fixed(_PAULIS["X"]), _fixed(_PAULIS["Y"]), _fixed(_PAULIS["Z"]), _diagonal(pi / 2), GateKind(1, 1, _phase)
_H, _ROOT, _U = _fixed((_PAULIS["X"] + _PAULIS["Z"]) / sqrt(2)), _fixed(_SX), GateKind(1, 3, _u)

GATES: dict[str, GateKind] = {
    "id": _fixed(_IDENTITY),
    "x": _X,
    "y": _Y,
    "z": _Z,
    "h": _H,
    "s": _S,
    "sdg": _diagonal(-pi / 2),
    "t": _diagonal(pi / 4),
    "tdg": _diagonal(-pi / 4),
    "sx": _ROOT,
    "sxdg": _fixed(_SX.conj_physical()),
    "p": _P,
    "rx": _rotation("X"),
    "ry": _rotation("Y"),
    "rz": _rotation("Z"),
    "r": GateKind(1, 2, lambda theta, phi: _u(theta, phi - pi / 2, pi / 2 - phi)),
    "u": _U,
    "u1": _P,
    "u2": GateKind(1, 2, lambda phi, lam: _u(torch.full_like(phi, pi / 2), phi, lam)),
    "u3": _U,
    "cx": _controlled(_X),
    "cy": _controlled(_Y),
    "cz": _controlled(_Z),
    "ch": _controlled(_H),
    "cs": _controlled(_S),
    "csdg": _controlled(_diagonal(-pi / 2)),
    "csx": _controlled(_ROOT),
    "cp": _controlled(_P),
    "crx": _controlled(_rotation("X")),
    "cry": _controlled(_rotation("Y")),
    "crz": _controlled(_rotation("Z")),
    "cu": _controlled(GateKind(1, 4, _u_with_phase)),
    "cu1": _controlled(_P),
    "cu3": _controlled(_U),
    "swap": _fixed(_SWAP),
    "iswap": _fixed(_ISWAP),
    "dcx": _fixed(_DCX),
    "ecr": _fixed(_ECR),
    "rxx": _rotation("XX"),
    "ryy": _rotation("YY"),
    "rzz": _rotation("ZZ"),
    "rzx": _rotation("XZ"),
    "xx_plus_yy": _exchange(1, 2),
    "xx_minus_yy": _exchange(0, 3),
    "ccx": _controlled(_controlled(_X)),
    "ccz": _controlled(_controlled(_Z)),
    "cswap": _controlled(_fixed(_SWAP)),
    "c3sx": _controlled(_controlled(_controlled(_ROOT))),
}
"""By Qiskit's names, all with the sequence of qubits and angles that they have there."""
