"""Diagonal gates: any phases of the basis states, as rotations about strings of Z."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.library.walsh import place_in_gray_code, walsh_hadamard
from qvae.errors import CircuitError


class Diagonal(NamedTuple):
    """A circuit for phases of the basis states, and how far it is from them.

    Attributes:
        circuit: of numbers alone.
        error: no phase is further off than so many radians, up to a global phase.
    """

    circuit: Circuit
    error: float


def diagonal(phases: Tensor, tolerance: float = 0.0) -> Diagonal:
    """|b> -> exp(i phases[b]) |b>, for all 2**n basis states b.

    The phases are a sum of strings of Z, whose coefficients are their Walsh-Hadamard transform, and each string is a rotation:
    Welch et al. 2014 (arXiv:1306.3991). Smooth phases need few of the 2**n - 1 strings; the smallest are left out, as long as
    their coefficients add up to the tolerance at most.

    Args:
        phases: radians, real, (2**n,), n of 1 or more.
        tolerance: radians, 0 or more.

    Raises:
        CircuitError: the phases aren't so many, or not finite.

    >>> import torch
    >>> diagonal(torch.tensor([0.0, 0.0, 0.0, 3.0])).circuit.gates[-1]
    Gate(name='rzz', qubits=(0, 1), angles=(-1.5,))
    """
    num_qubits = len(phases).bit_length() - 1 if phases.ndim == 1 else 0
    if num_qubits < 1 or len(phases) != 2**num_qubits or not bool(phases.isfinite().all()):
        raise CircuitError(f"phases of shape {tuple(phases.shape)} must be 2**n finite numbers in a row, n of 1 or more.")
    # exp(i c Z...Z) is a rotation by -2 c.
    coefficients = walsh_hadamard(phases.double()) / len(phases)
    coefficients[0] = 0
    smallest = coefficients.abs().sort()
    dropped = smallest.values.cumsum(0) <= tolerance
    coefficients[smallest.indices[dropped]] = 0
    error = float(smallest.values[dropped].sum())
    kept = {mask: -2 * float(coefficients[mask]) for mask in coefficients.nonzero().squeeze(1).tolist()}
    return Diagonal(Circuit(num_qubits, [*z_rotations(kept)]), error)


def z_rotations(angles: Mapping[int, float | Affine]) -> Iterator[Gate]:
    """exp(-i angle / 2 Z...Z) for strings of Z on the bits of each mask, which all commute.

    One and two letters are gates of their own. Of longer strings CNOTs write the parity into their highest qubit; those that
    share it are taken in Gray's order, so that all strings of n qubits need as many CNOTs as rotations.

    Args:
        angles: radians, or following a parameter, by masks of 1 and more.
    """
    long: dict[int, list[int]] = {}
    for mask, angle in angles.items():
        qubits = tuple(qubit for qubit in range(mask.bit_length()) if mask >> qubit & 1)
        if len(qubits) <= 2:
            yield Gate("rz" if len(qubits) == 1 else "rzz", qubits, (angle,))
        else:
            long.setdefault(qubits[-1], []).append(mask ^ 1 << qubits[-1])
    for target, masks in sorted(long.items()):
        parity = 0
        for mask in sorted(masks, key=place_in_gray_code):
            yield from _flips(parity ^ mask, target)
            yield Gate("rz", (target,), (angles[mask | 1 << target],))
            parity = mask
        yield from _flips(parity, target)


def _flips(controls: int, target: int) -> Iterator[Gate]:
    return (Gate("cx", (qubit, target)) for qubit in range(target) if controls >> qubit & 1)
