"""Error mitigation of expectations: readout undone by what known bits are read as, gates by circuits with more of their noise.

Both are linear in what is measured, and need neither counts of all bit strings nor another library.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from qvae.circuits.paulis import support
from qvae.errors import ExecutorError

if TYPE_CHECKING:
    from qiskit import QuantumCircuit

_CONTRAST = 0.05  # below this a bit is read out nearly at random, and its shots would be amplified 20 times

# Readout --------------------------------------------------------------------------------------------------------------


def prepared(circuit: QuantumCircuit, up: bool) -> QuantumCircuit:
    """All qubits that a transpiled circuit measures in |0>, or in |1>, and measured into the same bits."""
    from qiskit import QuantumCircuit

    calibration = QuantumCircuit(circuit.num_qubits, circuit.num_clbits)
    for bit, qubit in enumerate(measured_qubits(circuit)):
        if up:
            calibration.x(qubit)
        calibration.measure(qubit, bit)
    return calibration


def measured_qubits(circuit: QuantumCircuit) -> tuple[int, ...]:
    """The backend's qubit of each bit of a transpiled circuit, every bit being measured."""
    found = {
        circuit.find_bit(instruction.clbits[0]).index: circuit.find_bit(instruction.qubits[0]).index
        for instruction in circuit.data
        if instruction.operation.name == "measure"
    }
    return tuple(found[bit] for bit in sorted(found))


def signs_of_bits(zeros: Tensor, ones: Tensor) -> Tensor:
    """What a reading of 0 and of 1 counts for on each qubit, (n, 2), so that the mean is that of the true signs +1 and -1.

    Products of them over qubits are the tensored inverse of all readout errors, which are taken as independent: Bravyi et
    al. 2021 (arXiv:2006.14044).

    Args:
        zeros: bits (shots, n) read of qubits in |0>.
        ones: the same of |1>.

    Raises:
        ExecutorError: a qubit's reading hardly depends on its state.
    """
    wrong_zero, wrong_one = zeros.double().mean(0), 1 - ones.double().mean(0)
    contrast = 1 - wrong_zero - wrong_one
    if (contrast.abs() < _CONTRAST).any():
        worst = int(contrast.abs().argmin())
        read = f"it is read as 1 in {float(wrong_zero[worst]):.0%} of |0> and {1 - float(wrong_one[worst]):.0%} of |1>"
        remedy = "take another backend, or leave readout_mitigation off"
        raise ExecutorError(f"readout of the circuit's qubit {worst} can't be mitigated: {read}; {remedy}.")
    return torch.stack([1 + wrong_zero - wrong_one, wrong_zero - wrong_one - 1], dim=1) / contrast.unsqueeze(1)


def mitigated_mean(label: str, bits: Tensor, signs: Tensor) -> Tensor:
    """<P> as the mean over shots (..., shots, n) of products of signs (n, 2), in a basis of P; float64."""
    products = torch.ones(bits.shape[:-1], dtype=signs.dtype, device=bits.device)
    for qubit, _ in support(label):
        products = products * signs[qubit][bits[..., qubit].long()]
    return products.mean(-1)


# Gates ----------------------------------------------------------------------------------------------------------------


def folded(circuit: QuantumCircuit, scale: int) -> QuantumCircuit:
    """U (U^dagger U)^((scale - 1) / 2) of a transpiled circuit U, measured as before: ``scale`` times as many gates.

    Global folding: Giurgica-Tiron et al. 2020 (arXiv:2005.10921). Inverses may be gates that the backend hasn't.
    """
    gates, measurements = circuit.copy_empty_like(), circuit.copy_empty_like()
    for instruction in circuit.data:
        name = instruction.operation.name
        if name == "measure":
            measurements.append(instruction)
        elif name != "barrier":
            gates.append(instruction)
    whole = gates.copy()
    for _ in range(scale // 2):
        whole = whole.compose(gates.inverse()).compose(gates)
    whole.barrier()
    return whole.compose(measurements)


def extrapolation_weights(scales: Sequence[int]) -> list[float]:
    """Of expectations at these scales of noise, in the value at 0 of the polynomial through them: Richardson's.

    Temme, Bravyi and Gambetta 2017 (arXiv:1612.02058).

    >>> extrapolation_weights([1, 3])
    [1.5, -0.5]
    """
    return [prod(other / (other - scale) for other in scales if other != scale) for scale in scales]
