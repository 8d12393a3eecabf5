"""The contract: what is checked before and after an author's methods, and expectations from samples."""

import pickle

import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor, ExecutorCapabilities, SeededExecutor
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError, ExecutorError, QvaeError
from qvae.testing.dense import dense_expectation, dense_state

TURN = Circuit(2, [Gate("rx", (0,), (Affine(0),)), Gate("ry", (1,), (Affine(0),)), Gate("cx", (0, 1))], 1)


class Drawn(SeededExecutor):
    """Draws from dense states; counts its calls."""

    def __init__(self, seed=None):
        super().__init__(seed)
        self.calls = 0

    def _sample(self, circuit, values, shots):
        self.calls += 1
        assert not values.requires_grad
        states = torch.stack([torch.from_numpy(dense_state(circuit, row)) for row in values])
        drawn = torch.multinomial(states.abs() ** 2, shots, replacement=True, generator=self.generator(values.device))
        return (drawn.unsqueeze(-1) >> torch.arange(circuit.num_qubits) & 1).to(torch.int8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_expectations_from_samples(dtype):
    executor = Drawn(seed=0)
    executor.shots = 20_000
    observables = [[("XY", 0.5), ("ZI", -1.0), ("II", 0.25)], [("IZ", 2.0)], [("IY", 1.0), ("YI", 1.0)]]
    values = torch.tensor([[0.4], [1.1]], dtype=dtype)
    found = executor.expectations(TURN, values, observables)
    assert found.dtype == dtype
    # XY and YI don't go together, nor does YI with ZI.
    assert executor.calls == 3
    for row in range(2):
        state = dense_state(TURN, values[row])
        for column, terms in enumerate(observables):
            five_sigmas = 5 * sum(abs(weight) for _, weight in terms) / executor.shots**0.5
            assert abs(float(found[row, column]) - dense_expectation(state, terms)) < five_sigmas


def test_what_is_refused_before_anything_is_spent():
    executor = Drawn()
    executor.capabilities = ExecutorCapabilities(max_qubits=2)
    values, observable = torch.zeros(1, 1), [[("ZI", 1.0)]]
    for error, message, arguments in (
        (CircuitError, "the circuit is a str; make a Circuit of it", ("h 0", values)),
        (ExecutorError, "executor 'Drawn' can't run 3 qubits: it takes at most 2 qubits", (Circuit(3, []), torch.zeros(1, 0))),
        (CircuitError, "values must be a tensor of float32 or float64, but are list", (TURN, [[0.0]])),
        (CircuitError, "values must be .*, but are torch.int64", (TURN, torch.zeros(1, 1, dtype=torch.int64))),
        (CircuitError, r"values have shape \(1, 2\); they must be \(batch, 1\)", (TURN, torch.zeros(1, 2))),
        (CircuitError, r"values have shape \(1,\)", (TURN, torch.zeros(1))),
    ):
        with pytest.raises(error, match=message):
            executor.expectations(*arguments, observable)
        with pytest.raises(error, match=message):
            executor.sample(*arguments, 5)
    for weights, words in (
        (torch.zeros(1, 1), r"weights have shape \(1, 1\); they must be \(1,\), the same for all rows"),
        (torch.zeros(2), r"weights have shape \(2,\)"),
        ([0.0], "weights must be a tensor of float32 or float64, but are list"),
    ):
        with pytest.raises(CircuitError, match=words):
            executor.expectations(TURN, torch.zeros(1, 0), observable, weights=weights)
    with pytest.raises(CircuitError, match="'Z' must have 2 letters"):
        executor.expectations(TURN, values, [[("Z", 1.0)]])
    with pytest.raises(ExecutorError, match="shots is 0; it must be a whole number, 1 or more"):
        executor.sample(TURN, values, 0)
    assert executor.calls == 0


def test_gradients_in_weights_are_not_lost_either():
    values, weights = torch.zeros(2, 0), torch.zeros(1, requires_grad=True)
    with pytest.raises(ExecutorError, match="gives no gradients in values; call it under torch.no_grad"):
        Drawn().expectations(TURN, values, [[("ZI", 1.0)]], weights)
    assert Drawn().expectations(TURN, values, [[("ZI", 1.0)]], weights.detach()).shape == (2, 1)
    with torch.no_grad():
        assert Drawn().expectations(TURN, values, [[("ZI", 1.0)]], weights).shape == (2, 1)


def test_gradients_are_not_lost_silently():
    executor, values = Drawn(), torch.zeros(1, 1, requires_grad=True)
    with pytest.raises(ExecutorError, match="'Drawn' gives no gradients in values; call it under torch.no_grad"):
        executor.expectations(TURN, values, [[("ZI", 1.0)]])
    with torch.no_grad():
        executor.expectations(TURN, values, [[("ZI", 1.0)]])
    assert executor.sample(TURN, values, 5).shape == (1, 5, 2)


def test_an_empty_batch_runs_nothing():
    executor = Drawn()
    assert executor.expectations(TURN, torch.zeros(0, 1), [[("ZI", 1.0)]] * 3).shape == (0, 3)
    assert executor.sample(TURN, torch.zeros(0, 1), 5).shape == (0, 5, 2)
    assert executor.calls == 0


class Wrong(Executor):
    def __init__(self, result):
        self.result = result

    def _sample(self, circuit, values, shots):
        if isinstance(self.result, Exception):
            raise self.result
        return self.result


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (torch.zeros(1, 5, 3, dtype=torch.int8), r"returned torch.int8 of shape \(1, 5, 3\); it must be torch.int8 of shape"),
        (torch.zeros(1, 5, 2), "returned torch.float32 of shape"),
        ([[0, 1]], "returned a list; it must be"),
        (OSError("no such\ndevice."), "executor 'Wrong' failed with OSError: no such device.$"),
        (KeyError(), "executor 'Wrong' failed with KeyError.$"),
    ],
)
def test_what_comes_back_is_looked_at(result, message):
    with pytest.raises(ExecutorError, match=message):
        Wrong(result).sample(TURN, torch.zeros(1, 1), 5)


def test_our_own_errors_pass():
    with pytest.raises(CircuitError, match="as it was"):
        Wrong(CircuitError("as it was")).sample(TURN, torch.zeros(1, 1), 5)


def test_the_generator_travels():
    first = Drawn(seed=1)
    first.sample(TURN, torch.ones(1, 1), 50)
    copy, resumed = pickle.loads(pickle.dumps(first)), Drawn(seed=2)
    resumed.load_state_dict(first.state_dict())
    for _ in range(2):
        expected = first.sample(TURN, torch.ones(1, 1), 50)
        assert torch.equal(copy.sample(TURN, torch.ones(1, 1), 50), expected)
        assert torch.equal(resumed.sample(TURN, torch.ones(1, 1), 50), expected)
    with pytest.raises(QvaeError, match=r"was given the state \['chains'\] of another one"):
        first.load_state_dict({"chains": torch.zeros(1)})
    with pytest.raises(ExecutorError, match=r"'Wrong' keeps no state, but was given \['generator'\]"):
        Wrong(None).load_state_dict(first.state_dict())


class Told(Executor):
    """Has expectations of its own: products with a table, as of a surrogate."""

    shots = 10

    def _sample(self, circuit, values, shots):
        raise AssertionError("bits are drawn")

    def _expectations(self, circuit, values, observables):
        return values @ torch.full((values.shape[1], len(observables)), 1.001)

    def _amplitudes(self, circuit, values, weights):
        return torch.complex(*[values @ torch.full((values.shape[1], 2**circuit.num_qubits), 1.001)] * 2)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("where", ["values", "weights"])
def test_nothing_is_measured_at_nan(where, number):
    circuit = Circuit(1, [Gate("rx", (0,), (Affine(0),)), Gate("rx", (0,), (Affine(1),))], 2, 1)
    values, weights = torch.zeros(2, 1), torch.zeros(1)
    {"values": values, "weights": weights}[where][-1] = number
    with pytest.raises(CircuitError, match="infinite or NaN"):
        Told().expectations(circuit, values, [[("Z", 1.0)]], weights)
    exact = load_executor("statevector").expectations(circuit, values, [[("Z", 1.0)]], weights)
    assert exact[-1].isnan()  # which is seen
    executor = Drawn(seed=0)
    with pytest.raises(CircuitError, match="infinite or NaN"):
        executor.expectations(circuit, values, [[("Z", 1.0)]], weights)
    with pytest.raises(CircuitError, match="infinite or NaN"):
        executor.sample(circuit, values, 5, weights)
    assert executor.calls == 0


def test_shots_are_whole():
    with pytest.raises(ExecutorError, match="shots is 2.5; it must be a whole number, 1 or more"):
        Drawn(seed=0).sample(TURN, torch.zeros(1, 1), 2.5)


def test_what_an_author_computes_keeps_the_precision_of_values():
    executor, values = Told(), torch.tensor([[0.3], [0.7]])
    executor.capabilities = ExecutorCapabilities(exact=True)
    alone = executor.expectations(TURN, values, [[("ZI", 1.0)]]), executor.amplitudes(TURN, values)
    with torch.autocast("cpu", torch.bfloat16):
        among_networks = executor.expectations(TURN, values, [[("ZI", 1.0)]]), executor.amplitudes(TURN, values)
    for expected, found in zip(alone, among_networks, strict=True):
        assert torch.equal(found, expected)


def test_as_many_qubits_as_allowed_are_taken():
    able = ExecutorCapabilities(max_qubits=3)
    assert able.excludes(3) is None
    assert able.excludes(4) == "it takes at most 3 qubits"
    assert ExecutorCapabilities().excludes(1000) is None
