"""Classical shadows: all derivatives from the same measured copies of the circuit's state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import pi
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor
from qvae.circuits.gates import pauli_matrix
from qvae.circuits.gradients.estimator import GradientEstimator
from qvae.circuits.paulis import PauliSum, pauli_sums
from qvae.errors import CircuitError
from qvae.options import checked_options
from qvae.seeding import Seed, Seeded

_QUBITS = 8
_AT_ONCE = 2**22  # numbers in the snapshots that are summed together


class ClassicalShadows(Seeded, GradientEstimator):
    """An experiment in what backpropagation asks for: as many derivatives as there are from the same copies of one state.

    Each copy of |psi> is measured once, every qubit in X, Y or Z at random, and is a snapshot whose mean is |psi><psi| (Huang
    et al. 2020, arXiv:2002.08953). Every derivative i <psi| [V P V^-1, O] |psi> / 2, with V the gates behind an angle, is an
    expectation in that one state, and all are read from the mean snapshot: Abbas et al. 2023 (arXiv:2305.13362), who show that
    shadows of many copies can have the scaling of backpropagation where single copies can't. What it costs: the evolved
    observables act on many qubits, so that the variance grows up to 3^n, and the classical work is that of simulating the
    circuit's matrix, 4^n. For up to 8 qubits.

    Args:
        copies: of each row's state, one shot each, whatever the number of parameters.
        seed: of the bases; their generator's state is in ``state_dict``.

    Attributes:
        spent: copies so far.

    Raises:
        ValueError: an option is out of its range.
    """

    @checked_options
    def __init__(self, copies: Annotated[int, Field(ge=1)] = 1000, seed: Seed = None) -> None:
        super().__init__(seed)
        self.copies = copies
        self.spent = 0

    def check(self, circuit: Circuit) -> None:
        """See :meth:`GradientEstimator.check`."""
        if circuit.num_qubits > _QUBITS:
            raise CircuitError(
                f"the circuit has {circuit.num_qubits} qubits; classical shadows take {_QUBITS} at most: choose another "
                "gradient, as parameter-shift."
            )

    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """See :meth:`GradientEstimator.gradients`; unbiased, and one call.

        Raises:
            CircuitError: the circuit has more than 8 qubits.
        """
        self.check(circuit)
        if not len(values):
            return values.new_zeros(0, len(wanted))
        seen = self._shadow(executor, circuit, values)
        dense = _weighted(pauli_sums(observables, circuit.num_qubits), dual)
        with torch.enable_grad():
            leaf = values.detach().double().requires_grad_()
            matrix = unitary(circuit, leaf)
            # The snapshot is that of the end, taken back to the beginning; in the derivative the gates alone are varied.
            begin = (matrix.mH @ seen @ matrix).detach()
            loss = (dense * (matrix @ begin @ matrix.mH).mT).sum().real
            (found,) = torch.autograd.grad(loss, leaf, allow_unused=True)
        found = torch.zeros_like(leaf) if found is None else found
        return found[:, wanted.start : wanted.stop].to(values)

    def _shadow(self, executor: Executor, circuit: Circuit, values: Tensor) -> Tensor:
        """The mean snapshot of each row, (B, 2**n, 2**n), complex128."""
        n, rows = circuit.num_qubits, len(values)
        bases = torch.randint(3, (rows, self.copies, n), generator=self.generator(values.device), device=values.device)
        turns = values.new_tensor([[0.0, -pi / 2], [-pi / 2, -pi / 2], [0.0, 0.0]])[bases]  # about z, then y: X, Y, Z to Z
        every = torch.cat([values.repeat_interleave(self.copies, 0), turns.flatten(0, 1).flatten(1)], dim=1)
        bits = executor.sample(_turned(circuit), every, 1).view(rows, self.copies, n)
        self.spent += rows * self.copies
        kinds = 2 * bases + bits
        part = max(1, _AT_ONCE // (rows * 4**n))
        total = sum(_snapshots(each).sum(1) for each in kinds.split(part, dim=1))
        assert isinstance(total, Tensor)
        return total / self.copies

    def executions(self, circuit: Circuit, wanted: range) -> int:
        """See :meth:`GradientEstimator.executions`: one for each copy."""
        return self.copies if wanted else 0

    def shots_in_words(self, executor: Executor) -> str:
        """See :meth:`GradientEstimator.shots_in_words`."""
        return "of one shot each"


def _turned(circuit: Circuit) -> Circuit:
    """With a turn of each qubit about z and then y at its end, which follow parameters of their own."""
    first = circuit.num_parameters
    turns = [
        gate
        for qubit in range(circuit.num_qubits)
        for gate in (
            Gate("rz", (qubit,), (Affine(first + 2 * qubit),)),
            Gate("ry", (qubit,), (Affine(first + 2 * qubit + 1),)),
        )
    ]
    return replace(circuit, gates=(*circuit.gates, *turns), num_parameters=first + 2 * circuit.num_qubits)


def _snapshots(kinds: Tensor) -> Tensor:
    """Products over qubits of (1 + 3 s P) / 2, for P of X, Y, Z and s of +1, -1, numbered as 2 P + bit: (..., 2**n, 2**n)."""
    signs = [(letter, sign) for letter in "XYZ" for sign in (1, -1)]
    table = torch.stack([(pauli_matrix("I") + 3 * sign * pauli_matrix(letter)) / 2 for letter, sign in signs])
    factors = table.to(kinds.device)[kinds.long()]  # (..., n, 2, 2)
    found = factors[..., 0, :, :]
    for qubit in range(1, kinds.shape[-1]):
        found = torch.einsum("...ab,...cd->...acbd", factors[..., qubit, :, :], found)
        found = found.flatten(-4, -3).flatten(-2, -1)
    return found


def _weighted(sums: list[PauliSum], dual: Tensor) -> Tensor:
    """sum_k dual_k O_k of each row, dense, (B, 2**n, 2**n), complex128."""
    dense = [sum(weight * pauli_matrix(label) for label, weight in terms) for terms in sums]
    return torch.einsum("bk,kij->bij", dual.to(torch.complex128), torch.stack(dense).to(dual.device))  # type: ignore[arg-type]


def unitary(circuit: Circuit, values: Tensor) -> Tensor:
    """The circuit's matrix at rows of values (B, P), (B, 2**n, 2**n), differentiable; qubit q is bit q of an index."""
    n = circuit.num_qubits
    found = torch.eye(2**n, dtype=values.dtype.to_complex(), device=values.device).expand(len(values), -1, -1)
    for gate in circuit.gates:
        axes = [n - qubit for qubit in reversed(gate.qubits)]  # of (B, 2, ..., 2, 2**n), the gate's last qubit first
        split = found.reshape(len(values), *[2] * n, 2**n).movedim(axes, list(range(1, 1 + len(axes))))
        shape = split.shape
        acted = gate.matrix(values) @ split.reshape(len(values), 2 ** len(axes), -1)
        found = acted.view(shape).movedim(list(range(1, 1 + len(axes))), axes).reshape(len(values), 2**n, 2**n)
    return found
