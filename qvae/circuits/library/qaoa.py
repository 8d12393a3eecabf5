"""The ansatz of the quantum approximate optimization algorithm."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.library.diagonals import z_rotations
from qvae.circuits.library.placed import check_layers
from qvae.circuits.paulis import pauli_sums, support
from qvae.errors import CircuitError


def qaoa(cost: Sequence[tuple[str, float]], layers: int) -> Circuit:
    """exp(i beta_L B) exp(-i gamma_L C) ... exp(i beta_1 B) exp(-i gamma_1 C) |+...+>, where B is the sum of all X.

    Weights are gamma_1, beta_1, gamma_2, ..., radians. B's ground state with the sign that it has here is the start, so that
    positive angles, gamma rising and beta falling, go from there to a minimum of the cost as an anneal does: Farhi, Goldstone
    and Gutmann 2014 (arXiv:1411.4028).

    Args:
        cost: C, pairs of a string of Z and I, of any length, and a coefficient, as [("ZZI", 0.5), ("IIZ", -1.0)].
        layers: L, 1 or more.

    Raises:
        CircuitError: the cost has no terms, or other letters, or there is no layer.

    >>> [gate.name for gate in qaoa([("ZZ", 1.0)], layers=1).gates]
    ['h', 'h', 'rzz', 'rx', 'rx']
    """
    check_layers(layers)
    if not cost or not cost[0][0]:
        raise CircuitError("the cost has no terms, or none with letters; give it one, as ('ZZ', 1.0).")
    num_qubits = len(cost[0][0])
    (terms,) = pauli_sums([cost], num_qubits)
    masks: dict[int, float] = {}
    for label, coefficient in terms:
        if set(label) - set("IZ"):
            raise CircuitError(
                f"the cost has the string {label!r}; it must be of Z and I alone, a function of bits."
            )
        mask = sum(1 << qubit for qubit, _ in support(label))
        masks[mask] = masks.get(mask, 0.0) + coefficient
    masks.pop(0, None)
    return Circuit(num_qubits, [*_gates(num_qubits, masks, layers)], num_parameters=2 * layers)


def _gates(num_qubits: int, masks: dict[int, float], layers: int) -> Iterator[Gate]:
    yield from (Gate("h", (qubit,)) for qubit in range(num_qubits))
    for layer in range(layers):
        yield from z_rotations({mask: Affine(2 * layer, 2 * coefficient) for mask, coefficient in masks.items()})
        yield from (Gate("rx", (qubit,), (Affine(2 * layer + 1, -2.0),)) for qubit in range(num_qubits))
