"""Joining circuits: one after the other, or an encoding again and again between the layers of an ansatz."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.library.placed import check_layers
from qvae.errors import CircuitError


def compose(first: Circuit, *others: Circuit) -> Circuit:
    """One circuit after the other; each has inputs and weights of its own, numbered in the same order.

    Raises:
        CircuitError: they have different numbers of qubits.

    >>> from qvae.circuits.library import angle_encoding, strongly_entangling
    >>> circuit = compose(angle_encoding(3), strongly_entangling(3, layers=2))
    >>> circuit.num_inputs, circuit.num_weights
    (3, 18)
    """
    return joined([first, *others], shares_inputs=False)


def reuploading(encoding: Circuit, ansatz: Circuit, layers: int) -> Circuit:
    """The same inputs encoded anew before each of several ansatzes, which have weights of their own.

    The output is a Fourier series in the inputs with as many frequencies as layers: Perez-Salinas et al. 2020
    (arXiv:1907.02085); Schuld, Sweke and Meyer 2021 (arXiv:2008.08605).

    Args:
        encoding: of inputs; weights that it has are not shared among layers.
        ansatz: that follows it in each layer.
        layers: L, 1 or more.

    Raises:
        CircuitError: they have different numbers of qubits, or there is no layer.

    >>> from qvae.circuits.library import angle_encoding, strongly_entangling
    >>> circuit = reuploading(angle_encoding(3), strongly_entangling(3, layers=1), layers=4)
    >>> circuit.num_inputs, circuit.num_weights
    (3, 36)
    """
    check_layers(layers)
    return joined([compose(encoding, ansatz)] * layers, shares_inputs=True)


def layers_of(ansatz: Callable[[int, int], Circuit], num_qubits: int, layers: int) -> list[Circuit]:
    """The layers of an ansatz one by one, that something may come between them: the last one is what it has beyond the others.

    They differ where an ansatz joins other qubits in each layer.

    Args:
        ansatz: from numbers of qubits and layers to a circuit of weights alone, as in ``ANSATZES``.
        num_qubits: n.
        layers: L, 1 or more.

    Raises:
        CircuitError: as the ansatz does.

    >>> from qvae.circuits.library import strongly_entangling
    >>> [layer.gates[-1].qubits for layer in layers_of(strongly_entangling, 4, 2)]
    [(3, 0), (3, 1)]
    """
    check_layers(layers)
    wholes = [ansatz(num_qubits, count) for count in range(1, layers + 1)]
    before = [Circuit(num_qubits, []), *wholes]
    return [_beyond(whole, start) for whole, start in zip(wholes, before, strict=False)]


def _beyond(whole: Circuit, start: Circuit) -> Circuit:
    """What a circuit of weights alone has beyond the one that it starts with."""
    gates = list(_renumbered(whole, 0, -start.num_weights))[len(start.gates) :]
    return Circuit(whole.num_qubits, gates, whole.num_weights - start.num_weights)


def joined(circuits: Sequence[Circuit], shares_inputs: bool) -> Circuit:
    """One circuit after the other, with weights of their own, and inputs of their own or the same ones.

    Raises:
        CircuitError: they have different numbers of qubits.
    """
    sizes = {circuit.num_qubits for circuit in circuits}
    if len(sizes) > 1:
        raise CircuitError(
            f"circuits of {' and '.join(map(str, sorted(sizes)))} qubits can't be joined; make them of one size."
        )
    num_inputs = circuits[0].num_inputs if shares_inputs else sum(circuit.num_inputs for circuit in circuits)
    gates: list[Gate] = []
    first_input, first_weight = 0, num_inputs
    for circuit in circuits:
        gates += _renumbered(circuit, first_input, first_weight)
        first_input += 0 if shares_inputs else circuit.num_inputs
        first_weight += circuit.num_weights
    return Circuit(sizes.pop(), gates, num_parameters=first_weight, num_inputs=num_inputs)


def _renumbered(circuit: Circuit, first_input: int, first_weight: int) -> Iterator[Gate]:
    """Its gates, where its first input and first weight have these numbers."""
    for gate in circuit.gates:
        angles: list[float | Affine] = []
        for angle in gate.angles:
            if isinstance(angle, Affine):
                is_input = angle.index < circuit.num_inputs
                index = angle.index + (first_input if is_input else first_weight - circuit.num_inputs)
                angles.append(Affine(index, angle.scale, angle.offset))
            else:
                angles.append(angle)
        yield gate._replace(angles=tuple(angles))
