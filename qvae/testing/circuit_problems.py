"""Small circuits with known expectations, on which executors are checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gates import GATES
from qvae.circuits.paulis import PauliSum
from qvae.testing.dense import dense_expectation, dense_state


@dataclass(frozen=True)
class CircuitProblem:
    """A circuit with values (B, P) and observables, and what it is called in a report."""

    name: str
    circuit: Circuit
    values: Tensor
    observables: list[PauliSum]

    def expectations(self, values: Tensor | None = None) -> Tensor:
        """True ones at these values, or at its own: float64, (B, K)."""
        states = [dense_state(self.circuit, row) for row in (self.values if values is None else values)]
        rows = [[dense_expectation(state, terms) for terms in self.observables] for state in states]
        return torch.tensor(rows, dtype=torch.float64)


def circuit_problems() -> list[CircuitProblem]:
    """Every gate of the table in some circuit, at angles that are numbers and that follow parameters."""
    numbers = torch.Generator().manual_seed(20)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers, dtype=torch.float64)

    def angle() -> float | Affine:
        index = int(torch.randint(5, (), generator=numbers))
        scale, offset = normal(2).tolist()
        return offset if index == 4 else Affine(index, scale, offset)

    def gate(name: str) -> Gate:
        qubits = torch.randperm(4, generator=numbers)[: GATES[name].num_qubits]
        return Gate(name, tuple(qubits.tolist()), tuple(angle() for _ in range(GATES[name].num_angles)))

    def observable() -> PauliSum:
        letters = torch.randint(4, (3, 4), generator=numbers).tolist()
        labels = ["".join("IXYZ"[letter] for letter in row) for row in letters]
        return list(zip(labels, normal(3).tolist(), strict=True))

    # Axes of three qubits that are all different, so that a wrong sign, letter or order shows.
    axes = [Gate("ry", (0,), (0.9,)), Gate("rx", (1,), (Affine(0, 0.5, 2.0),)), Gate("u", (2,), (2.6, 0.9, 0.2))]
    single = [[("I" * (2 - qubit) + letter + "I" * qubit, 1.0)] for qubit in range(3) for letter in "XYZ"]
    problems = [CircuitProblem("single qubits", Circuit(3, axes, 1), normal(2, 1), [*single, [("III", 0.5), ("ZII", -2.0)]])]
    mixing = [Gate("ry", (qubit,), (angle(),)) for qubit in range(4)]
    names = list(GATES)
    for start in range(0, len(names), 9):
        gates = [gate(name) for name in names[start : start + 9]]
        circuit = Circuit(4, [*mixing, *gates], num_parameters=4)
        observables = [observable() for _ in range(3)]
        problems.append(CircuitProblem(f"{gates[0].name} to {gates[-1].name}", circuit, normal(3, 4), observables))
    return problems


def coins() -> Circuit:
    """Three fair coins and a parameter that no gate follows."""
    return Circuit(3, [Gate("h", (qubit,)) for qubit in range(3)], num_parameters=1)
