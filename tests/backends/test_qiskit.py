"""Circuits through Qiskit: right on every kind of backend, seeded, transpiled once, and in one sentence where it fails."""

import importlib.util
import pickle
import sys

import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.registry import executor_options, load_executor
from qvae.errors import ExecutorError
from qvae.testing import check_executor

pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")

from qiskit.primitives import StatevectorSampler
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel, ReadoutError

COINS = Circuit(2, [Gate("h", (0,)), Gate("ry", (1,), (Affine(0),))], num_parameters=1)


def coupled():
    return GenericBackendV2(4, coupling_map=[(0, 1), (1, 2), (2, 3)], seed=1)


@pytest.mark.parametrize(
    "backend",
    [
        AerSimulator(n_qubits=12),
        coupled(),
        "qiskit.primitives:StatevectorSampler",
        "qiskit.primitives:StatevectorEstimator",
    ],
)
def test_conformance(backend):
    check_executor("qiskit", num_samples=1000, backend=backend)


def test_an_estimator_is_asked_for_the_precision_of_the_shots_on_the_qubits_of_the_backend():
    from qiskit.primitives import BackendEstimatorV2

    asked = []

    class Watched(BackendEstimatorV2):
        def run(self, pubs, *, precision=None):
            asked.append((precision, [operator.paulis.to_labels() for operator in pubs[0][1]]))
            return super().run(pubs, precision=precision)

    executor = load_executor("qiskit", backend=Watched(backend=coupled()), shots=400)
    circuit = Circuit(2, [Gate("x", (1,)), Gate("cx", (1, 0))])
    found = executor.expectations(circuit, torch.zeros(1, 0), [[("IZ", 1.0)], [("ZI", 2.0)]])
    assert ((found - torch.tensor([[-1.0, -2.0]])).abs() < 0.6).all()
    assert asked[0][0] == pytest.approx(0.05)
    assert all(len(label) == 4 for labels in asked[0][1] for label in labels)


def test_noise():
    """Wrong in a share that the noise explains, on a backend that has the circuit's couplings by detours only."""
    circuit = Circuit(4, [Gate("h", (0,)), Gate("cx", (0, 3)), Gate("cx", (0, 2))])
    observables = [[("ZIIZ", 1.0)], [("XXIX", 1.0)]]
    found = load_executor("qiskit", backend=coupled(), shots=5000, seed=0).expectations(circuit, torch.zeros(1, 0), observables)
    assert (found > 0.8).all()
    assert (found < 1).all()
    inverted = NoiseModel()
    inverted.add_all_qubit_readout_error(ReadoutError([[0, 1], [1, 0]]))
    executor = load_executor("qiskit", noise_model=inverted)
    assert executor.capabilities.noisy
    assert executor.sample(Circuit(2, [Gate("x", (1,))]), torch.zeros(1, 0), 3).tolist() == [[[1, 0]] * 3]


@pytest.mark.parametrize("name", ["cp", "crx", "cry", "crz", "cu1", "cu3"])
def test_controlled_rotations_of_parameters(name):
    """Aer itself leaves them out where several values are bound in one run."""
    angles = (Affine(0), 0.0, 0.0) if name == "cu3" else (Affine(0),)
    gates = [Gate("x", (0,)), Gate("h", (1,)), Gate(name, (0, 1), angles), Gate("h", (1,))]
    if name in ("cry", "cu3"):
        gates = [gates[0], gates[2]]
    if name == "crx":
        gates = [gates[0], gates[2]]
    values = torch.tensor([[0.0], [torch.pi]])
    found = load_executor("qiskit", seed=0).expectations(Circuit(2, gates, 1), values, [[("ZI", 1.0)]])
    assert found.tolist() == [[1], [-1]]


def test_all_rows_and_bases_are_one_call(monkeypatch):
    executor = load_executor("qiskit", seed=0, shots=200)
    run, counted = executor._device.run_together, []
    monkeypatch.setattr(executor._device, "run_together", lambda *arguments: counted.append(1) or run(*arguments))
    observables = [[("ZI", 1.0)], [("IX", 1.0), ("YY", 0.5)], [("ZZ", 1.0)]]
    executor.expectations(COINS, torch.zeros(5, 1), observables)
    assert len(counted) == 1


def test_many_rows_are_a_few_calls(monkeypatch):
    """Each with fresh random numbers, and rows in their order."""
    monkeypatch.setattr("qvae_backends.qiskit._SHOTS", 100)
    executor = load_executor("qiskit", seed=0)
    run, sizes = executor._device.run_together, []
    monkeypatch.setattr(executor._device, "run_together", lambda runs, seed: sizes.append(len(runs[0][1])) or run(runs, seed))
    values = torch.tensor([[0.0], [torch.pi], [0.0], [torch.pi], [torch.pi]])
    bits = executor.sample(COINS, values, 50)
    assert sizes == [2, 2, 1]
    assert (bits[:, :, 1] == torch.tensor([0, 1, 0, 1, 1])[:, None]).all()
    assert not torch.equal(bits[1], bits[3])


def test_the_mean_of_an_identity_is_known():
    for backend in (None, "qiskit.primitives:StatevectorEstimator"):
        found = load_executor("qiskit", backend=backend).expectations(COINS, torch.zeros(2, 1), [[("II", 0.5)], [("IZ", 0.0)]])
        assert found[:, 0].tolist() == [0.5, 0.5]


def test_aer_is_its_name_too():
    assert not load_executor("aer", shots=3).capabilities.noisy


def test_samples_are_of_the_circuit_as_it_is_whatever_the_scales_of_expectations():
    executor, scales = load_executor("qiskit", backend=AerSimulator(n_qubits=2), zero_noise_scales=[3, 1], seed=0), []
    measured = executor._measured
    executor._measured = lambda circuit, scale: scales.append(scale) or measured(circuit, scale)
    executor.sample(COINS, torch.zeros(1, 1), 5)
    assert scales == [1]
    executor.expectations(COINS, torch.zeros(1, 1), [[("ZI", 1.0), ("IX", 1.0)]])
    assert scales[1:] == [3, 1]  # in one basis


def test_a_circuit_is_transpiled_once(monkeypatch):
    executor = load_executor("qiskit", seed=0)
    transpiled, counted = executor._device.transpiled, []
    monkeypatch.setattr(executor._device, "transpiled", lambda circuit: counted.append(1) or transpiled(circuit))
    for values in (torch.zeros(1, 1), torch.ones(3, 1)):
        executor.sample(COINS, values, 5)
        executor.expectations(Circuit(2, list(COINS.gates), 1), values, [[("ZI", 1.0)]])
    # Bits in the Z basis, which expectations of Z take as well.
    assert len(counted) == 1


def test_parameters_that_no_measurement_sees():
    circuit = Circuit(2, [Gate("rz", (0,), (Affine(0),)), Gate("rx", (1,), (Affine(2),))], num_parameters=3)
    bits = load_executor("qiskit").sample(circuit, torch.tensor([[1.0, 2.0, torch.pi]]), 4)
    assert bits.tolist() == [[[0, 1]] * 4]


def test_copies_connect_anew():
    first = load_executor("qiskit", backend="qiskit_aer:AerSimulator", seed=1)
    first.sample(COINS, torch.ones(2, 1), 20)
    copy = pickle.loads(pickle.dumps(first))
    assert torch.equal(copy.sample(COINS, torch.ones(2, 1), 20), first.sample(COINS, torch.ones(2, 1), 20))


# Options and errors; those of the backend are tested in test_qiskit_device.py -----------------------------------------


def test_options_are_registered():
    names = ["backend", "noise_model", "shots", "readout_mitigation", "zero_noise_scales", "seed"]
    assert list(executor_options("qiskit")) == names
    assert load_executor("qiskit", shots=77).shots == 77


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shots": 0}, "executor 'qiskit' refuses its options: shots is 0; it must be a whole number, 1 or more"),
        ({"backend": "aer"}, "refuses its options: backend is 'aer'; it must be an import path"),
        ({"backend": "nowhere:x"}, "backend 'nowhere:x' needs the module nowhere"),
        ({"noise_model": 3}, "the object of type int set as noise_model is not a NoiseModel or a BackendV2"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ExecutorError, match=message) as caught:
        load_executor("qiskit", **options)
    assert "\n" not in str(caught.value)


def test_a_backend_that_is_too_small_or_fails():
    class Broken(StatevectorSampler):
        def run(self, pubs, *, shots=None):
            raise RuntimeError("job lost")

    with pytest.raises(ExecutorError, match="executor 'qiskit' can't run 5 qubits: it takes at most 4 qubits"):
        load_executor("qiskit", backend=coupled()).sample(Circuit(5, []), torch.zeros(1, 0), 1)
    with pytest.raises(ExecutorError, match="backend 'Broken' failed to run the circuit: RuntimeError: job lost"):
        load_executor("qiskit", backend=Broken()).sample(COINS, torch.zeros(1, 1), 1)


def test_couplings_in_pieces_are_told_before_anything_runs():
    pieces = GenericBackendV2(4, coupling_map=[(0, 1), (1, 0), (2, 3), (3, 2)], seed=1)
    entangled = Circuit(3, [Gate("h", (0,)), Gate("cx", (0, 1)), Gate("cx", (1, 2))])
    executor = load_executor("qiskit", backend=pieces)
    executor._device._sampler = None
    message = "the circuit of 3 qubits finds no place on backend 'GenericBackendV2', whose couplings may be in pieces"
    for observables in ([[("ZZZ", 1.0)]], [[("XXX", 1.0)], [("ZZZ", 1.0)]]):
        with pytest.raises(ExecutorError, match=message):
            executor.expectations(entangled, torch.zeros(2, 0), observables)


def test_without_qiskit(monkeypatch):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "qiskit_aer" else real(name, *rest))
    for module in ("qiskit", "qiskit_device"):
        monkeypatch.delitem(sys.modules, f"qvae_backends.{module}")
    remedy = r"pip install -e '\.\[qiskit\]' in the clone of qvae"
    with pytest.raises(ExecutorError, match=f"executor 'qiskit' needs the module qiskit_aer, which isn't installed: {remedy}"):
        load_executor("qiskit")
