"""Ansatzes: layers of gates whose angles are weights, on qubits in a line or a ring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qvae.circuits.circuit import Circuit
from qvae.circuits.library.placed import Placed, check_layers, placed_gates
from qvae.errors import CircuitError

EULER = ("rz", "ry", "rz")
"""Rotations that make any gate of one qubit, up to a phase."""


def hardware_efficient(
    num_qubits: int, layers: int, rotations: Sequence[str] = ("rx", "ry", "rz"), entangler: str = "cx"
) -> Circuit:
    """In each layer rotations of every qubit and a ring of equal gates: Kandala et al. 2017 (arXiv:1704.05018).

    Args:
        num_qubits: n.
        layers: L, 1 or more; L * n * len(rotations) weights if the entangler has none.
        rotations: names of gates of one qubit, in their order.
        entangler: name of a gate of two, on qubits (q, q+1) for each q, and on (n-1, 0) if there are more than two qubits.

    Raises:
        CircuitError: a gate is unknown or doesn't fit, or there is no layer.
    """
    check_layers(layers)
    if isinstance(rotations, str):  # whose letters may be gates, too: "ry" would be r and y
        raise CircuitError(f"rotations is {rotations!r}; it must be a list of names, as [{rotations!r}].")
    layer: list[Placed] = [(name, (qubit,)) for name in rotations for qubit in range(num_qubits)]
    layer += [(entangler, pair) for pair in _ring(num_qubits)]
    return placed_gates(num_qubits, layer * layers)


def strongly_entangling(num_qubits: int, layers: int) -> Circuit:
    """In each layer any rotation of every qubit and CNOTs of a growing range r, from q to q + r modulo n.

    Of layer l, from 0, r is l modulo (n-1), plus 1, as in PennyLane's ``StronglyEntanglingLayers``: Schuld et al. 2020
    (arXiv:1804.00633).

    Args:
        num_qubits: n.
        layers: L, 1 or more; 3 n L weights.

    Raises:
        CircuitError: there is no layer.
    """
    check_layers(layers)
    places: list[Placed] = []
    for layer in range(layers):
        places += [(name, (qubit,)) for qubit in range(num_qubits) for name in EULER]
        if num_qubits > 1:
            reach = layer % (num_qubits - 1) + 1
            places += [("cx", (qubit, (qubit + reach) % num_qubits)) for qubit in range(num_qubits)]
    return placed_gates(num_qubits, places)


def brickwork(num_qubits: int, layers: int) -> Circuit:
    """Any gates of two neighbours, in a layer on qubits (0, 1), (2, 3), ..., in the next on (1, 2), (3, 4), ...

    Args:
        num_qubits: n, in a line without closing bond.
        layers: L, 1 or more; 15 weights for each gate.

    Raises:
        CircuitError: there is no layer.
    """
    check_layers(layers)
    pairs = [pair for layer in range(layers) for pair in _line(num_qubits, start=layer % 2)]
    return placed_gates(num_qubits, [place for pair in pairs for place in two_qubit_block(*pair)])


def matchgate(num_qubits: int, layers: int) -> Circuit:
    """In each layer RZ of every qubit, then RXX and RYY of neighbours: free fermions, so a classical computer can follow.

    Every gate is a Gaussian unitary of the Majorana modes in Jordan and Wigner's order, with qubits in a line; their 2n x 2n
    covariance matrix tells all. Valiant 2002; Terhal and DiVincenzo 2002 (quant-ph/0108010); Jozsa and Miyake 2008
    (arXiv:0804.4050).

    Args:
        num_qubits: n, in a line without closing bond.
        layers: L, 1 or more; (3 n - 2) L weights.

    Raises:
        CircuitError: there is no layer.
    """
    check_layers(layers)
    layer: list[Placed] = [("rz", (qubit,)) for qubit in range(num_qubits)]
    for start in (0, 1):
        layer += [(name, pair) for pair in _line(num_qubits, start) for name in ("rxx", "ryy")]
    return placed_gates(num_qubits, layer * layers)


def two_qubit_block(first: int, second: int) -> Iterator[Placed]:
    """Any gate of two qubits up to a phase, by 15 angles: Kraus and Cirac 2001 (quant-ph/0011050)."""
    yield from ((name, (qubit,)) for qubit in (first, second) for name in EULER)
    yield from ((name, (first, second)) for name in ("rxx", "ryy", "rzz"))
    yield from ((name, (qubit,)) for qubit in (first, second) for name in EULER)


def _line(num_qubits: int, start: int) -> list[tuple[int, int]]:
    return [(qubit, qubit + 1) for qubit in range(start, num_qubits - 1, 2)]


def _ring(num_qubits: int) -> list[tuple[int, int]]:
    """Neighbours, each pair once."""
    closing = [(num_qubits - 1, 0)] if num_qubits > 2 else []
    return [(qubit, qubit + 1) for qubit in range(num_qubits - 1)] + closing
