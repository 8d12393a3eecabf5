"""Ansatzes against circuits built by other means: Qiskit's own, products of dense matrices, and free fermions."""

import numpy as np
import pytest
import torch

from qvae.circuits.library import ANSATZES, brickwork, hardware_efficient, matchgate, mera, strongly_entangling, tree
from qvae.circuits.library.ansatzes import two_qubit_block
from qvae.circuits.library.placed import placed_gates
from qvae.errors import CircuitError
from qvae.testing.dense import dense_state

PAULIS = {"X": np.array([[0, 1], [1, 0]]), "Y": np.array([[0, -1j], [1j, 0]]), "Z": np.diag([1.0, -1.0])}


def weights_of(circuit):
    return torch.randn(circuit.num_weights, generator=torch.Generator().manual_seed(7), dtype=torch.float64)


def overlap(circuit, state):
    return abs(np.vdot(dense_state(circuit, weights_of(circuit)), state))


def exponential(angle, pauli):
    return np.cos(angle / 2) * np.eye(len(pauli)) - 1j * np.sin(angle / 2) * pauli


def euler(angles):
    first, second, third = angles
    return exponential(third, PAULIS["Z"]) @ exponential(second, PAULIS["Y"]) @ exponential(first, PAULIS["Z"])


def blocks_in_a_row(circuit, pairs):
    """The state after dense gates of 15 weights on these pairs."""
    from qiskit.quantum_info import Operator, Statevector

    weights = weights_of(circuit).numpy()
    assert len(weights) == 15 * len(pairs)
    state = Statevector.from_label("0" * circuit.num_qubits)
    for own, pair in zip(weights.reshape(-1, 15), pairs, strict=True):
        before, middle, after = own[:6], own[6:9], own[9:]
        matrix = np.kron(euler(before[3:]), euler(before[:3]))
        for angle, letter in zip(middle, "XYZ", strict=True):
            matrix = exponential(angle, np.kron(PAULIS[letter], PAULIS[letter])) @ matrix
        state = state.evolve(Operator(np.kron(euler(after[3:]), euler(after[:3])) @ matrix), list(pair))
    return state.data


@pytest.mark.parametrize(("num_qubits", "entangler"), [(4, "cx"), (4, "cz"), (2, "cz"), (1, "cx")])
def test_hardware_efficient_is_qiskits_n_local(num_qubits, entangler):
    library = pytest.importorskip("qiskit.circuit.library")
    from qiskit.quantum_info import Statevector

    ring = {1: [], 2: [(0, 1)], 4: [(0, 1), (1, 2), (2, 3), (3, 0)]}[num_qubits]
    theirs = library.n_local(
        num_qubits, ["ry", "rz"], entangler, ring, reps=3, skip_final_rotation_layer=True, parameter_prefix="w"
    )
    ours = hardware_efficient(num_qubits, 3, rotations=("ry", "rz"), entangler=entangler)
    assert (ours.num_inputs, ours.num_weights) == (0, 6 * num_qubits)
    assert overlap(ours, Statevector(theirs.assign_parameters(weights_of(ours).tolist())).data) == pytest.approx(1)


def test_an_entangler_with_angles_has_weights():
    assert hardware_efficient(3, 2, rotations=("ry",), entangler="crz").num_weights == 2 * (3 + 3)


def test_a_name_stands_for_its_own_circuit():
    assert {name: made(4, 2) for name, made in ANSATZES.items()} == {
        "hardware_efficient": hardware_efficient(4, 2),
        "strongly_entangling": strongly_entangling(4, 2),
        "brickwork": brickwork(4, 2),
        "matchgate": matchgate(4, 2),
        "tree": tree(4, 2),
        "mera": mera(4, 2),
    }


def test_strongly_entangling_has_growing_ranges():
    qiskit = pytest.importorskip("qiskit")
    from qiskit.quantum_info import Statevector

    ours = strongly_entangling(4, 5)
    theirs = qiskit.QuantumCircuit(4)
    angles = weights_of(ours).view(5, 4, 3).tolist()
    for layer, reach in enumerate((1, 2, 3, 1, 2)):
        for qubit in range(4):
            phi, theta, omega = angles[layer][qubit]
            theirs.u(theta, omega, phi, qubit)
        for qubit in range(4):
            theirs.cx(qubit, (qubit + reach) % 4)
    assert overlap(ours, Statevector(theirs).data) == pytest.approx(1)
    assert strongly_entangling(1, 2).num_weights == 6


@pytest.mark.parametrize(
    ("circuit", "pairs"),
    [
        (brickwork(5, 3), [(0, 1), (2, 3), (1, 2), (3, 4), (0, 1), (2, 3)]),
        (tree(4), [(0, 1), (2, 3), (0, 2)]),
        (tree(5, 2), [(0, 1), (2, 3), (0, 2), (0, 4)] * 2),
        (mera(4), [(1, 2), (0, 1), (2, 3), (0, 2)]),
        (mera(6), [(1, 2), (3, 4), (0, 1), (2, 3), (4, 5), (2, 4), (0, 2), (0, 4)]),
    ],
    ids=["brickwork", "tree", "odd tree", "mera", "larger mera"],
)
def test_blocks_stand_where_the_network_says(circuit, pairs):
    pytest.importorskip("qiskit")
    assert overlap(circuit, blocks_in_a_row(circuit, pairs)) == pytest.approx(1)


def test_a_block_reaches_every_gate_of_two_qubits():
    """Its 15 angles move it in 15 independent directions, as many as SU(4) has."""
    block = placed_gates(2, two_qubit_block(0, 1))

    def unitary(angles):
        matrix = torch.eye(4, dtype=torch.complex128)
        for gate in block.gates:
            factor = gate.matrix(angles.unsqueeze(0)).squeeze(0)
            if len(gate.qubits) == 1:
                eye = torch.eye(2).to(factor)
                factor = torch.kron(eye, factor) if gate.qubits == (0,) else torch.kron(factor, eye)
            matrix = factor @ matrix
        return torch.view_as_real(matrix).flatten()

    jacobian = torch.autograd.functional.jacobian(unitary, weights_of(block))
    assert torch.linalg.matrix_rank(jacobian, rtol=1e-8) == 15


def test_matchgates_are_free_fermions():
    """<Z_j> and <Z_j Z_k> from the covariance matrix -i<c_a c_b>, in which every gate turns two Majorana modes."""
    circuit = matchgate(5, 3)
    weights = weights_of(circuit)
    covariance = np.kron(np.eye(5), np.array([[0, 1], [-1, 0]]))
    for gate in circuit.gates:
        low = 2 * gate.qubits[0]
        # Z_j = -i c_2j c_2j+1, X_j X_j+1 = -i c_2j+1 c_2j+2, Y_j Y_j+1 = -i c_2j+3 c_2j
        first, second = {"rz": (low, low + 1), "rxx": (low + 1, low + 2), "ryy": (low + 3, low)}[gate.name]
        angle = float(weights[gate.angles[0].index])
        turn = np.eye(10)
        turn[first, [first, second]] = np.cos(angle), -np.sin(angle)
        turn[second, [first, second]] = np.sin(angle), np.cos(angle)
        covariance = turn @ covariance @ turn.T
    probabilities = abs(dense_state(circuit, weights)) ** 2
    signs = np.array([1 - 2 * (np.arange(32) >> qubit & 1) for qubit in range(5)])
    assert signs @ probabilities == pytest.approx(np.diag(covariance[0::2, 1::2]), abs=1e-12)
    for j, k in [(0, 1), (1, 3), (0, 4)]:
        a, b, c, d = 2 * j, 2 * j + 1, 2 * k, 2 * k + 1
        wick = covariance[a, b] * covariance[c, d] - covariance[a, c] * covariance[b, d] + covariance[a, d] * covariance[b, c]
        assert (signs[j] * signs[k]) @ probabilities == pytest.approx(wick, abs=1e-12)


@pytest.mark.parametrize("name", ANSATZES)
def test_every_ansatz_has_weights_alone_and_a_layer_at_least(name):
    circuit = ANSATZES[name](4, 2)
    assert circuit.num_inputs == 0
    used = {angle.index for gate in circuit.gates for angle in gate.angles}
    assert used == set(range(circuit.num_weights))
    with pytest.raises(CircuitError, match="the circuit has 0 layers; it needs 1 or more"):
        ANSATZES[name](4, 0)


def test_unknown_gates_are_told():
    with pytest.raises(CircuitError, match="no gate is called 'cnot'"):
        hardware_efficient(3, 1, entangler="cnot")


def test_rotations_are_no_single_text():
    with pytest.raises(CircuitError, match=r"rotations is 'ry'; it must be a list of names, as \['ry'\]"):
        hardware_efficient(2, 1, "ry")
