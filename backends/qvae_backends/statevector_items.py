"""What a plan is made of: runs of gates that all rows share, and phases that differ from row to row.

Gates that follow inputs, whose matrices would differ from row to row, become phases between fixed changes of basis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.elementary import elementary
from qvae.circuits.gates import GATES, gate_matrix, pauli_matrix
from qvae.circuits.inverse import inverse
from qvae.circuits.paulis import letters_to_z


class Term(NamedTuple):
    """Phases exp(i angle exponents[local]), where the local index reads ``qubits``, the first of them as its lowest bit."""

    qubits: tuple[int, ...]
    exponents: tuple[float, ...]
    angle: float | Affine


class Item(NamedTuple):
    """What is planned as a whole: a product of gates on the same qubits, or phases that differ from row to row.

    ``axes`` are the Pauli matrices X, Y, Z on each of its qubits with which it commutes.
    """

    qubits: tuple[int, ...]
    axes: tuple[frozenset[str], ...]
    gates: tuple[Gate, ...]
    term: Term | None = None


class Waiting:
    """Items that stay behind while later ones come before them.

    Two items commute if on every qubit that they share both commute with the same Pauli matrix: then each is a sum of
    operators on its other qubits, one for every outcome of measuring those matrices.

    Attributes:
        closed: qubits on which no further item can pass.
    """

    def __init__(self) -> None:
        self._axes: dict[int, frozenset[str]] = {}
        self.closed: set[int] = set()

    def add(self, item: Item) -> None:
        for qubit, axes in zip(item.qubits, item.axes, strict=True):
            left = self._axes[qubit] = self._axes.get(qubit, axes) & axes
            if not left:
                self.closed.add(qubit)

    def lets_pass(self, item: Item) -> bool:
        """Whether a later item can come before them."""
        for qubit, axes in zip(item.qubits, item.axes, strict=True):
            if qubit in self._axes and self._axes[qubit].isdisjoint(axes):
                return False
        return True


def items_of(circuit: Circuit, num_by_row: int) -> Iterator[Item]:
    """Runs of one-qubit gates, other gates, and terms by row."""
    open_runs: dict[int, list[Gate]] = {}

    def closed(qubits: Iterable[int]) -> Iterator[Item]:
        for qubit in qubits:
            if qubit in open_runs:
                gates = tuple(open_runs.pop(qubit))
                yield Item((qubit,), (frozenset.intersection(*(_axes(gate.name)[0] for gate in gates)),), gates)

    for part in _split_by_row(circuit, num_by_row):
        if isinstance(part, Gate) and len(part.qubits) == 1:
            open_runs.setdefault(part.qubits[0], []).append(part)
            continue
        yield from closed(part.qubits)
        if isinstance(part, Term):
            yield Item(part.qubits, (frozenset("Z"),) * len(part.qubits), (), part)
        else:
            yield Item(part.qubits, _axes(part.name), (part,))
    yield from closed(range(circuit.num_qubits))


def _split_by_row(circuit: Circuit, num_by_row: int) -> Iterator[Gate | Term]:
    """Gates that all rows share, and the phases to which the others come down."""
    for gate in circuit.gates:
        if not _follows(gate, num_by_row):
            yield gate
            continue
        for factor in elementary(gate):
            if not _follows(factor, num_by_row):
                yield factor
                continue
            # A rotation about a Pauli string is one about a string of Z between changes of basis.
            letters = zip(factor.qubits, reversed(GATES[factor.name].letters), strict=False)
            change = Circuit(circuit.num_qubits, [*letters_to_z(letters)])
            yield from change.gates
            yield Term(factor.qubits, _exponents(factor.name), factor.angles[0])
            yield from inverse(change).gates


def _follows(gate: Gate, num_by_row: int) -> bool:
    return any(isinstance(angle, Affine) and angle.index < num_by_row for angle in gate.angles)


@lru_cache(None)
def _exponents(name: str) -> tuple[float, ...]:
    """Of a diagonal gate's phases, or of those of a rotation with Z in place of X and Y, per radian of its angle."""
    letters = GATES[name].letters
    name = {1: "rz", 2: "rzz"}[len(letters)] if letters and set(letters) != {"Z"} else name
    half = torch.tensor(0.5, dtype=torch.float64)
    return tuple((gate_matrix(name, [half], like=half).diagonal().angle() / half).tolist())


@lru_cache(None)
def _axes(name: str) -> tuple[frozenset[str], ...]:
    """The Pauli matrices on each qubit of a gate with which it commutes, whatever its angles."""
    matrix, number = _at_some_angles(name), GATES[name].num_qubits
    found = []
    for qubit in range(number):
        paulis = {axis: pauli_matrix("I" * (number - qubit - 1) + axis + "I" * qubit) for axis in "XYZ"}
        found.append(frozenset(axis for axis, pauli in paulis.items() if torch.allclose(matrix @ pauli, pauli @ matrix)))
    return tuple(found)


@lru_cache(None)
def _form(name: str) -> str:
    """Whether a gate without inputs is "diagonal", a "permutation" of basis states, or any other "matrix"."""
    matrix = _at_some_angles(name)
    if not (matrix - matrix.diagonal().diag()).abs().any():
        return "diagonal"
    if not GATES[name].num_angles and bool(((matrix == 0) | (matrix == 1)).all()):
        return "permutation"
    return "matrix"


def _at_some_angles(name: str) -> Tensor:
    """A gate's matrix at angles that make nothing of it special, in complex128."""
    angles = torch.tensor([0.3, 0.7, 1.1, 1.3], dtype=torch.float64)[: GATES[name].num_angles]
    return gate_matrix(name, list(angles), like=angles)


def terms_of(item: Item) -> Iterator[Term]:
    """An item as phases."""
    if item.term is not None:
        yield item.term
        return
    for gate in item.gates:
        if gate.angles:
            yield Term(gate.qubits, _exponents(gate.name), gate.angles[0])
        else:
            like = torch.zeros((), dtype=torch.float64)
            yield Term(gate.qubits, tuple(gate_matrix(gate.name, [], like=like).diagonal().angle().tolist()), 1.0)


def is_permutation(item: Item) -> bool:
    """Of several qubits and without angles, as CNOTs are."""
    return has_form(item, "permutation")


def has_form(item: Item, form: str) -> bool:
    if item.term is not None:
        return form == "diagonal"
    return len(item.qubits) > 1 and all(_form(gate.name) == form for gate in item.gates)
