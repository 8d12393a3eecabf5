"""Circuits and their inverses leave every state as it was."""

import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gates import GATES
from qvae.circuits.inverse import inverse
from qvae.testing.dense import dense_state


@pytest.mark.parametrize("name", GATES)
def test_gate_and_inverse_are_nothing(name):
    numbers = torch.Generator().manual_seed(3)
    kind = GATES[name]
    before = [Gate("u", (qubit,), tuple(torch.rand(3, generator=numbers).tolist())) for qubit in range(4)]
    before += [Gate("cx", (qubit, qubit + 1)) for qubit in range(3)]
    qubits = tuple(torch.randperm(4, generator=numbers)[: kind.num_qubits].tolist())
    angles = [Affine(index, 1.5, 0.3) if index % 2 else 0.7 for index in range(kind.num_angles)]
    gate = Circuit(4, [Gate(name, qubits, tuple(angles))], num_parameters=4, num_inputs=1)
    values = torch.randn(4, dtype=torch.float64, generator=numbers)
    whole = Circuit(4, [*before, *gate.gates, *inverse(gate).gates], num_parameters=4)
    overlap = torch.vdot(*(torch.from_numpy(dense_state(one, values)) for one in (Circuit(4, before, 4), whole)))
    assert abs(overlap) == pytest.approx(1, abs=1e-12)
    assert inverse(gate).num_inputs == 1


def test_the_last_gate_is_undone_first():
    circuit = Circuit(2, [Gate("h", (0,)), Gate("csx", (0, 1)), Gate("dcx", (1, 0)), Gate("u2", (1,), (0.3, 1.1))])
    state = dense_state(circuit.then(inverse(circuit).gates), torch.zeros(0))
    assert abs(state[0]) == pytest.approx(1, abs=1e-12)
