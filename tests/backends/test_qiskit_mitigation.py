"""Error mitigation: exact where errors are as it takes them to be, and less error on a noisy backend."""

import math

import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.library import angle_encoding, compose, hardware_efficient
from qvae.circuits.registry import load_executor
from qvae.errors import ExecutorError

pytest.importorskip("qiskit_aer", reason="Qiskit is not installed")

from qiskit import QuantumCircuit
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.quantum_info import Operator
from qiskit_aer.noise import NoiseModel, ReadoutError, depolarizing_error
from qvae_backends.qiskit_mitigation import (
    extrapolation_weights,
    folded,
    measured_qubits,
    mitigated_mean,
    prepared,
    signs_of_bits,
)

GHZ = Circuit(3, [Gate("ry", (0,), (Affine(0),)), Gate("cx", (0, 1)), Gate("cx", (1, 2))], num_parameters=1)
VALUES = torch.tensor([[0.0], [1.1], [2.5]], dtype=torch.float64)
OBSERVABLES = [[("ZZZ", 1.0)], [("IIZ", 0.5), ("ZZI", -1.0)], [("XXX", 1.0)]]
SHOTS = 4000


def exact():
    return load_executor("statevector").expectations(GHZ, VALUES, OBSERVABLES)


def worst_error(shots=SHOTS, **options):
    found = load_executor("qiskit", seed=3, shots=shots, **options).expectations(GHZ, VALUES, OBSERVABLES)
    return float((found - exact()).abs().max())


def biased_readout():
    """Another error for every qubit and for |0> and |1>."""
    model = NoiseModel()
    for qubit, (up, down) in enumerate([(0.02, 0.1), (0.05, 0.15), (0.12, 0.03)]):
        model.add_readout_error(ReadoutError([[1 - up, up], [down, 1 - down]]), [qubit])
    return model


def noisy_gates():
    model = NoiseModel()
    model.add_all_qubit_quantum_error(depolarizing_error(0.1, 2), ["cx"])
    return model


# Readout --------------------------------------------------------------------------------------------------------------


def test_readout_errors_of_qubits_are_undone_to_within_the_shots():
    """Five standard errors: each reading counts for up to 1/contrast, and there are up to three in a product."""
    amplified = 1 / ((1 - 0.12) * (1 - 0.2) * (1 - 0.15))
    allowed = 1.5 * 5 * amplified / math.sqrt(SHOTS)
    assert worst_error(noise_model=biased_readout) > 2 * allowed
    assert worst_error(noise_model=biased_readout, readout_mitigation=True) < allowed


def test_readout_is_calibrated_once_for_each_set_of_qubits(monkeypatch):
    executor = load_executor("qiskit", noise_model=biased_readout, readout_mitigation=True, shots=50)
    run, counted = executor._device.run_together, []

    def counting(runs, seed):
        counted.append([shots for _, _, shots in runs])
        return run(runs, seed)

    monkeypatch.setattr(executor._device, "run_together", counting)
    for _ in range(2):
        executor.expectations(GHZ, VALUES, OBSERVABLES)
    assert len(counted) == 2 + 1
    assert counted[1] == [500, 500]  # all qubits down, and all up; ten times the shots, since all later calls rest on them


def test_the_same_qubits_in_another_order_are_other_readings():
    """A bit is put right by what is known of the qubit that was read into it."""
    executor = load_executor("qiskit", noise_model=biased_readout, readout_mitigation=True, shots=200)
    wrong = {(0, 1): torch.tensor([0.1, 0.3]), (1, 0): torch.tensor([0.3, 0.1])}  # readings of |0> as 1

    def read(runs, seed):
        (first, _, shots), _ = runs
        zeros = torch.rand(shots, 2, generator=torch.Generator().manual_seed(seed % 1000)) < wrong[measured_qubits(first)]
        return [zeros.numpy(), torch.ones(shots, 2, dtype=torch.bool).numpy()]

    executor._device.run_together = read
    for qubits, shares in wrong.items():
        circuit = QuantumCircuit(2, 2)
        circuit.measure(qubits, [0, 1])
        bits = (torch.arange(1000)[:, None] < 1000 * shares).to(torch.int8)  # what |00> is read as
        for label in ("IZ", "ZI"):
            assert float(executor._mean(label, bits, circuit)) == pytest.approx(1, abs=5 * 2 / (0.7 * 2000**0.5) * 0.46)


def test_signs_are_the_inverse_of_the_readings():
    zeros = torch.tensor([[0], [0], [0], [1]])
    ones = torch.tensor([[1], [0], [1], [1], [1]])
    signs = signs_of_bits(zeros, ones)
    assert signs[0] @ torch.tensor([0.75, 0.25]).double() == pytest.approx(1)
    assert signs[0] @ torch.tensor([0.2, 0.8]).double() == pytest.approx(-1)
    assert signs_of_bits(torch.ones(3, 1), torch.zeros(5, 1)).tolist() == [[-1, 1]]  # of a qubit whose readings are exchanged
    bits = torch.tensor([[[0, 1], [1, 1]]])
    perfect = torch.tensor([[1.0, -1.0]] * 2).double()
    assert mitigated_mean("ZZ", bits, perfect).tolist() == [0]
    assert mitigated_mean("ZI", bits, perfect).tolist() == [-1]
    assert mitigated_mean("II", bits, perfect).tolist() == [1]


def test_a_random_reading_is_refused():
    message = "readout of the circuit's qubit 1 can't be mitigated: it is read as 1 in 50% of |0> and 50% of |1>; take another"
    for exchanged in (0, 1):  # the other qubit is read perfectly, or the other way round
        bits = torch.tensor([[exchanged, 0], [exchanged, 1]])
        with pytest.raises(ExecutorError, match=message.replace("|", r"\|")):
            signs_of_bits(bits, 1 - bits)
    ups = (torch.arange(100)[:, None] < torch.tensor([50, 54, 56, 44])).long()  # in a hundred
    for number, refused in ((1, True), (2, False), (3, False)):
        try:
            signs_of_bits(ups[:, :1], ups[:, number : number + 1])
        except ExecutorError:
            assert refused
        else:
            assert not refused


def test_calibration_is_of_the_qubits_that_are_measured():
    circuit = QuantumCircuit(4, 2)
    circuit.measure([3, 1], [0, 1])
    assert measured_qubits(circuit) == (3, 1)
    assert measured_qubits(prepared(circuit, up=True)) == (3, 1)
    assert [prepared(circuit, up).count_ops().get("x", 0) for up in (False, True)] == [0, 2]


# Gates ----------------------------------------------------------------------------------------------------------------


def test_folding_repeats_all_gates_and_changes_nothing():
    circuit = QuantumCircuit(3, 3)
    circuit.sx(0)
    circuit.rz(0.7, 1)
    circuit.cx(0, 2)
    circuit.ecr(1, 2)
    circuit.barrier()
    circuit.measure([2, 0, 1], [0, 1, 2])
    for scale in (1, 3, 5):
        more = folded(circuit, scale)
        assert more.count_ops()["cx"] == scale
        assert measured_qubits(more) == (2, 0, 1)
        plain = [each.remove_final_measurements(inplace=False) for each in (circuit, more)]
        assert Operator(plain[0]).equiv(Operator(plain[1]))


def test_a_folded_circuit_keeps_its_gates_on_the_backend():
    backend = GenericBackendV2(4, coupling_map=[(0, 1), (1, 2), (2, 3)], seed=1)
    executor = load_executor("qiskit", backend=backend, zero_noise_scales=[1, 3])
    once, thrice = (executor._measured(GHZ, scale) for scale in (1, 3))
    assert set(thrice.count_ops()) <= {*backend.operation_names, "barrier"}
    assert thrice.count_ops()["cx"] == 3 * once.count_ops()["cx"]


def test_extrapolation_is_exact_for_polynomials():
    scales = [1, 3, 5]
    weights = extrapolation_weights(scales)
    assert sum(weights) == pytest.approx(1)
    for power in (1, 2):
        assert sum(weight * scale**power for weight, scale in zip(weights, scales, strict=True)) == pytest.approx(0)


def test_depolarizing_gates_are_extrapolated():
    """Two gates damp <ZZZ> and <XXX> by 0.9 squared, hence a loss of 0.19, of which the parabola leaves 0.014."""
    plain = worst_error(noise_model=noisy_gates, shots=20_000)
    assert plain == pytest.approx(0.19, abs=5 * 1.5 / math.sqrt(20_000))
    assert worst_error(noise_model=noisy_gates, shots=20_000, zero_noise_scales=[1, 3, 5]) < plain / 2


# Both -----------------------------------------------------------------------------------------------------------------


def test_a_noisy_backend_errs_less_with_each_and_least_with_both():
    """Four qubits on a line of five, with routing and the errors of Qiskit's generic backend."""
    backend = GenericBackendV2(5, coupling_map=[(0, 1), (1, 2), (2, 3), (3, 4)], seed=1)
    circuit = compose(angle_encoding(4), hardware_efficient(4, 3))
    values = torch.randn(2, circuit.num_parameters, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    observables = [[(label, 1.0)] for label in ("IIIZ", "IIZZ", "ZZZZ", "ZIZI")]
    exact = load_executor("statevector").expectations(circuit, values, observables)

    def error(**options):
        executor = load_executor("qiskit", backend=backend, shots=10_000, seed=1, **options)
        return float((executor.expectations(circuit, values, observables) - exact).square().mean().sqrt())

    readout, gates = {"readout_mitigation": True}, {"zero_noise_scales": [1, 3]}
    assert error(**readout, **gates) < error(**gates) < error(**readout) < error()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"zero_noise_scales": [1, 2]}, r"zero_noise_scales is \[1, 2\]; it must be different odd numbers, as \[1, 3\]"),
        ({"zero_noise_scales": [3, 3]}, "must be different odd numbers"),
        ({"zero_noise_scales": []}, "must be different odd numbers"),
        (
            {"zero_noise_scales": [1, 3], "backend": "qiskit.primitives:StatevectorEstimator"},
            "zero_noise_scales goes with samplers, but backend is an estimator; set what it has in its own options",
        ),
        ({"readout_mitigation": True, "backend": "qiskit.primitives:StatevectorEstimator"}, "readout_mitigation goes with"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ExecutorError, match=message):
        load_executor("qiskit", **options)
