"""Observables as sums of Pauli strings, and what measurements in rotated bases tell of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import isfinite
from typing import Any

from torch import Tensor

from qvae.circuits.circuit import Gate
from qvae.errors import CircuitError

PauliSum = list[tuple[str, float]]
"""Labels with coefficients, as in Qiskit's ``SparsePauliOp.from_list``: the last letter of a label acts on qubit 0."""


_ROUNDING = 1e-12
"""Of a coefficient, the imaginary part that a product of real sums may leave it."""


def pauli_sums(observables: Sequence[Any], num_qubits: int) -> list[PauliSum]:
    """Observables in one form.

    Args:
        observables: each a list of pairs (label, coefficient), or a ``SparsePauliOp``.
        num_qubits: of the circuit, hence the length of all labels.

    Raises:
        CircuitError: there is none, or one is no such sum: its letters, length or coefficients are others.

    >>> pauli_sums([[("ZI", 1), ("IX", 0.5)]], num_qubits=2)
    [[('ZI', 1.0), ('IX', 0.5)]]
    """
    is_one = isinstance(observables, str) or hasattr(observables, "to_list")
    if is_one or not isinstance(observables, Sequence) or len(observables) == 0:
        raise CircuitError("observables must be a list of one or more Pauli sums; put a single one into a list.")
    sums = [[_term(term, num_qubits) for term in _terms(observable)] for observable in observables]
    if not all(sums):
        raise CircuitError("an observable has no terms; leave it out, or give it one, as ('ZI', 1.0).")
    return sums


def _terms(observable: Any) -> Iterable[Any]:
    listed = observable.to_list() if hasattr(observable, "to_list") else observable
    if isinstance(listed, str) or not isinstance(listed, Iterable):
        raise CircuitError(f"observable {observable!r} must be a list of pairs as ('ZI', 0.5), or a SparsePauliOp.")
    return listed


def _term(term: Any, num_qubits: int) -> tuple[str, float]:
    try:
        label, coefficient = term
        number = complex(coefficient)
    except (TypeError, ValueError):
        raise CircuitError(f"{term!r} is no term of an observable; it must be a pair as ('ZI', 0.5).") from None
    if not isinstance(label, str) or len(label) != num_qubits or set(label) - set("IXYZ"):
        raise CircuitError(f"the Pauli string {label!r} must have {num_qubits} letters I, X, Y or Z, one for each qubit.")
    if not isfinite(number.real):
        raise CircuitError(f"the coefficient of {label!r} is {coefficient}; it must be finite.")
    if abs(number.imag) > _ROUNDING * abs(number.real):
        raise CircuitError(f"the coefficient of {label!r} is {coefficient}; it must be real, or nothing can be measured.")
    return label, number.real


def support(label: str) -> Iterator[tuple[int, str]]:
    """Qubits on which a string acts, with their letters.

    >>> list(support("XIZ"))
    [(0, 'Z'), (2, 'X')]
    """
    return ((qubit, letter) for qubit, letter in enumerate(reversed(label)) if letter != "I")


def measured_together(labels: Iterable[str]) -> dict[str, list[str]]:
    """Strings by a basis that measures all of them, each in the first that leaves its letters alone (greedy).

    >>> measured_together(["ZI", "XX", "IZ", "ZZ"])
    {'ZZ': ['ZI', 'IZ', 'ZZ'], 'XX': ['XX']}
    """
    groups: list[tuple[str, list[str]]] = []
    for label in dict.fromkeys(labels):
        for index, (basis, members) in enumerate(groups):
            if all(a == b or "I" in (a, b) for a, b in zip(basis, label, strict=True)):
                merged = "".join(max(pair) for pair in zip(basis, label, strict=True))  # I comes before X, Y and Z
                groups[index] = (merged, [*members, label])
                break
        else:
            groups.append((label, [label]))
    return dict(groups)


def basis_change(basis: str) -> Iterator[Gate]:
    """Gates after which bits tell of X and Y as they do of Z before."""
    return letters_to_z(support(basis))


def letters_to_z(letters: Iterable[tuple[int, str]]) -> Iterator[Gate]:
    """Gates that turn each qubit's letter into Z, since X = H Z H and Y = S H Z H S^-1."""
    for qubit, letter in letters:
        if letter == "Y":
            yield Gate("sdg", (qubit,))
        if letter != "Z":
            yield Gate("h", (qubit,))


def string_mean(label: str, bits: Tensor) -> Tensor:
    """<P> as the mean over shots (..., shots, n), measured in a basis of P, of +1 or -1 for even or odd parity; float64."""
    parity = bits[..., [qubit for qubit, _ in support(label)]].sum(-1) % 2
    return 1 - 2 * parity.double().mean(-1)
