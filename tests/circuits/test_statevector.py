"""Pauli rotations on state vectors: against Qiskit's matrices, finite differences, and each other."""

import random

import pytest
import torch

from qvae.circuits import statevector
from qvae.circuits.statevector import PauliRotations


def random_strings(num_qubits, count, real, seed):
    """Random strings, some followed by ones that flip the same qubits, so that they are applied in one pass."""
    choose = random.Random(seed)
    strings = [(letters, (2, 0, 1)) for letters in ("YXX", "YYY", "XXY")] if real else [("XX", (1, 0)), ("YY", (1, 0))]
    while len(strings) < count:
        qubits = tuple(choose.sample(range(num_qubits), choose.randint(1, 3)))
        letters = "".join(choose.choice("XYZ") for _ in qubits)
        if real and letters.count("Y") % 2 == 0:
            continue
        strings.append((letters, qubits))
        free = [qubit for qubit in range(num_qubits) if qubit not in qubits]
        strings += [(letters + "Z", (*qubits, qubit)) for qubit in free if choose.random() < 0.5]
    return strings


def random_state(circuit, seed=0):
    generator = torch.Generator().manual_seed(seed)
    state = torch.randn(2**circuit.num_qubits, dtype=circuit.dtype, generator=generator)
    return state / state.norm()


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_rotations_are_qiskit_s(real, seed):
    quantum_info = pytest.importorskip("qiskit.quantum_info", reason="Qiskit is not installed")
    strings = random_strings(4, 12, real, seed)
    circuit = PauliRotations(4, strings)
    assert circuit.is_real == real
    angles = torch.randn(len(strings), dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    state = random_state(circuit)
    expected = quantum_info.Statevector(state.numpy())
    for (letters, qubits), angle in zip(strings, angles, strict=True):
        pauli = quantum_info.SparsePauliOp.from_sparse_list([(letters, list(qubits), 1.0)], num_qubits=4)
        identity = quantum_info.SparsePauliOp("IIII")
        rotation = (angle / 2).cos().item() * identity - 1j * (angle / 2).sin().item() * pauli
        expected = expected.evolve(quantum_info.Operator(rotation))
    assert (circuit(angles, state) - torch.from_numpy(expected.data)).abs().max() < 1e-12


@pytest.mark.parametrize("real", [True, False])
def test_gradients_are_finite_differences(real):
    strings = random_strings(3, 8, real, seed=7)
    circuit = PauliRotations(3, strings)
    angles = torch.randn(2, len(strings), dtype=torch.float64).requires_grad_()
    state = random_state(circuit).requires_grad_()
    weights = torch.randn(8, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda a, s: (circuit(a, s).abs() ** 3 * weights).sum(-1), (angles, state))


def test_gradients_where_only_one_of_the_two_needs_them():
    circuit = PauliRotations(3, random_strings(3, 8, True, seed=1))
    angles, state = torch.randn(circuit.num_angles).double(), random_state(circuit)
    both = [angles.clone().requires_grad_(), state.clone().requires_grad_()]
    circuit(*both)[0].backward()
    assert torch.equal(torch.autograd.grad(circuit(both[0], state)[0], both[0])[0], both[0].grad)
    assert torch.equal(torch.autograd.grad(circuit(angles, both[1])[0], both[1])[0], both[1].grad)


@pytest.mark.parametrize("at_once", [2**18, 2 * 2**3])
@pytest.mark.parametrize("real", [True, False])
def test_jacobian_is_autograd_s(real, at_once, monkeypatch):
    monkeypatch.setattr(statevector, "_CACHED", at_once)  # of eight amplitudes each, two rows
    circuit = PauliRotations(3, random_strings(3, 10, real, seed=3))
    angles, state = torch.randn(circuit.num_angles).double(), random_state(circuit)
    reached, jacobian = circuit.jacobian(angles, state)
    assert torch.allclose(reached, circuit(angles, state))
    step = 1e-6 * torch.eye(circuit.num_angles, dtype=torch.float64)
    numeric = (circuit(angles + step, state) - circuit(angles - step, state)) / 2e-6
    assert (jacobian - numeric).abs().max() < 1e-9


def test_leading_dimensions_broadcast():
    circuit = PauliRotations(3, random_strings(3, 6, True, seed=5))
    angles = torch.randn(2, 1, circuit.num_angles).double()
    states = torch.stack([random_state(circuit, seed) for seed in range(3)])
    together = circuit(angles, states)
    assert together.shape == (2, 3, 8)
    for i in range(2):
        for j in range(3):
            assert torch.allclose(together[i, j], circuit(angles[i, 0], states[j]))


def test_single_precision():
    strings = random_strings(4, 10, False, seed=2)
    double, single = PauliRotations(4, strings), PauliRotations(4, strings, dtype=torch.float32)
    angles = torch.randn(len(strings)).double()
    found = single(angles.float(), single.zero_state())
    assert found.dtype == torch.complex64
    assert (found - double(angles, double.zero_state())).abs().max() < 1e-5


def test_no_rotations():
    circuit = PauliRotations(2, [])
    assert circuit(torch.zeros(0).double(), circuit.zero_state()).tolist() == [1, 0, 0, 0]


@pytest.mark.parametrize(
    ("letters", "qubits", "message"),
    [
        ("XA", (0, 1), "'XA' on qubits \\(0, 1\\) needs one letter X, Y or Z for each qubit"),
        ("X", (0, 1), "needs one letter"),
        ("XX", (1, 1), "they must differ and be in 0..2"),
        ("X", (3,), "names qubits \\(3,\\)"),
    ],
)
def test_bad_strings(letters, qubits, message):
    with pytest.raises(ValueError, match=message):
        PauliRotations(3, [(letters, qubits)])
