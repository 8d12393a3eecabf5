"""Diagonal gates and Fourier transforms against their matrices."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.library.diagonals import diagonal, z_rotations
from qvae.circuits.library.fourier import fourier
from qvae.circuits.library.walsh import walsh_hadamard
from qvae.errors import CircuitError
from qvae.testing.dense import dense_state


def everywhere(circuit):
    """The circuit after Hadamard gates on all qubits."""
    return replace(circuit, gates=(*(Gate("h", (qubit,)) for qubit in range(circuit.num_qubits)), *circuit.gates))


def random_phases(num_qubits, seed=0):
    return 6 * torch.rand(2**num_qubits, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("num_qubits", [1, 2, 3, 5])
def test_any_phases_are_turned(num_qubits):
    phases = random_phases(num_qubits)
    found = diagonal(phases)
    assert found.error == 0
    assert sum(gate.name == "cx" for gate in found.circuit.gates) <= 2**num_qubits
    state = dense_state(everywhere(found.circuit), torch.zeros(0)) * np.exp(-1j * phases.numpy())
    assert np.allclose(state, state[0], atol=1e-12)  # a global phase is left
    assert abs(state[0]) == pytest.approx(2 ** (-num_qubits / 2))


def test_the_error_bounds_what_is_left_out():
    phases = random_phases(4) + torch.arange(16)
    number = len(diagonal(phases).circuit.gates)
    for tolerance in (0.5, 1.0, 4.0):
        found = diagonal(phases, tolerance)
        assert 0 < found.error <= tolerance
        assert len(found.circuit.gates) < number
        state = dense_state(everywhere(found.circuit), torch.zeros(0)) * 4
        mean = float(phases.mean())  # the one phase that no rotation has
        off = np.angle(state * np.exp(-1j * (phases.numpy() - mean)))
        assert np.abs(off).max() <= found.error + 1e-12


def test_smooth_phases_take_few_gates():
    ramp = torch.linspace(0, 5, 2**12, dtype=torch.float64)
    assert len(diagonal(ramp, 1e-9).circuit.gates) == 12
    assert len(diagonal(ramp.square(), 1e-9).circuit.gates) <= 12 + 12 * 11 // 2


def test_strings_of_z_follow_parameters():
    circuit = Circuit(4, [*z_rotations({0b1011: Affine(0, 2.0), 0b1101: 0.3})], num_parameters=1)
    state = dense_state(everywhere(circuit), torch.tensor([0.7])) * 4
    signs = [(-1.0) ** np.array([bin(mask & b).count("1") for b in range(16)]) for mask in (0b1011, 0b1101)]
    assert np.allclose(state, np.exp(-0.5j * (1.4 * signs[0] + 0.3 * signs[1])), atol=1e-6)


@pytest.mark.parametrize("wrong", [torch.zeros(3), torch.zeros(1), torch.zeros(2, 2), torch.tensor([0.0, float("nan")])])
def test_phases_that_are_none(wrong):
    with pytest.raises(CircuitError, match="2\\*\\*n finite numbers"):
        diagonal(wrong)


def test_the_walsh_transform_is_its_own_inverse():
    values = torch.rand(3, 16, dtype=torch.float64)
    assert torch.allclose(walsh_hadamard(walsh_hadamard(values)) / 16, values)


@pytest.mark.parametrize("number", [0, 1, 5])
def test_the_fourier_transform_of_a_basis_state(number):
    flips = [Gate("x", (qubit,)) for qubit in range(3) if number >> qubit & 1]
    state = dense_state(Circuit(3, [*flips, *fourier(3).gates]), torch.zeros(0))
    assert np.allclose(state, np.exp(2j * np.pi * number * np.arange(8) / 8) / 8**0.5, atol=1e-12)


def test_registers_are_transformed_by_themselves():
    whole = dense_state(Circuit(4, [Gate("x", (1,)), Gate("x", (2,)), *fourier(4, [(0, 2), (3, 1)]).gates]), torch.zeros(0))
    # |q2 q0> = |10> is 2, and |q1 q3> = |10> is 2, too.
    signs = np.exp(2j * np.pi * 2 * np.arange(4) / 4) / 2
    expected = [signs[(b & 1) | (b >> 2 & 1) << 1] * signs[(b >> 3 & 1) | (b >> 1 & 1) << 1] for b in range(16)]
    assert np.allclose(whole, expected, atol=1e-12)
