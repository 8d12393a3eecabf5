"""Encodings of data against the states they stand for, and the ways to join circuits."""

import math

import numpy as np
import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import (
    ANSATZES,
    ENCODINGS,
    AmplitudeAngles,
    amplitude_encoding,
    angle_encoding,
    compose,
    reuploading,
    strongly_entangling,
)
from qvae.circuits.library.composition import layers_of
from qvae.errors import CircuitError
from qvae.testing.dense import dense_state


def normal(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(
    ("name", "amplitudes"),
    [
        ("rx", lambda x: [math.cos(x / 2), -1j * math.sin(x / 2)]),
        ("ry", lambda x: [math.cos(x / 2), math.sin(x / 2)]),
        ("rz", lambda x: [np.exp(-0.5j * x), 0]),
        ("h_rz", lambda x: [np.exp(-0.5j * x) / math.sqrt(2), np.exp(0.5j * x) / math.sqrt(2)]),
    ],
)
def test_angles_give_a_product_state(name, amplitudes):
    circuit, x = ENCODINGS[name](3), normal(3)
    assert (circuit.num_inputs, circuit.num_weights) == (3, 0)
    first, second, third = (amplitudes(float(angle)) for angle in x)
    assert dense_state(circuit, x) == pytest.approx(np.kron(third, np.kron(second, first)))


def test_only_rotations_encode_angles():
    with pytest.raises(CircuitError, match="no rotation encodes angles by the name 'rxx': did you mean 'rx'"):
        angle_encoding(3, "rxx")


# Amplitudes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_qubits", [1, 2, 3, 5])
def test_amplitudes_are_the_state(num_qubits):
    x = torch.nn.functional.normalize(normal(3, 2**num_qubits), dim=-1)
    x[1] = 0
    x[1, -1] = -1
    angles = AmplitudeAngles(num_qubits)(x)
    circuit = amplitude_encoding(num_qubits)
    assert angles.shape == (3, circuit.num_inputs)
    for row, wanted in zip(angles, x, strict=True):
        assert dense_state(circuit, row) == pytest.approx(wanted.numpy(), abs=1e-12)


def test_amplitudes_have_the_gradients_of_the_quadratic_form():
    """d<O>/dx through the angles is that of x O x, with zeros among the amplitudes, too."""
    start = normal(2, 8)
    start[0, [2, 5]] = 0
    start[1, 4:] = 0
    layer = torch.nn.Sequential(
        AmplitudeAngles(3), CircuitLayer(amplitude_encoding(3), [[("ZIZ", 1.0), ("IXI", 0.5)]]).double()
    )
    z, x = torch.tensor([[1.0, 0], [0, -1]]), torch.tensor([[0.0, 1], [1, 0]])
    eye = torch.eye(2)
    matrix = (torch.kron(z, torch.kron(eye, z)) + 0.5 * torch.kron(eye, torch.kron(x, eye))).double()
    results = []
    for function in (lambda v: layer(v).sum(), lambda v: torch.einsum("bi,ij,bj->", v, matrix, v)):
        amplitudes = start.clone().requires_grad_()
        value = function(torch.nn.functional.normalize(amplitudes, dim=-1))
        results.append((value.detach(), torch.autograd.grad(value, amplitudes)[0]))
    (value, gradient), (wanted_value, wanted) = results
    assert value == pytest.approx(wanted_value)
    wanted[1, 4:] = 0  # a block of zeros has no direction
    assert torch.allclose(gradient, wanted, atol=1e-12)


def test_many_qubits_take_one_transform():
    x = torch.nn.functional.normalize(torch.randn(1, 2**12), dim=-1)
    assert AmplitudeAngles(12)(x).shape == (1, 2**12 - 1)


@pytest.mark.parametrize(
    ("amplitudes", "message"),
    [
        (torch.ones(2, 3), r"amplitudes have shape \(2, 3\); 2 qubits take 4 in a row: pad them with zeros, or change"),
        (torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 0, 0]]), "a vector of amplitudes has the norm 1.41421; it must be 1 to within"),
        (torch.tensor([[math.nan, 0, 0, 0]]), "a vector of amplitudes has the norm nan"),
        (torch.tensor([[1.00011, 0, 0, 0]]), r"has the norm 1.00011; it must be 1 to within 0.0001: torch\S+normalize makes"),
    ],
)
def test_wrong_amplitudes_are_refused(amplitudes, message):
    with pytest.raises(CircuitError, match=message):
        AmplitudeAngles(2)(amplitudes)


# Joined ---------------------------------------------------------------------------------------------------------------


def test_composed_circuits_have_inputs_and_weights_of_their_own():
    parts = [reuploading(angle_encoding(2, axis), strongly_entangling(2, 1), 1) for axis in ("rx", "ry")]
    circuit = compose(*parts)
    assert (circuit.num_inputs, circuit.num_weights) == (4, 12)
    values = normal(16)
    inputs, weights = values[:4], values[4:]
    one_by_one = [torch.cat([inputs[2 * k : 2 * k + 2], weights[6 * k : 6 * k + 6]]) for k in range(2)]
    gates = [bound(gate, own) for part, own in zip(parts, one_by_one, strict=True) for gate in part.gates]
    assert [bound(gate, values) for gate in circuit.gates] == gates


def test_reuploaded_inputs_are_shared_and_weights_are_not():
    circuit = reuploading(angle_encoding(2), strongly_entangling(2, 1), layers=3)
    assert (circuit.num_inputs, circuit.num_weights) == (2, 18)
    inputs = [gate.angles[0].index for gate in circuit.gates if gate.name == "ry" and gate.angles[0].index < 2]
    assert inputs == [0, 1] * 3
    assert sorted(angle.index for gate in circuit.gates for angle in gate.angles if angle.index >= 2) == list(range(2, 20))


@pytest.mark.parametrize("ansatz", ANSATZES.values(), ids=ANSATZES)
@pytest.mark.parametrize("qubits", [1, 2, 5])
def test_layers_one_by_one_are_those_of_the_whole(ansatz, qubits):
    layers = layers_of(ansatz, qubits, 4)
    assert len(layers) == 4
    assert compose(*layers) == ansatz(qubits, 4)


def test_reuploading_adds_frequencies():
    """<Z> of L encodings of one input is a trigonometric polynomial of degree L."""
    circuit = reuploading(angle_encoding(1), strongly_entangling(1, 1), layers=3)
    layer = CircuitLayer(circuit).double()
    x = torch.arange(16).double().unsqueeze(1) * 2 * math.pi / 16
    spectrum = torch.fft.rfft(layer(x).detach().squeeze(1)).abs()
    assert spectrum[3] > 1e-3
    assert spectrum[4:].max() < 1e-10


def test_what_does_not_fit_is_refused():
    with pytest.raises(CircuitError, match="circuits of 2 and 3 qubits can't be joined; make them of one size"):
        compose(angle_encoding(2), strongly_entangling(3, 1))
    with pytest.raises(CircuitError, match="has 0 layers"):
        reuploading(angle_encoding(2), strongly_entangling(2, 1), 0)
    with pytest.raises(CircuitError, match="has 1.5 layers; it needs 1 or more, a whole number"):
        strongly_entangling(2, 1.5)
    for amplitudes, kind in ((torch.arange(2), "torch.int64"), (torch.tensor([1j, 0]), "torch.complex64"), ([1.0], "list")):
        with pytest.raises(CircuitError, match=f"amplitudes are {kind}; they must be a tensor of real"):
            AmplitudeAngles(1)(amplitudes)


def bound(gate, values):
    """A gate with numbers for its angles."""
    return (gate.name, gate.qubits, [float(values[angle.index]) * angle.scale + angle.offset for angle in gate.angles])


@pytest.mark.parametrize("wrong", [0, 1.5, "2"])
def test_amplitudes_of_no_qubits_are_refused(wrong):
    with pytest.raises(CircuitError, match=f"num_qubits is {wrong!r}; it must be a whole number, 1 or more"):
        AmplitudeAngles(wrong)


def test_joined_angles_keep_their_scales_and_offsets():
    turned = Circuit(1, [Gate("rx", (0,), (Affine(0, 2.0, 0.3),)), Gate("u2", (0,), (Affine(1, -0.5, 0.7), 0.1))], 2, 1)
    first, second, third, fourth = compose(turned, turned).gates
    assert (first.angles, second.angles) == ((Affine(0, 2.0, 0.3),), (Affine(2, -0.5, 0.7), 0.1))
    assert (third.angles, fourth.angles) == ((Affine(1, 2.0, 0.3),), (Affine(3, -0.5, 0.7), 0.1))
