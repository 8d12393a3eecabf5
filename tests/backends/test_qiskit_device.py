"""Samplers, backends and noise of every kind that Qiskit has, found and transpiled for; and errors that give no token away."""

import sys
import types

import numpy as np
import pytest

from qvae.circuits.registry import load_executor
from qvae.errors import ExecutorError
from qvae.trust import needs

pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")

from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.primitives import (
    BackendEstimatorV2,
    BackendSamplerV2,
    BaseEstimatorV2,
    StatevectorEstimator,
    StatevectorSampler,
)
from qiskit.providers.basic_provider import BasicSimulator
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError
from qiskit_aer.primitives import EstimatorV2 as AerEstimator
from qvae_backends.qiskit_device import ImportPath, QiskitDevice

TOKEN = "Zx9-fakefakefakefakefakefakefakefake_0123456"


@pytest.fixture
def named(monkeypatch):
    """Objects that can be imported as "things:NAME"."""

    def make(**objects):
        module = types.ModuleType("things")
        module.__dict__.update(objects)
        monkeypatch.setitem(sys.modules, "things", module)

    return make


def first_qubit_up(num_qubits=3):
    """Qubit 0 in |1>, the others in |0>."""
    circuit = QuantumCircuit(num_qubits, num_qubits)
    circuit.x(0)
    circuit.measure(range(num_qubits), range(num_qubits))
    return circuit


def fair_coins(num_qubits=3):
    circuit = QuantumCircuit(num_qubits, num_qubits)
    circuit.h(range(num_qubits))
    circuit.measure(range(num_qubits), range(num_qubits))
    return circuit


def coupled():
    return GenericBackendV2(6, coupling_map=[(i, i + 1) for i in range(5)], seed=1)


def inverted_readout():
    model = NoiseModel()
    model.add_all_qubit_readout_error(ReadoutError([[0, 1], [1, 0]]))
    return model


# What the user names --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "backend",
    [
        None,
        AerSimulator(),
        StatevectorSampler(),
        StatevectorSampler,
        "qiskit.primitives:StatevectorSampler",
        "qiskit_aer.primitives:SamplerV2",
        "qiskit_aer:AerSimulator",
        BackendSamplerV2(backend=AerSimulator()),
    ],
)
def test_column_i_is_bit_i(backend):
    device = QiskitDevice(backend)
    bits = device.run(device.transpiled(first_qubit_up()), [], 20, seed=0)
    assert bits.shape == (20, 3)
    assert bits.tolist() == [[True, False, False]] * 20


@pytest.mark.parametrize("backend", [None, "qiskit.primitives:StatevectorSampler", GenericBackendV2(3)])
def test_the_seed_decides(backend):
    device = QiskitDevice(backend)
    circuit = device.transpiled(fair_coins())
    first, again, other = (device.run(circuit, [], 100, seed).tolist() for seed in (1, 1, 2))
    assert first == again
    assert first != other


def turned():
    """Three qubits, each by an angle of its own."""
    theta = ParameterVector("theta", 3)
    circuit = QuantumCircuit(3, 3)
    for qubit in range(3):
        circuit.rx(theta[qubit], qubit)
    circuit.measure(range(3), range(3))
    return circuit


ROWS = np.array([[np.pi, 0, 0], [0, np.pi, np.pi]])


@pytest.mark.parametrize("backend", [None, "qiskit.primitives:StatevectorSampler", GenericBackendV2(3)])
def test_rows_of_values(backend):
    device = QiskitDevice(backend)
    bits = device.run(device.transpiled(turned()), ROWS, 200, seed=0)
    assert bits.shape == (2, 200, 3)
    assert (bits.mean(1).round() == [[1, 0, 0], [0, 1, 1]]).all()


@pytest.mark.parametrize(
    ("backend", "repeats"),
    [
        (None, False),
        ("qiskit.primitives:StatevectorSampler", True),
        (GenericBackendV2(3), False),
        (BasicSimulator(), False),
        (AerSimulator(), False),
    ],
)
def test_which_samplers_repeat_rows(backend, repeats):
    """As seen in their samples."""
    device = QiskitDevice(backend)
    assert device.repeats_rows == repeats
    bits = device.run(device.transpiled(turned()), np.full((2, 3), np.pi / 2), 200, seed=3)
    assert np.array_equal(bits[0], bits[1]) == repeats


@pytest.mark.parametrize(
    ("options", "noisy"),
    [
        ({}, False),
        ({"noise_model": inverted_readout()}, True),
        ({"backend": AerSimulator()}, False),
        ({"backend": AerSimulator.from_backend(coupled())}, True),
        ({"backend": StatevectorSampler()}, False),
        ({"backend": coupled()}, True),
    ],
    ids=["aer", "aer with noise", "AerSimulator", "AerSimulator of a device", "StatevectorSampler", "a device"],
)
def test_which_are_noisy(options, noisy):
    assert QiskitDevice(**options).noisy == noisy


def test_functions_that_make_backends(named):
    named(make=lambda: GenericBackendV2(4), Backend=AerSimulator, object=AerSimulator())
    assert QiskitDevice("things:make").num_qubits == 4
    for path in ("things:Backend", "things:object"):
        assert QiskitDevice(path).run(first_qubit_up(), [], 5, seed=0).shape == (5, 3)


@pytest.mark.parametrize("noise", [inverted_readout, inverted_readout(), "things:model"], ids=["function", "object", "path"])
def test_noise_models(noise, named):
    named(model=inverted_readout())
    device = QiskitDevice(noise_model=noise)
    assert device.run(device.transpiled(first_qubit_up()), [], 5, seed=0).tolist() == [[False, True, True]] * 5


def test_the_noise_of_a_backend(named):
    """Gates and couplings are the backend's, and so are errors: some of many shots go wrong."""
    named(device=coupled)
    device = QiskitDevice(noise_model="things:device")
    circuit = device.transpiled(fair_coins())
    assert device.num_qubits == 6
    assert set(circuit.count_ops()) <= set(coupled().operation_names)
    bits = device.run(device.transpiled(first_qubit_up()), [], 20_000, seed=0)
    assert 0 < (bits != [True, False, False]).any(1).mean() < 0.2


def test_several_circuits_run_together_with_fresh_randomness():
    """As many shots as each is to have, and other bits for equal circuits."""
    for backend in (None, GenericBackendV2(3)):
        device = QiskitDevice(backend)
        coins = device.transpiled(fair_coins())
        runs = [(coins, np.zeros(0), 60), (coins, np.zeros(0), 60), (device.transpiled(turned()), ROWS, 7)]
        first, second, turns = device.run_together(runs, seed=0)
        assert (first.shape, turns.shape) == ((60, 3), (2, 7, 3))
        assert not np.array_equal(first, second)


def test_estimators_have_layouts_undone():
    """Means of Z on each of three qubits that stand elsewhere on the backend, and are in different states."""
    circuit = QuantumCircuit(3)
    circuit.x(2)
    circuit.rx(ParameterVector("theta", 1)[0], 1)
    circuit.cz(0, [1, 2])  # qubit 0 must be between the others
    for estimator in (BackendEstimatorV2(backend=coupled()), StatevectorEstimator(), AerEstimator()):
        device = QiskitDevice(estimator)
        assert device.estimates
        transpiled = device.transpiled(circuit)
        found = device.estimate(transpiled, np.array([[0.0], [np.pi]]), ["IIZ", "IZI", "ZII"], 2000, seed=0)
        assert found.round().tolist() == [[1, 1, -1], [1, -1, -1]]


def test_an_estimator_without_a_backend_gives_no_bits():
    class Own(BaseEstimatorV2):
        def run(self, pubs, *, precision=None):
            raise RuntimeError("job lost")

    device = QiskitDevice(Own())
    with pytest.raises(ExecutorError, match="backend 'Own' is an estimator that names no backend, and gives no bits; name a"):
        device.run(first_qubit_up(), [], 5, seed=0)
    with pytest.raises(ExecutorError, match="backend 'Own' failed to run the circuit: RuntimeError: job lost"):
        device.estimate(QuantumCircuit(1), np.zeros((1, 0)), ["Z"], 100, seed=0)


def test_a_sampler_s_backend_is_transpiled_for():
    device = QiskitDevice(BackendSamplerV2(backend=coupled()))
    assert device.num_qubits == 6
    assert set(device.transpiled(fair_coins()).count_ops()) <= set(coupled().operation_names)


def test_a_resumed_run_has_the_same_circuit():
    """Of many ways to bring pairs that are far apart together."""
    circuit = QuantumCircuit(5)
    for pair in ((0, 3), (1, 4), (2, 0), (3, 1), (4, 2), (0, 4), (1, 2)):
        circuit.cx(*pair)
    first, *others = (QiskitDevice(coupled()).transpiled(circuit) for _ in range(3))
    assert others == [first] * 2


def test_translated_gates_stay_where_they_are_and_none_is_left_out():
    circuit = QuantumCircuit(6)
    circuit.h(4)
    circuit.cx(2, 3)
    circuit.cx(2, 3)
    found = QiskitDevice(coupled()).translated(circuit)
    assert set(found.count_ops()) <= set(coupled().operation_names)
    places = [[found.find_bit(qubit).index for qubit in each.qubits] for each in found.data]
    assert [each for each in places if each != [4]] == [[2, 3]] * 2
    assert [4] in places


# An IBM account -------------------------------------------------------------------------------------------------------


def fake_runtime(monkeypatch, service):
    """A module qiskit_ibm_runtime whose sampler is Aer's."""
    runtime = types.ModuleType("qiskit_ibm_runtime")
    runtime.QiskitRuntimeService = service
    runtime.SamplerV2 = lambda mode: BackendSamplerV2(backend=mode)
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", runtime)


def test_a_device_of_the_saved_account(monkeypatch):
    class IBMBackend(GenericBackendV2):
        pass

    class Service:
        def backend(self, name):
            assert name == "ibm_somewhere"
            return IBMBackend(3)

    fake_runtime(monkeypatch, Service)
    device = QiskitDevice("ibm:ibm_somewhere")
    assert (device.name, device.num_qubits) == ("ibm:ibm_somewhere", 3)
    assert device.run(device.transpiled(first_qubit_up()), [], 10, seed=0).shape == (10, 3)
    assert load_executor("qiskit", backend="ibm:ibm_somewhere").capabilities.remote
    assert not load_executor("qiskit", backend=GenericBackendV2(3)).capabilities.remote


def test_an_account_that_fails_gives_no_token_away(monkeypatch):
    class Service:
        def __init__(self):
            raise RuntimeError(f"401 Unauthorized for apikey {TOKEN}")

    fake_runtime(monkeypatch, Service)
    with pytest.raises(ExecutorError, match=r"'ibm:x' can't be reached .*401 Unauthorized.*save_account") as caught:
        QiskitDevice("ibm:x")
    assert_silent(caught)


def test_no_runtime(monkeypatch):
    monkeypatch.setitem(sys.modules, "qiskit_ibm_runtime", None)
    with pytest.raises(ExecutorError, match="'ibm:x' needs the module qiskit_ibm_runtime, .*: pip install qiskit-ibm-runtime"):
        QiskitDevice("ibm:x")


def assert_silent(caught):
    """No token in what a user sees: the message, or the traceback with the causes that Python prints."""
    assert TOKEN not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


# Errors ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"backend": "aer"}, ValueError, "backend is 'aer'; it must be an import path such as .*, or 'ibm:NAME'"),
        ({"backend": "no_such_package.x:y"}, ExecutorError, "needs the module no_such_package, .*pip install no-such-package"),
        ({"backend": "qiskit_aer:Aerr"}, ExecutorError, "the module qiskit_aer has no Aerr; check the path"),
        ({"backend": 7}, ValueError, "of type int set as backend is not a BaseSamplerV2 or a BaseEstimatorV2 or a BackendV2"),
        ({"backend": "math:pi"}, ValueError, "backend 'math:pi' is not .* but of type float"),
        (
            {"backend": "things:wrong"},
            ExecutorError,
            "made an object of type list; it must make a BaseSamplerV2 or a BaseEstimatorV2 or a BackendV2",
        ),
        ({"backend": "things:fails"}, ExecutorError, "failed when called without arguments \\(OSError: no device .* all\\)"),
        ({"noise_model": "qiskit:QuantumCircuit"}, ValueError, "is not a NoiseModel or .* the class QuantumCircuit"),
        ({"noise_model": "nothing"}, ValueError, "noise_model is 'nothing'; it must be an import path such as .*name'$"),
        ({"backend": AerSimulator(), "noise_model": AerSimulator()}, ValueError, "noise_model goes with Aer alone"),
    ],
)
def test_one_sentence_for_each_mistake(options, error, message, named):
    def fails():
        raise OSError(f"no device for token={TOKEN}\nat all")

    named(fails=fails, wrong=lambda: [])
    with pytest.raises(error, match=message) as caught:
        QiskitDevice(**options)
    assert "\n" not in str(caught.value)
    assert TOKEN not in str(caught.value)


def test_a_module_that_fails_gives_no_token_away(monkeypatch, tmp_path):
    (tmp_path / "my_device.py").write_text(f"raise RuntimeError('refused: {TOKEN}')\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ExecutorError, match="'my_device:x': importing my_device failed \\(RuntimeError: refused") as caught:
        QiskitDevice("my_device:x")
    assert_silent(caught)


@pytest.mark.parametrize(
    ("path", "is_needed"),
    [
        ("ibm:brisbane", False),
        ("qiskit_ibm_runtime.fake_provider:FakeManilaV2", False),
        ("qiskit_ibm_runtime:QiskitRuntimeService", True),
        ("qiskit_ibm_runtime.fake_provider_of_mine:Fake", True),
        ("qiskit.primitives:StatevectorSampler", False),
        ("qiskit.primitives.mine:Sampler", True),
    ],
)
def test_modules_that_only_compute_need_no_word_of_the_user(path, is_needed):
    assert bool(list(needs(ImportPath, path, None))) is is_needed


def test_too_few_qubits():
    device = QiskitDevice(GenericBackendV2(4))
    with pytest.raises(ExecutorError, match="needs 6 qubits, but backend 'GenericBackendV2' has 4"):
        device.transpiled(fair_coins(6))


def test_a_run_that_fails_gives_no_token_away():
    class Broken(StatevectorSampler):
        def run(self, pubs, *, shots=None):
            raise RuntimeError(f"job lost, Authorization: Bearer {TOKEN}")

    with pytest.raises(ExecutorError, match="backend 'Broken' failed to run the circuit: RuntimeError: job lost") as caught:
        QiskitDevice(Broken()).run(first_qubit_up(), [], 5, seed=0)
    assert_silent(caught)


def test_missing_shots_are_noticed():
    class Stingy(StatevectorSampler):
        def run(self, pubs, *, shots=None):
            return super().run([(circuit, values, wanted - 1) for circuit, values, wanted in pubs])

    with pytest.raises(ExecutorError, match="'Stingy' returned 4 shots where 5 were asked for"):
        QiskitDevice(Stingy()).run(first_qubit_up(), [], 5, seed=0)
