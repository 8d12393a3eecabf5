"""Gates as products of Pauli rotations, phases and gates without angles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from math import pi

from qvae.circuits.circuit import Affine, Gate

Angle = float | Affine


def elementary(gate: Gate) -> Iterator[Gate]:
    """A product that equals the gate up to a global phase, the first factor acts first.

    Every factor has at most one angle, and is diagonal, a rotation exp(-i theta P / 2) about a Pauli string P, or has no angle.

    >>> [factor.name for factor in elementary(Gate("cry", (0, 1), (0.3,)))]
    ['sdg', 'h', 'crz', 'h', 's']
    """
    if gate.name not in _PRODUCTS:
        yield gate
        return
    for factor in _PRODUCTS[gate.name](*gate.qubits, *gate.angles):
        yield from elementary(factor)


def scaled(angle: Angle, scale: float, offset: float = 0.0) -> Angle:
    """scale * angle + offset."""
    if isinstance(angle, Affine):
        return replace(angle, scale=scale * angle.scale, offset=scale * angle.offset + offset)
    return scale * angle + offset


def _u(q: int, theta: Angle, phi: Angle, lam: Angle) -> list[Gate]:
    return [Gate("p", (q,), (lam,)), Gate("ry", (q,), (theta,)), Gate("p", (q,), (phi,))]


def _u2(q: int, phi: Angle, lam: Angle) -> list[Gate]:
    return _u(q, pi / 2, phi, lam)


def _r(q: int, theta: Angle, phi: Angle) -> list[Gate]:
    return [Gate("rz", (q,), (scaled(phi, -1),)), Gate("rx", (q,), (theta,)), Gate("rz", (q,), (phi,))]


def _crx(c: int, t: int, theta: Angle) -> list[Gate]:
    return [Gate("h", (t,)), Gate("crz", (c, t), (theta,)), Gate("h", (t,))]


def _cry(c: int, t: int, theta: Angle) -> list[Gate]:
    return [Gate("sdg", (t,)), *_crx(c, t, theta), Gate("s", (t,))]


def _cu(c: int, t: int, theta: Angle, phi: Angle, lam: Angle, gamma: Angle) -> list[Gate]:
    return [Gate("p", (c,), (gamma,)), *_cu3(c, t, theta, phi, lam)]


def _cu3(c: int, t: int, theta: Angle, phi: Angle, lam: Angle) -> list[Gate]:
    return [Gate("cp", (c, t), (lam,)), *_cry(c, t, theta), Gate("cp", (c, t), (phi,))]


def _exchange(sign: int) -> Callable[..., list[Gate]]:
    """exp(-i theta (XX + sign YY) / 4), turned about Z of the second qubit by beta."""

    def product(a: int, b: int, theta: Angle, beta: Angle) -> list[Gate]:
        return [
            Gate("p", (b,), (scaled(beta, -1),)),
            Gate("rxx", (a, b), (scaled(theta, 0.5),)),
            Gate("ryy", (a, b), (scaled(theta, 0.5 * sign),)),
            Gate("p", (b,), (beta,)),
        ]

    return product


_PRODUCTS: dict[str, Callable[..., list[Gate]]] = {
    "u": _u,
    "u2": _u2,
    "u3": _u,
    "r": _r,
    "crx": _crx,
    "cry": _cry,
    "cu": _cu,
    "cu3": _cu3,
    "xx_plus_yy": _exchange(1),
    "xx_minus_yy": _exchange(-1),
}
