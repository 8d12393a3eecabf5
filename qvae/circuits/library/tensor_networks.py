"""Ansatzes that are tensor networks: trees, with or without disentanglers, that gather all qubits in qubit 0."""

from __future__ import annotations

from collections.abc import Iterator

from qvae.circuits.circuit import Circuit
from qvae.circuits.library.ansatzes import two_qubit_block
from qvae.circuits.library.placed import check_layers, placed_gates


def tree(num_qubits: int, layers: int = 1) -> Circuit:
    """A tree of any gates of two qubits: neighbours are joined, one of each pair goes on, until qubit 0 is left.

    Grant et al. 2018 (arXiv:1804.03680); Huggins et al. 2019 (arXiv:1803.11537).

    Args:
        num_qubits: n, any number; where a level has an odd one, its last goes on alone.
        layers: how often the whole tree is repeated, 1 or more; 15 (n-1) weights each.

    Raises:
        CircuitError: there is no layer.
    """
    return _network(num_qubits, layers, disentangles=False)


def mera(num_qubits: int, layers: int = 1) -> Circuit:
    """The tree, whose every level is preceded by gates between neighbours of different pairs, the disentanglers.

    Vidal 2008 (quant-ph/0610099); as a circuit to be trained, Grant et al. 2018 (arXiv:1804.03680).

    Args:
        num_qubits: n, any number.
        layers: how often the whole network is repeated, 1 or more.

    Raises:
        CircuitError: there is no layer.
    """
    return _network(num_qubits, layers, disentangles=True)


def _network(num_qubits: int, layers: int, disentangles: bool) -> Circuit:
    check_layers(layers)
    places = [place for pair in _pairs(num_qubits, disentangles) for place in two_qubit_block(*pair)]
    return placed_gates(num_qubits, places * layers)


def _pairs(num_qubits: int, disentangles: bool) -> Iterator[tuple[int, int]]:
    """Which qubits the gates act on, level by level."""
    left = list(range(num_qubits))
    while len(left) > 1:
        if disentangles:
            yield from zip(left[1::2], left[2::2], strict=False)
        yield from zip(left[0::2], left[1::2], strict=False)
        left = left[0::2]
