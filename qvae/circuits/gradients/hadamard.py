"""The Hadamard test: each derivative is one expectation, of the circuit's observable beside an ancilla."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.elementary import elementary
from qvae.circuits.executor import Executor
from qvae.circuits.gates import GATES, gate_matrix
from qvae.circuits.gradients.estimator import GradientEstimator
from qvae.circuits.library.walsh import walsh_hadamard
from qvae.circuits.paulis import pauli_sums

_CIRCUITS = 16  # whose tests are kept

Letters = tuple[tuple[int, str], ...]
"""A Pauli string: qubits with their letters."""


class HadamardTest(GradientEstimator):
    """d<O>/d theta = <Y x O> with an ancilla that controls the generator behind its gate: Guerreschi and Smelyanskiy 2017
    (arXiv:1701.01450).

    Behind exp(-i theta P / 2) a Pauli string P acts where the ancilla, which began in |+>, is |1>. One circuit of one qubit
    more for each angle, three for ``cp`` and two for ``crz``, whose generators are sums of strings; one call for each, since
    the circuits differ in their gates.
    """

    def gradients(
        self,
        executor: Executor,
        circuit: Circuit,
        values: Tensor,
        observables: Sequence[Any],
        dual: Tensor,
        wanted: range,
    ) -> Tensor:
        """See :meth:`GradientEstimator.gradients`; exact up to the executor's own errors.

        Raises:
            ExecutorError: the executor has no qubit left for the ancilla.
        """
        sums = pauli_sums(observables, circuit.num_qubits)
        beside = [[("Y" + label, weight) for label, weight in terms] for terms in sums]
        found = values.new_zeros(len(values), circuit.num_parameters)
        for test in hadamard_tests(circuit):
            if test.parameter in wanted:
                measured = executor.expectations(test.circuit, values, beside)
                found[:, test.parameter] += test.coefficient * (measured * dual).sum(1)
        return found[:, wanted.start : wanted.stop]

    def executions(self, circuit: Circuit, wanted: range) -> int:
        """See :meth:`GradientEstimator.executions`."""
        return sum(test.parameter in wanted for test in hadamard_tests(circuit))


class HadamardCircuit(NamedTuple):
    """A circuit whose <Y x O>, times a coefficient, is a part of d<O> by a parameter; the ancilla is the last qubit."""

    circuit: Circuit
    parameter: int
    coefficient: float


@lru_cache(_CIRCUITS)
def hadamard_tests(circuit: Circuit) -> tuple[HadamardCircuit, ...]:
    """Those of all angles that follow a parameter, a string of a generator each."""
    ancilla = circuit.num_qubits
    gates = [factor for gate in circuit.gates for factor in elementary(gate)]
    tests = []
    for place, gate in enumerate(gates):
        for angle in gate.angles:
            if not isinstance(angle, Affine):
                continue
            for letters, coefficient in generator(gate):
                controlled = [Gate(f"c{letter.lower()}", (ancilla, qubit)) for qubit, letter in letters]
                whole = [Gate("h", (ancilla,)), *gates[: place + 1], *controlled, *gates[place + 1 :]]
                tested = Circuit(ancilla + 1, whole, circuit.num_parameters, circuit.num_inputs)
                tests.append(HadamardCircuit(tested, angle.index, coefficient * angle.scale))
    return tuple(tests)


def generator(gate: Gate) -> Iterator[tuple[Letters, float]]:
    """Pauli strings P_k and c_k with the gate, of one angle, exp(-i theta sum_k c_k P_k / 2) up to a global phase.

    >>> list(generator(Gate("crz", (0, 1), (0.3,))))
    [(((1, 'Z'),), 0.5), (((0, 'Z'), (1, 'Z')), -0.5)]
    """
    kind = GATES[gate.name]
    if kind.letters:
        yield tuple(zip(gate.qubits, reversed(kind.letters), strict=True)), 1.0
        return
    half = torch.tensor(0.5, dtype=torch.float64)
    exponents = gate_matrix(gate.name, [half], like=half).diagonal().angle() / half
    for mask, coefficient in enumerate((-2 * walsh_hadamard(exponents) / len(exponents)).tolist()):
        letters = tuple((qubit, "Z") for bit, qubit in enumerate(gate.qubits) if mask >> bit & 1)
        if letters and coefficient:
            yield letters, coefficient
