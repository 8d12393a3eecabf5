"""The circuit layer as an ordinary module: parameters, precision, pickling and torch's function transforms."""

import copy
import pickle

import pytest
import torch
from torch.func import functional_call, grad, jacfwd, jacrev, vmap

import qvae
from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor
from qvae.errors import CircuitError, ExecutorError

CIRCUIT = Circuit(
    3,
    [
        *(Gate("ry", (qubit,), (Affine(qubit, 2.0),)) for qubit in range(3)),
        *(Gate("rx", (qubit,), (Affine(3 + qubit),)) for qubit in range(3)),
        *(Gate("cx", (qubit, (qubit + 1) % 3)) for qubit in range(3)),
        Gate("rxx", (0, 2), (Affine(6),)),
        Gate("rz", (1,), (Affine(0),)),
        *(Gate("ry", (qubit,), (Affine(7 + qubit),)) for qubit in range(3)),
    ],
    num_parameters=10,
    num_inputs=3,
)


@pytest.fixture
def layer():
    torch.manual_seed(0)
    return qvae.CircuitLayer(CIRCUIT).double()


@pytest.fixture
def x():
    return torch.rand(4, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def of_weight(layer, x):
    return lambda weight: functional_call(layer, {"weight": weight}, (x,))


def test_one_parameter_holds_all_weights(layer, x):
    assert [(name, value.shape) for name, value in layer.named_parameters()] == [("weight", (7,))]
    assert layer(x).shape == (4, 3)
    assert list(layer.state_dict()) == ["weight"]
    assert repr(layer) == "CircuitLayer(3 qubits, 14 gates, 3 inputs, 7 weights, 3 observables, statevector)"


def test_weights_start_anywhere_in_a_whole_turn():
    torch.manual_seed(0)
    start = qvae.CircuitLayer(Circuit(1, [], num_parameters=10_000)).weight / (2 * torch.pi)
    assert start.min() >= 0
    assert start.max() < 1
    counts = torch.histc(start, 10, 0.0, 1.0)
    assert ((counts - 1000).abs() < 5 * (1000 * 0.9) ** 0.5).all()


def test_z_of_each_qubit_is_measured_unless_told_otherwise():
    up = Circuit(3, [Gate("x", (1,))])
    assert qvae.CircuitLayer(up)(torch.zeros(1, 0)).tolist() == [[1, -1, 1]]
    assert qvae.CircuitLayer(up, [[("IZI", 2.0)]])(torch.zeros(1, 0)).tolist() == [[-2]]


def test_gradients_of_first_and_second_order(layer, x):
    both = (layer.weight, x.clone().requires_grad_())
    assert torch.autograd.gradcheck(lambda w, x: functional_call(layer, {"weight": w}, (x,)), both)
    assert torch.autograd.gradgradcheck(of_weight(layer, x[:1]), (layer.weight,))


def test_function_transforms(layer, x):
    weight = layer.weight.detach()
    expected = torch.autograd.functional.jacobian(of_weight(layer, x), weight)
    for transform in (jacrev, jacfwd):
        assert torch.allclose(transform(of_weight(layer, x))(weight), expected, atol=1e-12)
    assert torch.allclose(vmap(lambda row: layer(row[None])[0])(x), layer(x), atol=1e-12)
    by_row = vmap(lambda row: grad(lambda w: of_weight(layer, row[None])(w).sum())(weight))(x)
    assert torch.allclose(by_row, expected.sum(1), atol=1e-12)


def test_compiled(layer, x):
    compiled = torch.compile(layer, backend="aot_eager")
    assert torch.allclose(compiled(x), layer(x), atol=1e-12)
    (found,) = torch.autograd.grad(compiled(x).sum(), layer.weight)
    assert torch.allclose(found, torch.autograd.grad(layer(x).sum(), layer.weight)[0], atol=1e-12)


def test_copies_and_precision(layer, x):
    for twin in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(twin(x), layer(x))
    single = copy.deepcopy(layer).float()
    assert single(x).dtype == torch.float32
    assert (single(x) - layer(x)).abs().max() < 1e-5


def test_bits_follow_the_probabilities(layer, x):
    layer.executor = qvae.load_executor("statevector", seed=3)
    exact = layer.probabilities(x).detach()
    assert torch.allclose(exact.sum(1), torch.ones(4, dtype=torch.float64))
    signs = 1 - 2 * (torch.arange(8)[:, None] >> torch.arange(3) & 1).double()
    assert torch.allclose(exact @ signs, layer(x), atol=1e-12)
    bits = layer.sample(x, 4000)
    assert bits.shape == (4, 4000, 3)
    found = (bits.long() << torch.arange(3)).sum(-1)
    shares = torch.stack([row.bincount(minlength=8) for row in found]) / 4000
    assert ((shares - exact).abs() < 5 * (exact * (1 - exact) / 4000).sqrt() + 1e-9).all()


def test_from_qiskit_takes_parameters_in_the_order_given():
    qiskit = pytest.importorskip("qiskit", reason="Qiskit is not installed")
    from qiskit.circuit import Parameter, ParameterVector
    from qiskit.quantum_info import SparsePauliOp, Statevector

    z, a, inputs = Parameter("z"), Parameter("a"), ParameterVector("x", 2)
    circuit = qiskit.QuantumCircuit(2)
    circuit.ry(inputs[0], 0)
    circuit.rx(2 * inputs[1] + 0.1, 1)
    circuit.cx(0, 1)
    circuit.rz(z, 0)
    circuit.crx(a, 1, 0)
    observables = [SparsePauliOp("IZ"), SparsePauliOp(["ZZ", "XY"], [0.5, 2.0])]
    layer = qvae.CircuitLayer.from_qiskit(circuit, inputs=inputs, weights=[z, a], observables=observables).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.4, 1.1], dtype=torch.float64))
    x = torch.tensor([[0.3, 0.7], [1.0, -2.0]], dtype=torch.float64)
    for row, found in zip(x.tolist(), layer(x).tolist(), strict=True):
        state = Statevector(circuit.assign_parameters({inputs[0]: row[0], inputs[1]: row[1], z: 0.4, a: 1.1}))
        assert found == pytest.approx([state.expectation_value(one).real for one in observables], abs=1e-12)
    executor = qvae.load_executor("statevector")
    shifted = qvae.CircuitLayer.from_qiskit(circuit, inputs, [z, a], executor=executor, gradient="parameter-shift")
    assert shifted.executor is executor
    assert shifted.gradient is not None
    for wrong, words in (
        ({"inputs": inputs, "weights": [z]}, "parameter a is neither among inputs nor weights"),
        ({"inputs": inputs, "weights": [z, a, z]}, "named twice"),
    ):
        with pytest.raises(CircuitError, match=words):
            qvae.CircuitLayer.from_qiskit(circuit, **wrong)
    with pytest.raises(CircuitError, match="weights is .*; it must be a list of the circuit's parameters"):
        qvae.CircuitLayer.from_qiskit(circuit, inputs=[], weights=z)


def test_no_rows_give_none(layer):
    none = torch.zeros(0, 3, dtype=torch.float64)
    assert layer(none).shape == (0, 3)
    assert layer.probabilities(none).shape == (0, 8)
    assert layer.sample(none, 5).shape == (0, 5, 3)


def test_another_library_s_circuit_is_told():
    with pytest.raises(CircuitError, match="the circuit is a list; make a Circuit of it, or a layer by CircuitLayer.from"):
        qvae.CircuitLayer([])


def test_wrong_input_is_told(layer):
    for wrong, words in ((torch.zeros(4, 2), r"of shape \(4, 2\)"), (torch.zeros(3), r"shape \(3,\)"), ([1], "a list")):
        with pytest.raises(CircuitError, match=f"the layer's input is .*{words}.*it must be a tensor \\(batch, 3\\)"):
            layer(wrong)


def test_an_executor_that_measures_shots_knows_no_probabilities(layer, x):
    class Coins(Executor):
        def _sample(self, circuit, values, shots):
            return torch.zeros(len(values), shots, circuit.num_qubits, dtype=torch.int8)

    layer.executor = Coins()
    assert layer.sample(x, 5).shape == (4, 5, 3)
    with pytest.raises(ExecutorError, match="knows no exact probabilities; take one that does, as statevector"):
        layer.probabilities(x)


# As other layers are --------------------------------------------------------------------------------------------------


def test_evaluation_in_inference_mode_leaves_training_alone(x):
    # A circuit that no other test has: what is kept of it comes from inference mode.
    layer = qvae.CircuitLayer(CIRCUIT.then([Gate("rx", (0,), (0.123,)), Gate("cx", (0, 1))]), [[("XYZ", 1.0)]]).double()
    with torch.inference_mode():
        layer(x), layer.probabilities(x)
    layer(x).sum().backward()
    assert layer.weight.grad.isfinite().all()


@pytest.mark.parametrize("gradient", [None, "parameter-shift"])
def test_no_rows_have_a_gradient_of_zero(gradient):
    layer = qvae.CircuitLayer(CIRCUIT, gradient=gradient)
    layer(torch.zeros(0, 3)).sum().backward()
    assert torch.equal(layer.weight.grad, torch.zeros(7))


def test_autocast_leaves_the_precision(layer, x):
    single, inputs = copy.deepcopy(layer).float(), x.float()
    with torch.autocast("cpu", torch.bfloat16):
        found = single(inputs)
    assert torch.equal(found, single(inputs))


def test_rows_without_inputs_can_be_changed_in_place():
    rows = qvae.CircuitLayer(Circuit(1, [Gate("ry", (0,), (Affine(0),))], 1))(torch.zeros(2, 0)).detach()
    rows[0] += 1
    assert rows[0] != rows[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"executor": "statevector"}, "the executor is 'statevector'; make one, as qvae.load_executor"),
        ({"gradient": int}, "the gradient is <class 'int'>; it must be a name, or an estimator"),
        ({"observables": [[("ZZZ", float("nan"))]]}, "the coefficient of 'ZZZ' is nan; it must be finite"),
    ],
)
def test_wrong_arguments_are_told(arguments, message):
    with pytest.raises(CircuitError, match=message):
        qvae.CircuitLayer(CIRCUIT, **arguments)


def test_complex_inputs_are_refused(layer, x):
    with pytest.raises(CircuitError, match=r"and torch.complex128; it must be a tensor \(batch, 3\), real"):
        layer(x + 1j)


def test_observables_that_are_none_and_half_precision_are_refused():
    circuit = Circuit(1, [Gate("ry", (0,), (Affine(0),))], 1, 1)
    with pytest.raises(CircuitError, match="observables must be a list of one or more Pauli sums"):
        qvae.CircuitLayer(circuit, 3)
    with pytest.raises(CircuitError, match=r"float16; convert them by \.float\(\), and a layer that holds them"):
        qvae.CircuitLayer(circuit).half()(torch.zeros(1, 1))


def test_watchers_are_told_of_each_run_that_gives_expectations_or_probabilities(layer, x):
    seen = []
    layer.watchers += [lambda *told: seen.append(told)] * 2
    x.requires_grad_()
    layer(x), layer.probabilities(2 * x), layer.sample(x, 3)
    assert [told[0] for told in seen] == [layer] * 4
    assert not any(told[1].requires_grad for told in seen)
    assert [torch.equal(told[1], scale * x) for told, scale in zip(seen, (1, 1, 2, 2), strict=True)] == [True] * 4
