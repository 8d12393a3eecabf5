"""Exact execution of circuits on state vectors in torch: batched, on CPU and CUDA, and differentiable in the values."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.gates import gate_matrix
from qvae.circuits.paulis import PauliSum, support


class StatevectorExecutor(SeededExecutor):
    """Applies gate by gate to the states of all rows at once, B * 2**n amplitudes; gradients keep those after every gate.

    States are complex64 or complex128 as values are float32 or float64, on their device. Expectations are exact, and
    differentiable by autograd; bits are drawn from the exact probabilities.

    Args:
        seed: of the generator that draws bits, on the device of the values.
    """

    capabilities = ExecutorCapabilities(max_qubits=24, exact=True, differentiable=True)

    def _expectations(self, circuit: Circuit, values: Tensor, observables: list[PauliSum]) -> Tensor:
        states = final_states(circuit, values)
        means = {label: _mean(label, states, values) for terms in observables for label, _ in terms}
        zero = values.new_zeros(len(values))
        return torch.stack([sum((weight * means[label] for label, weight in terms), zero) for terms in observables], dim=1)

    def _probabilities(self, circuit: Circuit, values: Tensor, weights: Tensor | None) -> Tensor:
        rows = values if weights is None else torch.cat([values, weights.to(values).expand(len(values), -1)], dim=1)
        return final_states(circuit, rows).flatten(1).abs().square()

    @torch.no_grad()
    def _sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        probabilities = self._probabilities(circuit, values, None).double()
        drawn = torch.multinomial(probabilities, shots, replacement=True, generator=self.generator(values.device))
        return (drawn.unsqueeze(-1) >> torch.arange(circuit.num_qubits, device=values.device) & 1).to(torch.int8)


def final_states(circuit: Circuit, values: Tensor) -> Tensor:
    """The circuit's state for every row of values (B, P), (B, 2, ..., 2), with an axis for each qubit, the last for qubit 0."""
    states = torch.zeros(len(values), 2**circuit.num_qubits, dtype=values.dtype.to_complex(), device=values.device)
    states[:, 0] = 1
    states = states.view(-1, *[2] * circuit.num_qubits)
    for gate in circuit.gates:
        states = _applied(gate.matrix(values), gate.qubits, states)
    return states


def _applied(matrix: Tensor, qubits: Sequence[int], states: Tensor) -> Tensor:
    """A gate's matrix, or one for each row, on these qubits of the states."""
    axes = [states.ndim - 1 - qubit for qubit in reversed(qubits)]  # the gate's first qubit is its lowest bit, hence last
    ends = list(range(-len(qubits), 0))
    moved = states.movedim(axes, ends)
    turned = moved.reshape(len(states), -1, 2 ** len(qubits)) @ matrix.mT
    return turned.view(moved.shape).movedim(ends, axes)


def _mean(label: str, states: Tensor, values: Tensor) -> Tensor:
    """<P> of a Pauli string, real, (B,)."""
    reached = states
    for qubit, letter in support(label):
        reached = _applied(gate_matrix(letter.lower(), [], like=values), [qubit], reached)
    return (states.conj() * reached).real.flatten(1).sum(1)
