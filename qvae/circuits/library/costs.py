"""Costs of a circuit that shall prepare |0...0>: the global one, and one of single qubits with the same minimum."""

from __future__ import annotations

from itertools import product

from qvae.circuits.paulis import PauliSum


def global_cost(num_qubits: int) -> PauliSum:
    """1 - |0...0><0...0|, whose gradients vanish even in shallow circuits: Cerezo et al. 2021 (arXiv:2001.00550).

    As strings of Z it has 2**n terms.

    >>> global_cost(1)
    [('I', 0.5), ('Z', -0.5)]
    """
    labels = ["".join(letters) for letters in product("IZ", repeat=num_qubits)]
    return [(label, float(label == "I" * num_qubits) - 2.0**-num_qubits) for label in labels]


def local_cost(num_qubits: int) -> PauliSum:
    """1 - sum_q |0><0|_q / n, whose gradients are larger while circuits are shallow.

    >>> local_cost(2)
    [('II', 0.5), ('IZ', -0.25), ('ZI', -0.25)]
    """
    singles = [("I" * (num_qubits - 1 - qubit) + "Z" + "I" * qubit, -0.5 / num_qubits) for qubit in range(num_qubits)]
    return [("I" * num_qubits, 0.5), *singles]
