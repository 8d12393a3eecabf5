"""The quantum Fourier transform of registers of qubits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import pi

from qvae.circuits.circuit import Circuit, Gate


def fourier(num_qubits: int, registers: Sequence[Sequence[int]] | None = None) -> Circuit:
    """|k> -> sum_y exp(2 pi i k y / N) |y> / sqrt(N) of each register of m qubits, where N is 2**m.

    Coppersmith 1994 (quant-ph/0201067).

    Args:
        num_qubits: of the circuit.
        registers: their qubits, that of the lowest bit first; None is one register of all.

    >>> [gate.name for gate in fourier(2).gates]
    ['h', 'cp', 'h', 'swap']
    """
    registers = [range(num_qubits)] if registers is None else registers
    return Circuit(num_qubits, [gate for register in registers for gate in _gates(register)])


def _gates(register: Sequence[int]) -> Iterator[Gate]:
    size = len(register)
    for high in reversed(range(size)):
        yield Gate("h", (register[high],))
        for low in reversed(range(high)):
            yield Gate("cp", (register[low], register[high]), (pi / 2 ** (high - low),))
    for low in range(size // 2):
        yield Gate("swap", (register[low], register[size - 1 - low]))
