"""Evolution under a sum of Pauli strings that need not commute, in slices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.library.placed import check_layers
from qvae.circuits.paulis import letters_to_z, pauli_sums, support


def evolution(strings: Sequence[str], slices: int = 10) -> Circuit:
    """exp(-i sum_k w_k P_k / 2), whose weights are the w_k, by Strang's symmetric product: each slice goes through the strings
    and back, a half of its angles each way.

    Its error falls as the square of ``slices``. A weight acts in 2 ``slices`` gates, so that the parameter-shift rule takes
    4 ``slices`` circuits for it, and :class:`~qvae.circuits.gradients.StochasticShift` two for each draw.

    Args:
        strings: P_k as Qiskit's labels, the last letter on qubit 0; no string is I alone.
        slices: 1 or more.

    Raises:
        CircuitError: a label is none or of another length, or there is no slice.

    >>> evolution(["ZX", "XI"], slices=5).num_weights
    2
    """
    check_layers(slices)
    num_qubits = len(strings[0]) if len(strings) else 0
    labels = [label for label, _ in pauli_sums([[(label, 1.0) for label in strings]], num_qubits)[0]]
    order = [*range(len(labels)), *reversed(range(len(labels)))]
    one = [gate for index in order for gate in _rotation(labels[index], Affine(index, 0.5 / slices))]
    return Circuit(num_qubits, one * slices, num_parameters=len(labels))


def _rotation(label: str, angle: Affine) -> Iterator[Gate]:
    """exp(-i angle P / 2): a turn about Z of the parity, between changes of basis."""
    letters = list(support(label))
    if not letters:
        return  # a global phase
    qubits = [qubit for qubit, _ in letters]
    changes = list(letters_to_z(letters))
    ladder = [Gate("cx", pair) for pair in pairwise(qubits)]
    yield from changes
    yield from ladder
    yield Gate("rz", (qubits[-1],), (angle,))
    yield from reversed(ladder)
    for gate in reversed(changes):
        yield gate._replace(name={"sdg": "s"}.get(gate.name, gate.name))
