"""The suite passes what is right, and notices each of the mistakes that authors make."""

import ast
import math
import re

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.testing import ConformanceError, check_executor, run_executor_checks
from qvae.testing.circuit_problems import circuit_problems
from qvae.testing.circuit_trial import CircuitTrial


def failed(executor, **options):
    return {result.name for result in run_executor_checks(executor, num_samples=1000, **options) if result.outcome == "failed"}


class Shots(StatevectorExecutor):
    """Right, but from shots."""

    capabilities = ExecutorCapabilities()
    _weighted_expectations = Executor._weighted_expectations


class BigEndian(Shots):
    def _sample(self, circuit, values, shots):
        return super()._sample(circuit, values, shots).flip(-1)


class Biased(Shots):
    """Forgets the last gate."""

    def _sample(self, circuit, values, shots):
        return super()._sample(Circuit(circuit.num_qubits, circuit.gates[:-1], circuit.num_parameters), values, shots)


class OneSeedForAllRows(Shots):
    def _sample(self, circuit, values, shots):
        rows = []
        state = self.generator(values.device).get_state()
        for row in values:
            self.generator(values.device).set_state(state)
            rows.append(super()._sample(circuit, row.unsqueeze(0), shots)[0])
        return torch.stack(rows)


class OneSeedForAllCalls(Shots):
    def _sample(self, circuit, values, shots):
        self._generator = None
        return super()._sample(circuit, values, shots)


class FirstRowAlone(Shots):
    """As Aer does for circuits without parameters."""

    def _sample(self, circuit, values, shots):
        bits = super()._sample(circuit, values, shots)
        if values.shape[1] == 0:
            bits[1:] = 0
        return bits


class Unseeded(Shots):
    def generator(self, device):
        return torch.default_generator


class WrongGradient(StatevectorExecutor):
    def _weighted_expectations(self, circuit, values, weights, observables):
        return super()._weighted_expectations(circuit, 1.001 * values - 0.001 * values.detach(), weights, observables)


class SinglePrecision(StatevectorExecutor):
    def _weighted_expectations(self, circuit, values, weights, observables):
        return super()._weighted_expectations(circuit, values.float(), weights, observables).to(values.dtype)


class NoLimit(StatevectorExecutor):
    capabilities = ExecutorCapabilities(max_qubits=4, exact=True, differentiable=True)

    def _check(self, circuit, values, weights):
        pass


class OtherSign(StatevectorExecutor):
    """Y of the other sign."""

    def _weighted_expectations(self, circuit, values, weights, observables):
        flipped = [[(label, weight * (-1) ** label.count("Y")) for label, weight in terms] for terms in observables]
        return super()._weighted_expectations(circuit, values, weights, flipped)


class ForgetsWeights(StatevectorExecutor):
    def _weighted_expectations(self, circuit, values, weights, observables):
        return super()._weighted_expectations(circuit, values, None if weights is None else 0 * weights, observables)


class NoLargeAngles(Shots):
    def _sample(self, circuit, values, shots):
        return super()._sample(circuit, values.clamp(-2.5, 2.5), shots)


class Spins(Shots):
    def _sample(self, circuit, values, shots):
        return 2 * super()._sample(circuit, values, shots) - 1


@pytest.mark.parametrize(
    ("executor", "expected"),
    [
        (Shots, set()),
        (BigEndian, {"qubit q is column q", "expectations, single qubits", "distribution, single qubits"}),
        (Biased, {"qubit q is column q", "expectations, single qubits"}),
        (OneSeedForAllRows, {"fresh randomness in every call and row"}),
        (OneSeedForAllCalls, {"fresh randomness in every call and row"}),
        (FirstRowAlone, {"no parameters, several rows"}),
        (Unseeded, {"same seed, same samples"}),
        (WrongGradient, {"gradients"}),
        (SinglePrecision, {"expectations, single qubits"}),
        (NoLimit, {"refusal of more qubits than it can take", "refusal of values of another circuit"}),
        (OtherSign, {"expectations, single qubits", "gradients"}),
        (ForgetsWeights, {"weights beside values"}),
        (NoLargeAngles, {"gradients by shifts"}),
        (Spins, {"qubit q is column q", "distribution, single qubits"}),
    ],
)
def test_mistakes_are_noticed(executor, expected):
    found = failed(executor)
    assert expected <= found
    assert bool(expected) == bool(found)


def test_objects_and_functions():
    assert failed(StatevectorExecutor(seed=1)) == set()
    assert failed(lambda seed: StatevectorExecutor(seed)) == set()
    assert failed("statevector", seed=3) == set()


class Noisy(Biased):
    capabilities = ExecutorCapabilities(noisy=True)


def test_noise_is_no_failure():
    outcomes = {result.name: result.outcome for result in run_executor_checks(Noisy, num_samples=500)}
    assert outcomes["distribution, single qubits"] == "skipped"
    assert outcomes["expectations, single qubits"] == "skipped"


def test_the_report():
    with pytest.raises(ConformanceError, match=r"of \d+ checks failed:\n.*qubit q is column q: qubits 0, 1, 2 are 1 in shares"):
        check_executor(BigEndian, num_samples=100)
    report = check_executor("statevector")
    assert report.failures == []
    assert "passed  gradients: largest error" in str(report)


def test_every_gate_is_tried():
    from qvae.circuits.gates import GATES
    from qvae.testing.circuit_problems import circuit_problems

    assert {gate.name for problem in circuit_problems() for gate in problem.circuit.gates} == set(GATES)
    # Every circuit tells all of its qubits apart: no two of them could be exchanged unseen.
    for problem in circuit_problems():
        number = problem.circuit.num_qubits
        probabilities = StatevectorExecutor().amplitudes(problem.circuit, problem.values).abs().square().view(-1, *[2] * number)
        for axis in range(1, number):
            assert (probabilities - probabilities.transpose(axis, axis + 1)).abs().max() > 0.01


def test_what_is_allowed_follows_from_the_shots_and_the_weights_of_a_sum():
    """Hoeffding's bound for means of signs, McDiarmid's for total variation, at exp(-10)."""
    problem = circuit_problems()[0]
    executor = BigEndian(seed=1)
    executor.shots = 5000
    trial = CircuitTrial(executor, 4000, 10.0)
    with pytest.raises(AssertionError) as told:
        trial.expectations(problem)
    error, terms, allowed = re.match(r"(\S+) is the error of (.*), where (\S+) is allowed", str(told.value)).groups()
    weight = sum(abs(each) for _, each in ast.literal_eval(terms))
    assert float(allowed) == pytest.approx(weight * math.sqrt(2 * 10.0 / 5000), rel=0.06)  # of two digits
    assert float(error) > float(allowed)
    with pytest.raises(AssertionError) as told:
        trial.distribution(problem)
    distance, allowed = map(float, re.findall(r"\d\.\d+", str(told.value)))
    probabilities = StatevectorExecutor().amplitudes(problem.circuit, problem.values).abs().square().double()
    scatter = (probabilities * (1 - probabilities) / 4000).sqrt().sum(1) / 2
    assert min(abs(allowed - float(each) - math.sqrt(10.0 / 8000)) for each in scatter) < 6e-4
    assert distance > allowed


def test_exact_gradients_by_shifts_may_be_off_by_rounding_alone():
    class Slips(StatevectorExecutor):
        """Angles that only shifts reach are a thousandth too large."""

        def _weighted_expectations(self, circuit, values, weights, observables):
            reached = values.abs() > circuit_problems()[0].values.abs().max()
            return super()._weighted_expectations(circuit, values + 1e-3 * reached, weights, observables)

    assert CircuitTrial(StatevectorExecutor(), 10, 10.0).shifted_gradients().startswith("largest error")
    with pytest.raises(AssertionError, match="gradients by shifts are off by up to"):
        CircuitTrial(Slips(), 10, 10.0).shifted_gradients()
