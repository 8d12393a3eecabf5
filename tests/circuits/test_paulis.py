"""Observables: their forms, and the bases in which they are measured."""

import math

import numpy as np
import pytest
import torch

from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.paulis import basis_change, measured_together, pauli_sums, string_mean
from qvae.errors import CircuitError
from qvae.testing.dense import dense_expectation, dense_state


def test_forms():
    expected = [[("ZI", 0.5), ("IX", -1.0)], [("YY", 1.0)]]
    assert pauli_sums([[("ZI", 0.5), ("IX", np.float32(-1))], (["YY", 1 + 0j],)], 2) == expected
    quantum_info = pytest.importorskip("qiskit.quantum_info", reason="Qiskit is not installed")
    operators = [quantum_info.SparsePauliOp.from_list(terms) for terms in expected]
    assert pauli_sums(operators, 2) == expected
    with pytest.raises(CircuitError, match="put a single one into a list"):
        pauli_sums(operators[0], 2)


def test_rounding_of_a_product_leaves_a_coefficient_real():
    assert pauli_sums([[("ZI", 0.63 + 1.7e-18j)]], 2) == [[("ZI", 0.63)]]
    with pytest.raises(CircuitError, match="it must be real"):
        pauli_sums([[("ZI", 1e-12 + 1e-12j)]], 2)
    with pytest.raises(CircuitError, match="it must be real"):
        pauli_sums([[("IX", 1.0), ("ZI", -1000.0 + 2e-9j)]], 2)


@pytest.mark.parametrize(
    ("observables", "message"),
    [
        ([], "a list of one or more Pauli sums"),
        ("ZI", "a list of one or more Pauli sums"),
        (["ZI"], "observable 'ZI' must be a list of pairs"),
        ([("ZI", 1.0)], r"'ZI' is no term of an observable; it must be a pair as \('ZI', 0.5\)"),
        ([[("Z", 1.0)]], "the Pauli string 'Z' must have 2 letters I, X, Y or Z, one for each qubit"),
        ([[("zi", 1.0)]], "the Pauli string 'zi' must have"),
        ([[("ZI", 1j)]], "the coefficient of 'ZI' is 1j; it must be real"),
        ([[("ZI", None)]], "is no term of an observable"),
    ],
)
def test_one_sentence_for_each_mistake(observables, message):
    with pytest.raises(CircuitError, match=message):
        pauli_sums(observables, 2)


def test_strings_share_a_basis_where_their_letters_agree():
    labels = ["ZII", "IIX", "IYI", "XII", "ZYX", "ZII", "III"]
    assert measured_together(labels) == {"ZYX": ["ZII", "IIX", "IYI", "ZYX", "III"], "XII": ["XII"]}


def test_bits_in_a_rotated_basis_tell_of_the_string():
    """All strings of three qubits, with the exact probabilities in place of shots."""
    circuit = Circuit(3, [Gate("u", (qubit,), (0.3 + qubit, 0.7, 0.2)) for qubit in range(3)] + [Gate("rzx", (2, 0), (0.9,))])
    state = dense_state(circuit, torch.zeros(0))
    labels = [a + b + c for a in "IXYZ" for b in "IXYZ" for c in "IXYZ"]
    bits = (torch.arange(8).unsqueeze(1) >> torch.arange(3)) & 1
    for basis, together in measured_together(labels).items():
        rotated = abs(dense_state(circuit.then(basis_change(basis)), torch.zeros(0))) ** 2
        for label in together:
            signs = torch.stack([string_mean(label, row.unsqueeze(0)) for row in bits])
            assert float(signs @ torch.from_numpy(rotated)) == pytest.approx(
                dense_expectation(state, [(label, 1.0)]), abs=1e-12
            )


def test_means_are_over_shots():
    bits = torch.tensor([[[0, 0], [0, 1], [1, 1], [1, 1]], [[0, 0]] * 4], dtype=torch.int8)
    assert string_mean("ZI", bits).tolist() == [-0.5, 1]
    assert string_mean("ZZ", bits).tolist() == [0.5, 1]
    assert string_mean("II", bits).tolist() == [1, 1]
    assert math.isclose(float(string_mean("IX", bits)[0]), 0)
