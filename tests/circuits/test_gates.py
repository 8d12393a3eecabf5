"""The table of gates is Qiskit's."""

import pytest
import torch

from qvae.circuits.gates import GATES, gate_matrix

LEFT_OUT = {"global_phase", "delay", "reset", "measure", "rccx", "rcccx"}  # no gates on qubits, or left to their definitions


def angles_of(name, batch, dtype=torch.float64):
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(batch, generator=generator, dtype=torch.float64).to(dtype) for _ in range(GATES[name].num_angles)]


@pytest.mark.parametrize("name", GATES)
def test_matrices_are_qiskit_s(name):
    library = pytest.importorskip("qiskit.circuit.library", reason="Qiskit is not installed")
    gate = library.get_standard_gate_name_mapping()[name]
    assert (GATES[name].num_qubits, GATES[name].num_angles) == (gate.num_qubits, len(gate.params))
    angles = angles_of(name, 5)
    found = gate_matrix(name, angles, like=torch.zeros((), dtype=torch.float64)).expand(5, -1, -1)
    for row in range(5):
        expected = gate.base_class(*(float(angle[row]) for angle in angles)).to_matrix()
        assert (found[row] - torch.tensor(expected)).abs().max() < 1e-12


def test_no_standard_gate_is_forgotten():
    library = pytest.importorskip("qiskit.circuit.library", reason="Qiskit is not installed")
    assert set(library.get_standard_gate_name_mapping()) - set(GATES) == LEFT_OUT


@pytest.mark.parametrize("name", GATES)
def test_matrices_are_unitary_in_single_precision(name):
    found = gate_matrix(name, angles_of(name, 3, torch.float32), like=torch.zeros(()))
    assert found.dtype == torch.complex64
    assert (found @ found.mH - torch.eye(found.shape[-1])).abs().max() < 1e-6


@pytest.mark.parametrize("name", [name for name in GATES if GATES[name].num_angles])
def test_matrices_are_differentiable(name):
    angles = [angle.requires_grad_() for angle in angles_of(name, 2)]
    assert torch.autograd.gradcheck(lambda *given: torch.view_as_real(gate_matrix(name, given, like=given[0])), angles)


def test_numbers_and_batches_broadcast():
    batch = torch.tensor([0.1, 0.2], dtype=torch.float64)
    found = gate_matrix("u", [batch, torch.tensor(0.3).double(), batch], like=batch)
    alone = gate_matrix("u", [batch[1], torch.tensor(0.3).double(), batch[1]], like=batch)
    assert found.shape == (2, 2, 2)
    assert torch.equal(found[1], alone)
