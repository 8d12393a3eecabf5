"""Estimated gradients against those of automatic differentiation, for every gate, and in a layer on an executor with shots."""

import itertools
import math
import pickle

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gates import GATES
from qvae.circuits.gradients import GRADIENTS, SPSA, ParameterShift, estimated_expectations, load_gradient
from qvae.circuits.gradients.parameter_shift import shift_rule
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import angle_encoding, hardware_efficient, reuploading
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError
from qvae.testing.circuit_problems import circuit_problems

PROBLEMS = circuit_problems()


class WithoutGradients(StatevectorExecutor):
    """Exact, but has no gradients; counts calls."""

    capabilities = ExecutorCapabilities(exact=True)
    calls = 0

    def expectations(self, circuit, values, observables, weights=None):
        self.calls += 1
        assert not torch.is_grad_enabled() or not values.requires_grad
        return super().expectations(circuit, values, observables, weights)


def both_gradients(circuit, values, observables, estimator):
    """In all parameters, with the first two as inputs: estimated and automatic."""
    dual = torch.randn(len(values), len(observables), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = []
    for method in (
        lambda x, w: estimated_expectations(WithoutGradients(), estimator, circuit, x, observables, w),
        lambda x, w: StatevectorExecutor().expectations(circuit, x, observables, w),
    ):
        x, w = values[:, :2].clone().requires_grad_(), values[0, 2:].clone().requires_grad_()
        found.append(torch.cat([part.flatten() for part in torch.autograd.grad((method(x, w) * dual).sum(), [x, w])]))
    return found


@pytest.mark.parametrize("problem", PROBLEMS[1:], ids=[problem.name for problem in PROBLEMS[1:]])
def test_shifts_are_exact_for_every_gate_scale_and_repeated_parameter(problem):
    found, exact = both_gradients(problem.circuit, problem.values, problem.observables, ParameterShift())
    assert (found - exact).abs().max() < 1e-10
    assert exact.abs().max() > 1e-2


@pytest.mark.parametrize("name", [name for name in GATES if GATES[name].num_angles])
def test_every_angle_has_its_rule_and_no_more_terms_than_it_needs(name):
    """By the spectrum of an expectation in the angle, over two of its longest periods."""
    kind = GATES[name]
    before = [Gate("u", (qubit,), (0.7 + qubit, 0.4, 1.1 - qubit)) for qubit in range(kind.num_qubits)]
    generator = torch.Generator().manual_seed(4)
    labels = ["".join(letters) for letters in itertools.product("IXYZ", repeat=kind.num_qubits)]
    observables = [list(zip(labels, torch.rand(len(labels), generator=generator).tolist(), strict=True))]
    for angle in range(kind.num_angles):
        fixed = torch.rand(kind.num_angles, generator=generator).add(0.4).tolist()
        angles = tuple(Affine(0) if index == angle else fixed[index] for index in range(kind.num_angles))
        circuit = Circuit(kind.num_qubits, [*before, Gate(name, tuple(range(kind.num_qubits)), angles)], num_parameters=1)
        points = torch.arange(32, dtype=torch.float64).unsqueeze(1) * 4 * math.pi / 32
        spectrum = torch.fft.rfft(StatevectorExecutor().expectations(circuit, points, observables).squeeze(1)).abs()
        frequencies = {index / 2 for index in range(1, 17) if spectrum[index] > 1e-8}
        assert len(shift_rule(name, angle)) == 2 * len(frequencies)


def test_all_shifts_are_one_call():
    executor = WithoutGradients()
    layer = CircuitLayer(reuploading(angle_encoding(2), hardware_efficient(2, 1), 2), executor=executor)
    loss = layer(torch.zeros(3, 2)).sum()
    assert executor.calls == 1
    loss.backward()
    assert executor.calls == 2
    assert layer.weight.grad.shape == layer.weight.shape


def test_three_hundred_circuits_are_one_call_of_aer(monkeypatch):
    pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")
    from qiskit_aer.primitives import SamplerV2

    calls = []
    run = SamplerV2.run

    def counted(sampler, pubs, **options):
        calls.append(sum(len(values) for _, values, _ in pubs))
        return run(sampler, pubs, **options)

    monkeypatch.setattr(SamplerV2, "run", counted)
    layer = CircuitLayer(hardware_efficient(3, 5, ("ry", "rz")), [[("ZZZ", 1.0)]], load_executor("aer", shots=100, seed=0))
    layer(torch.zeros(5, 0)).sum().backward()
    assert calls == [5, 5 * 2 * 30]


def test_inputs_that_need_no_gradient_cost_nothing():
    sizes = []

    class Counting(WithoutGradients):
        def expectations(self, circuit, values, observables, weights=None):
            sizes.append(len(values))
            return super().expectations(circuit, values, observables, weights)

    layer = CircuitLayer(reuploading(angle_encoding(2), hardware_efficient(2, 1), 2), executor=Counting())
    for x, frozen in ((torch.zeros(3, 2), False), (torch.zeros(3, 2, requires_grad=True), True)):
        layer.weight.requires_grad_(not frozen)
        layer(x).sum().backward()
    with torch.no_grad():
        layer(torch.zeros(3, 2))
    assert sizes == [3, 3 * 2 * 12, 3, 3 * 2 * 4, 3]


def test_a_parameter_that_nothing_follows_has_no_gradient():
    circuit = Circuit(1, [Gate("h", (0,))], num_parameters=3, num_inputs=1)
    layer = CircuitLayer(circuit, executor=WithoutGradients())
    layer(torch.zeros(2, 1)).sum().backward()
    assert layer.weight.grad.tolist() == [0, 0]


def test_spsa_has_the_gradient_as_its_mean():
    """Within 5 standard errors over 4000 directions, up to the bias of the step."""
    circuit, observables = hardware_efficient(2, 2, ("ry", "rx")), [[("ZZ", 1.0)], [("XI", 1.0)]]
    values = torch.tensor([[0.4, -0.9, 1.3, 0.8, 0.5, -1.1, 0.3, 0.6]], dtype=torch.float64)
    dual = torch.tensor([[1.0, -0.5]], dtype=torch.float64)
    leaf = values.clone().requires_grad_()
    measured = StatevectorExecutor().expectations(circuit, leaf, observables)
    (exact,) = torch.autograd.grad((measured * dual).sum(), leaf)
    spsa = SPSA(step=1e-3, seed=5)
    rows, duals = values.expand(4000, -1), dual.expand(4000, -1)
    found = spsa.gradients(WithoutGradients(), circuit, rows, observables, duals, range(8))
    errors = (found.mean(0) - exact[0]).abs() / (found.std(0) / math.sqrt(len(found)))
    assert errors.max() < 5
    wanted = spsa.gradients(WithoutGradients(), circuit, rows, observables, duals, range(1, 6))
    assert ((wanted.mean(0) - exact[0, 1:6]).abs() / (wanted.std(0) / math.sqrt(len(wanted)))).max() < 5


def test_spsa_repeats_itself_from_its_state():
    layer = CircuitLayer(hardware_efficient(2, 2), executor=WithoutGradients(), gradient=SPSA(repetitions=3, seed=1)).double()

    def gradient():
        (found,) = torch.autograd.grad(layer(torch.zeros(2, 0)).sum(), layer.weight)
        return found

    first = gradient()
    state = layer.gradient.state_dict()
    second = gradient()
    assert not torch.equal(first, second)
    layer.gradient.load_state_dict(state)
    assert torch.equal(gradient(), second)
    layer = pickle.loads(pickle.dumps(layer))
    assert not torch.equal(gradient(), second)


@pytest.mark.parametrize("options", [{"repetitions": 0}, {"step": 0.0}, {"seed": -1}])
def test_spsa_refuses(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        SPSA(**options)


def test_a_gradient_is_made_by_name_with_options_and_a_seed_if_it_takes_one():
    made = load_gradient("spsa", {"repetitions": 3}, seed=5)
    assert (type(made), made.repetitions) == (SPSA, 3)
    again = load_gradient("spsa", {"repetitions": 3}, seed=5)
    assert torch.equal(made.generator(torch.device("cpu")).get_state(), again.generator(torch.device("cpu")).get_state())
    assert isinstance(load_gradient("parameter-shift", {}, seed=5), ParameterShift)
    with pytest.raises(CircuitError, match="gradient 'spsa' has no option 'step_size': did you mean 'step'"):
        load_gradient("spsa", {"step_size": 1.0})
    with pytest.raises(CircuitError, match="gradient 'spsa' refuses its options: repetitions is 0; it must be a whole number"):
        load_gradient("spsa", {"repetitions": 0})


def test_layers_take_gradients_by_name():
    circuit = hardware_efficient(2, 1)
    assert CircuitLayer(circuit).gradient is None
    assert isinstance(CircuitLayer(circuit, gradient="spsa").gradient, SPSA)
    assert isinstance(CircuitLayer(circuit, executor=WithoutGradients()).gradient, ParameterShift)
    with pytest.raises(CircuitError, match="no gradient is called 'shift': did you mean 'parameter-shift'"):
        CircuitLayer(circuit, gradient="shift")


def test_a_layer_learns_from_shots():
    """<Z> of RY(w) is brought from 1 to -1 on Qiskit's simulator, by both gradients."""
    pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")
    circuit = Circuit(1, [Gate("ry", (0,), (Affine(0),))], num_parameters=1)
    for gradient in ("parameter-shift", SPSA(seed=2)):
        layer = CircuitLayer(circuit, executor=load_executor("qiskit", seed=3, shots=512), gradient=gradient)
        torch.nn.init.constant_(layer.weight, 0.3)
        optimizer = torch.optim.SGD(layer.parameters(), lr=0.7)
        for _ in range(12):
            optimizer.zero_grad()
            layer(torch.zeros(1, 0)).sum().backward()
            optimizer.step()
        assert layer(torch.zeros(1, 0)).item() < -0.95


class Counted(StatevectorExecutor):
    """Has shots alone, and counts the circuits that are run."""

    capabilities, shots = ExecutorCapabilities(), 100
    _weighted_expectations = Executor._weighted_expectations
    circuits = different = 0

    def _sample(self, circuit, values, shots):
        self.circuits += len(values)
        self.different += len(values.unique(dim=0))
        return super()._sample(circuit, values, shots)


@pytest.mark.parametrize("wanted", [range(4), range(1, 3)], ids=str)
@pytest.mark.parametrize("name", GRADIENTS)
def test_as_many_circuits_are_run_as_is_said(name, wanted):
    gates = [Gate("ry", (0,), (Affine(0),)), Gate("crx", (0, 1), (Affine(1),)), Gate("rzz", (0, 1), (Affine(2, 0.5),))]
    circuit = Circuit(2, [*gates, Gate("rx", (1,), (Affine(2),)), Gate("ry", (0,), (Affine(3),))], num_parameters=4)
    executor, estimator = Counted(seed=0), load_gradient(name, {}, seed=1)
    values, observables = torch.rand(3, 4, generator=torch.Generator().manual_seed(0)).double(), [[("ZZ", 1.0)]]
    with torch.no_grad():
        found = estimator.gradients(executor, circuit, values, observables, torch.ones(3, 1).double(), wanted)
    assert found.shape == (3, len(wanted))
    # A budget asks for a circuit in portions of its shots.
    run = executor.different if name == "shot-budget" else executor.circuits
    assert run == 3 * estimator.executions(circuit, wanted)
    assert estimator.executions(circuit, range(2, 2)) == 0
    with torch.no_grad():
        nothing = estimator.gradients(executor, circuit, values[:0], observables, torch.ones(0, 1).double(), wanted)
    assert nothing.shape == (0, len(wanted))
    together = f"of {getattr(estimator, 'shots', 0):,} shots together for each row"
    in_words = {"shadows": "of one shot each", "shot-budget": together}
    assert estimator.shots_in_words(executor) == in_words.get(name, "of 100 shots each")
