"""Each check of executors by itself: what it must refuse, what it must let pass, and the numbers it tells."""

import math
import re

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gates import GATES
from qvae.errors import ExecutorError
from qvae.testing.circuit_problems import circuit_problems, coins
from qvae.testing.circuit_trial import CircuitTrial
from qvae.testing.executors import run_executor_checks
from qvae.testing.results import Skipped


class Shots(StatevectorExecutor):
    """Right, from shots."""

    capabilities = ExecutorCapabilities(max_qubits=5)
    _weighted_expectations = Executor._weighted_expectations


def trial(executor, num_samples=400):
    return CircuitTrial(executor(seed=1), num_samples, 10.0)


def readout(share, noisy=True):
    """An executor that reads so large a share of all bits wrongly."""

    class Misread(Shots):
        capabilities = ExecutorCapabilities(noisy=noisy)

        def _sample(self, circuit, values, shots):
            bits = super()._sample(circuit, values, shots)
            wrong = torch.rand(bits.shape, generator=torch.Generator().manual_seed(1)) < share
            return bits ^ wrong.to(torch.int8)

    return Misread


def off(error, of_single=False, exact=True):
    """An executor whose expectations are so far off; in float32 alone if asked."""

    class Off(StatevectorExecutor):
        capabilities = ExecutorCapabilities(exact=exact, differentiable=True)

        def _weighted_expectations(self, circuit, values, weights, observables):
            found = super()._weighted_expectations(circuit, values, weights, observables)
            return found + error * (values.dtype == torch.float32 or not of_single)

    return Off


def test_the_checks_and_what_they_allow_each():
    """The false alarms of a whole run are shared out between all means and distributions."""
    problems = circuit_problems()
    names = [problem.name for problem in problems]
    found = list(run_executor_checks(Shots, num_samples=50))
    assert [result.name for result in found] == [
        "qubit q is column q",
        *(f"expectations, {name}" for name in names),
        *(f"distribution, {name}" for name in names),
        "weights beside values",
        "no parameters, several rows",
        "any number of rows and shots",
        "fresh randomness in every call and row",
        "float32 and float64",
        "gradients",
        "gradients by shifts",
        "CUDA values",
        "refusal of more qubits than it can take",
        "refusal of values of another circuit",
        "refusal of observables of another circuit",
        "same seed, same samples",
        "another seed, other samples",
        "state",
        "pickle",
        "close",
    ]
    assert not [result for result in found if result.outcome == "failed"]
    # Two-sided for each string of letters: 2 rows x 11 of the first three times, 3 x 9 of the others, of the last one twice.
    others = math.ceil(len(GATES) / 9)
    means, distributions = 3 * 2 * 11 + 3 * 9 * (others + 1), 2 + 3 * others
    assert [tuple(problem.values.shape) for problem in problems] == [(2, 1)] + [(3, 4)] * others
    seen = []

    class Noted(CircuitTrial):
        def bit_order(self):
            seen.append((self.num_samples, self.log_level))
            return ""

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qvae.testing.executors.CircuitTrial", Noted)
        next(run_executor_checks(Shots, num_samples=50))
        next(run_executor_checks(Shots))
    assert seen[0] == (50, pytest.approx(math.log((2 * means + distributions) / 1e-3)))
    assert seen[1][0] == 4000


@pytest.mark.parametrize(("share", "noisy", "passes"), [(0.3, True, True), (0.65, True, False), (0.03, False, False)])
def test_noisy_readout_may_be_wrong_in_less_than_half_of_all_shots(share, noisy, passes):
    tried = trial(readout(share, noisy))
    if passes:
        assert tried.bit_order() == ""
    else:
        with pytest.raises(AssertionError, match=r"shares of .* where \[\[0.0, 1.0, 0.0\], \[0.0, 1.0, 1.0\]\]"):
            tried.bit_order()


def test_expectations_are_of_the_same_qubits_as_bits():
    class OtherOrder(StatevectorExecutor):
        def _weighted_expectations(self, circuit, values, weights, observables):
            turned = [[(label[::-1], weight) for label, weight in terms] for terms in observables]
            return super()._weighted_expectations(circuit, values, weights, turned)

    with pytest.raises(AssertionError) as told:
        trial(OtherOrder).bit_order()
    numbers = [round(float(number), 6) for number in re.findall(r"-?\d\.\d+", str(told.value))]
    assert numbers == [1, -1, 1, -1, -1, 1, 1, -1, 1, 1, -1, -1]


@pytest.mark.parametrize(
    ("executor", "passes"),
    [(off(5e-7), True), (off(5e-6), False), (off(0.9, exact=False), True), (off(1.1, exact=False), False)],
)
def test_how_far_expectations_of_certain_bits_may_be_off(executor, passes):
    if passes:
        trial(executor).bit_order()
    else:
        with pytest.raises(AssertionError, match="<Z> of qubits 0, 1, 2 are"):
            trial(executor).bit_order()


def test_an_exact_executor_is_right_to_rounding_of_double_precision():
    problem = circuit_problems()[0]
    assert trial(off(3e-11)).expectations(problem).startswith("largest error 3.0e-11")
    with pytest.raises(AssertionError, match=r"is the error of \[\(.*\)\], where 1.0e-10 is allowed"):
        trial(off(3e-10)).expectations(problem)


def test_the_sum_that_is_named_is_the_one_that_is_furthest_beyond_what_is_allowed():
    """Errors in two places: a larger one that its weights excuse, and a smaller one that nothing does."""
    problem = circuit_problems()[0]
    places = {"executor": None}

    class Off(Shots):
        shots = 5000

        def _weighted_expectations(self, circuit, values, weights, observables):
            found = problem.expectations()
            found[1, 9] += places["of the sum"]
            found[1, 4] -= places["of a letter"]
            return found

    # sqrt(2 * 10 / 5000) = 0.063 for a letter; the last sum's weights are 0.5 and -2.
    places.update({"of the sum": 0.15, "of a letter": 0.06})
    assert trial(Off).expectations(problem) == "largest error 1.5e-01"
    places["of a letter"] = 0.07
    with pytest.raises(AssertionError) as told:
        trial(Off).expectations(problem)
    assert str(told.value) == f"7.0e-02 is the error of {problem.observables[4]}, where 6.3e-02 is allowed"
    places.update({"of the sum": 0.16, "of a letter": 0.0})
    with pytest.raises(AssertionError, match=r"1.6e-01 is the error of .*'III', 0.5.*, where 1.6e-01 is"):
        trial(Off).expectations(problem)


def test_expectations_leave_values_as_they_are():
    class Adds(StatevectorExecutor):
        def _weighted_expectations(self, circuit, values, weights, observables):
            found = super()._weighted_expectations(circuit, values, weights, observables)
            values += 1
            return found

    with pytest.raises(AssertionError, match="expectations changed the values"):
        trial(Adds).expectations(circuit_problems()[0])


def test_noise_is_measured_and_told_but_no_failure():
    tried, problem = trial(readout(0.2)), circuit_problems()[0]
    exact = problem.expectations()
    for check, told in ((tried.expectations, "error"), (tried.distribution, "total variation up to")):
        with pytest.raises(Skipped, match=f"form right; it is noisy, .*{told}") as skipped:
            check(problem)
        assert 0.1 < float(str(skipped.value).split()[-1]) < 2
    with pytest.raises(Skipped, match="form right; it is noisy, largest error 0"):
        tried.shifted_gradients()
    assert exact.shape == (2, 10)


def test_a_fault_in_a_single_row_is_found():
    class SecondRow(Shots):
        def _sample(self, circuit, values, shots):
            bits = super()._sample(circuit, values, shots)
            bits[1] = bits[1].flip(-1)
            return bits

    with pytest.raises(AssertionError, match="not the circuit's distribution: total variation 0"):
        trial(SecondRow).distribution(circuit_problems()[0])


class OneForAllRows(Shots):
    def _weighted_expectations(self, circuit, values, weights, observables):
        if weights is not None:
            values = values.new_ones(1, values.shape[1]).expand_as(values) * values[:1]
        return super()._weighted_expectations(circuit, values, weights, observables)


class LosesARow(Shots):
    def sample(self, circuit, values, shots, weights=None):
        found = super().sample(circuit, values, shots, weights)
        return found if weights is None else found[1:]


def constant(bit, qubit):
    class Constant(Shots):
        def _sample(self, circuit, values, shots):
            bits = super()._sample(circuit, values, shots)
            bits[-1, :, qubit] = bit
            return bits

    return Constant


class NoneOfNoParameters(Shots):
    def _weighted_expectations(self, circuit, values, weights, observables):
        if values.shape[1] == 0:
            raise ValueError("no columns")
        return super()._weighted_expectations(circuit, values, weights, observables)


class OneShotIsNone(Shots):
    def _sample(self, circuit, values, shots):
        return super()._sample(circuit, values, shots).squeeze(1)


class KeepsTheNumber(Shots):
    number = None

    def _sample(self, circuit, values, shots):
        self.number = self.number or shots
        return super()._sample(circuit, values, self.number)


class NoEmptyBatch(Shots):
    def expectations(self, circuit, values, observables, weights=None):
        return super().expectations(circuit, values, observables, weights)[0].unsqueeze(0)


class NoEmptySample(Shots):
    def sample(self, circuit, values, shots, weights=None):
        return super().sample(circuit, values, shots, weights)[[0]]


class LastRowsAlike(Shots):
    """Two of three rows share a stream, which pair of them is said by ``alike``."""

    alike = (1, 2)

    def _sample(self, circuit, values, shots):
        bits = super()._sample(circuit, values, shots)
        if len(bits) == 3:
            bits[self.alike[1]] = bits[self.alike[0]]
        return bits


class FirstRowsAlike(LastRowsAlike):
    alike = (0, 1)


class GivesGradients(Shots):
    """Says that it isn't differentiable, and returns a derivative of nothing."""

    def _refuse_gradients(self, values, weights):
        pass


class TakesIntegers(Shots):
    def expectations(self, circuit, values, observables, weights=None):
        return super().expectations(circuit, values.float(), observables, weights)


class TakesARow(Shots):
    def expectations(self, circuit, values, observables, weights=None):
        return super().expectations(circuit, values if values.ndim == 2 else values.unsqueeze(0), observables, weights)


class TakesMore(Shots):
    def expectations(self, circuit, values, observables, weights=None):
        return super().expectations(circuit, values[:, : circuit.num_parameters], observables, weights)


class SamplesMore(Shots):
    def sample(self, circuit, values, shots, weights=None):
        return super().sample(circuit, values[:, : circuit.num_parameters], shots, weights)


def takes_labels(mend):
    class TakesLabels(Shots):
        def expectations(self, circuit, values, observables, weights=None):
            mended = [[(mend(label), weight) for label, weight in terms] for terms in observables]
            return super().expectations(circuit, values, mended, weights)

    return TakesLabels


class OneMore(Shots):
    """Takes a qubit more than it says."""

    def check_size(self, num_qubits):
        super().check_size(num_qubits - 1)


class NotClosed(Shots):
    def close(self):
        raise OSError("no connection")


@pytest.mark.parametrize(
    ("executor", "check", "error", "message"),
    [
        (OneForAllRows, CircuitTrial.weights, AssertionError, "is the error of"),
        (LosesARow, CircuitTrial.weights, AssertionError, r"bits have shape \(2, 5, 4\)"),
        (
            constant(0, 0),
            CircuitTrial.no_parameters,
            AssertionError,
            r"X on qubit 0 gives 1 in .*\[1.0, 1.0, 0.0\] in",
        ),
        (constant(0, 1), CircuitTrial.no_parameters, AssertionError, "H on qubit 1 always gives the same bit"),
        (constant(1, 1), CircuitTrial.no_parameters, AssertionError, "H on qubit 1 always gives the same bit"),
        (constant(2, 1), CircuitTrial.no_parameters, AssertionError, r"bits hold \[2\]; they must be 0 or 1"),
        (NoneOfNoParameters, CircuitTrial.no_parameters, ExecutorError, "no columns"),
        (OneShotIsNone, CircuitTrial.any_number, ExecutorError, r"it must be torch.int8 of shape \(2, 1, 3\)"),
        (
            KeepsTheNumber,
            CircuitTrial.any_number,
            ExecutorError,
            r"\(2, 1, 3\); it must be .* \(2, 37, 3\)",
        ),
        (NoEmptyBatch, CircuitTrial.any_number, IndexError, "index.* is out of"),
        (NoEmptySample, CircuitTrial.any_number, IndexError, "index.* is out of"),
        (LastRowsAlike, CircuitTrial.fresh_randomness, AssertionError, "derive a fresh seed for each row"),
        (FirstRowsAlike, CircuitTrial.fresh_randomness, AssertionError, "derive a fresh seed for each row"),
        (
            off(3e-5, of_single=True),
            CircuitTrial.precisions,
            AssertionError,
            "float32 the error is 3.0e-05; 1e-5 is",
        ),
        (off(3e-6, of_single=True), CircuitTrial.precisions, None, ""),
        (
            GivesGradients,
            CircuitTrial.gradients,
            AssertionError,
            r"values of shape \(3, 4\) for 4 qubits, with gradients$",
        ),
        (Shots, CircuitTrial.gradients, None, "it has none, and says so"),
        (TakesIntegers, CircuitTrial.wrong_values, AssertionError, r"expectations took .* \(1, 1\) for 3 qubits$"),
        (TakesARow, CircuitTrial.wrong_values, AssertionError, r"expectations took .* \(1,\) for 3 qubits$"),
        (TakesMore, CircuitTrial.wrong_values, AssertionError, r"expectations took .* \(1, 2\) for 3 qubits$"),
        (SamplesMore, CircuitTrial.wrong_values, AssertionError, r"sample took .* \(1, 2\) for 3 qubits$"),
        (
            takes_labels(lambda label: label.rjust(3, "I")),
            CircuitTrial.wrong_observables,
            AssertionError,
            "label 'ZI' for",
        ),
        (
            takes_labels(lambda label: label[:3]),
            CircuitTrial.wrong_observables,
            AssertionError,
            "label 'ZIIZ' for three",
        ),
        (
            takes_labels(lambda label: label.replace("A", "I")),
            CircuitTrial.wrong_observables,
            AssertionError,
            "label 'ZAI'",
        ),
        (Shots, CircuitTrial.too_many_qubits, None, "refuses 6 qubits"),
        (OneMore, CircuitTrial.too_many_qubits, AssertionError, r"expectations took .* \(1, 0\) for 6 qubits$"),
        (readout(0.1), CircuitTrial.too_many_qubits, Skipped, "it sets no limit"),
        (Shots, CircuitTrial.cuda, Skipped, "there is no CUDA device here"),
        (NotClosed, CircuitTrial.close, OSError, "no connection"),
    ],
)
def test_each_check_refuses_its_fault(executor, check, error, message, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    if error is None:
        assert check(trial(executor)) == message or not message
    else:
        with pytest.raises(error, match=message):
            check(trial(executor))


@pytest.mark.parametrize(("wrong", "passes"), [("expectations", False), ("sample", False), ("none", True)])
def test_results_lie_where_values_do(wrong, passes, monkeypatch):
    """The device without numbers stands for a GPU."""

    class Elsewhere(Shots):
        def expectations(self, circuit, values, observables, weights=None):
            return torch.zeros(1, device="cpu" if wrong == "expectations" else values.device)

        def sample(self, circuit, values, shots, weights=None):
            return torch.zeros(1, device="cpu" if wrong == "sample" else values.device)

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.Tensor, "cuda", lambda self: self.to("meta"))
    if passes:
        assert trial(Elsewhere).cuda() == ""
    else:
        with pytest.raises(AssertionError, match="results are on cpu, not on meta as values are"):
            trial(Elsewhere).cuda()


def test_problems_hold_every_kind_of_angle_and_a_parameter_without_a_gate():
    problems = circuit_problems()
    assert coins().num_parameters == 1
    assert [gate.name for gate in coins().gates] == ["h"] * 3
    angles = [angle for problem in problems for gate in problem.circuit.gates for angle in gate.angles]
    assert any(isinstance(angle, float) for angle in angles)
    assert {angle.index for angle in angles if not isinstance(angle, float)} == {0, 1, 2, 3}
    letters = {letter for problem in problems for terms in problem.observables for label, _ in terms for letter in label}
    assert letters == set("IXYZ")
    assert torch.equal(problems[1].expectations(problems[1].values), problems[1].expectations())
