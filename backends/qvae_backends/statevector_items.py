"""What a plan is made of: runs of gates that all rows share, and phases that differ from row to row.

Gates that follow inputs, whose matrices would differ from row to row, become phases between fixed changes of basis.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import NamedTuple

import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.elementary import elementary
from qvae.circuits.gates import GATES, gate_matrix
from qvae.circuits.inverse import inverse
from qvae.circuits.paulis import letters_to_z


class Term(NamedTuple):
    """Phases exp(i angle exponents[local]), where the local index reads ``qubits``, the first of them as its lowest bit."""

    qubits: tuple[int, ...]
    exponents: tuple[float, ...]
    angle: float | Affine


class Item(NamedTuple):
    """What is planned as a whole: a product of gates on the same qubits, or phases that differ from row to row."""

    qubits: tuple[int, ...]
    gates: tuple[Gate, ...]
    term: Term | None = None


def items_of(circuit: Circuit, num_by_row: int) -> Iterator[Item]:
    """Runs of one-qubit gates, other gates, and terms by row."""
    open_runs: dict[int, list[Gate]] = {}

    def closed(qubits: Iterable[int]) -> Iterator[Item]:
        for qubit in qubits:
            if qubit in open_runs:
                yield Item((qubit,), tuple(open_runs.pop(qubit)))

    for part in _split_by_row(circuit, num_by_row):
        if isinstance(part, Gate) and len(part.qubits) == 1:
            open_runs.setdefault(part.qubits[0], []).append(part)
            continue
        yield from closed(part.qubits)
        yield Item(part.qubits, (), part) if isinstance(part, Term) else Item(part.qubits, (part,))
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
def _form(name: str) -> str:
    """Whether a gate without inputs is "diagonal", a "permutation" of basis states, or any other "matrix"."""
    angles = list(torch.tensor([0.3, 0.7, 1.1, 1.3], dtype=torch.float64)[: GATES[name].num_angles])
    matrix = gate_matrix(name, angles, like=torch.zeros((), dtype=torch.float64))
    if not (matrix - matrix.diagonal().diag()).abs().any():
        return "diagonal"
    if not angles and bool(((matrix == 0) | (matrix == 1)).all()):
        return "permutation"
    return "matrix"


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
