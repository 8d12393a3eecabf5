"""Conformance suite for executors: small circuits x properties, with dense matrices as ground truth.

A plugin author's test is one line, and ``qvae executors check NAME`` runs the same::

    def test_conformance():
        check_executor("my-executor")
"""

from __future__ import annotations

import inspect
import math
import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.dense import dense_expectation, dense_state
from qvae.circuits.executor import Executor
from qvae.circuits.gates import GATES
from qvae.circuits.paulis import PauliSum
from qvae.circuits.registry import executor_options, load_executor
from qvae.errors import CircuitError, ExecutorError
from qvae.options import named_parameters
from qvae.testing import CheckResult, ConformanceError, ConformanceReport
from qvae.testing import _require as require
from qvae.testing import _result as run_check
from qvae.testing import _Skipped as Skipped

FALSE_ALARM = 1e-3
"""Probability that a perfect executor fails some statistical check of a whole run, at most."""
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
"""Largest error of the expectations of an executor that calls itself exact, for coefficients of about one."""

Checkable = str | Executor | Callable[..., Executor]


def check_executor(executor: Checkable, /, *, num_samples: int = 4000, **options: Any) -> ConformanceReport:
    """Run the suite on an executor; see :func:`run_executor_checks` for the arguments.

    Raises:
        ConformanceError: an AssertionError that lists the checks that failed.
    """
    report = ConformanceReport(list(run_executor_checks(executor, num_samples=num_samples, **options)))
    if report.failures:
        raise ConformanceError(report)
    return report


def run_executor_checks(executor: Checkable, /, *, num_samples: int = 4000, **options: Any) -> Iterator[CheckResult]:
    """The suite's checks one by one, each result as soon as it is there.

    Expectations from shots are compared with the exact ones by Hoeffding's bound, total variation by McDiarmid's; both hold
    for any number of shots, and are shared out so that a perfect executor fails with a probability of at most ``FALSE_ALARM``.

    Args:
        executor: a registered name, a class or function that makes an executor, or an executor; copies of that are used,
            and its seeds can't be checked.
        num_samples: shots in each call of ``sample``; expectations take the executor's own ``shots``.
        options: for a name, class or function.
    """
    subject = _Subject(executor, options)
    problems = _problems()
    labels = sum(len(problem.values) * len(terms) for problem in problems for terms in problem.observables)
    distributions = sum(len(problem.values) for problem in problems)
    trial = _Trial(subject.make(seed=1), num_samples, math.log((2 * labels + distributions) / FALSE_ALARM))
    yield run_check("qubit q is column q", trial.bit_order)
    for problem in problems:
        yield run_check(f"expectations, {problem.name}", trial.expectations, problem)
    for problem in problems:
        yield run_check(f"distribution, {problem.name}", trial.distribution, problem)
    for name, check in (
        ("no parameters, several rows", trial.no_parameters),
        ("any number of rows and shots", trial.any_number),
        ("fresh randomness in every call and row", trial.fresh_randomness),
        ("float32 and float64", trial.precisions),
        ("gradients", trial.gradients),
        ("CUDA values", trial.cuda),
        ("refusal of more qubits than it can take", trial.too_many_qubits),
        ("refusal of values of another circuit", trial.wrong_values),
        ("refusal of observables of another circuit", trial.wrong_observables),
        ("same seed, same samples", subject.same_seed),
        ("another seed, other samples", subject.another_seed),
        ("state", subject.state),
        ("pickle", subject.pickles),
        ("close", trial.close),
    ):
        yield run_check(name, check)


# Problems -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Problem:
    name: str
    circuit: Circuit
    values: Tensor
    observables: list[PauliSum]


def _problems() -> list[_Problem]:
    """Every gate of the table in some circuit, at angles that are numbers and that follow parameters."""
    numbers = torch.Generator().manual_seed(20)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=numbers, dtype=torch.float64)

    def angle() -> float | Affine:
        index = int(torch.randint(5, (), generator=numbers))
        scale, offset = normal(2).tolist()
        return offset if index == 4 else Affine(index, scale, offset)

    def gate(name: str) -> Gate:
        qubits = torch.randperm(4, generator=numbers)[: GATES[name].num_qubits]
        return Gate(name, tuple(qubits.tolist()), tuple(angle() for _ in range(GATES[name].num_angles)))

    def observable() -> PauliSum:
        letters = torch.randint(4, (3, 4), generator=numbers).tolist()
        return [("".join("IXYZ"[letter] for letter in row), weight) for row, weight in zip(letters, normal(3).tolist())]

    # Axes of three qubits that are all different, so that a wrong sign, letter or order shows.
    axes = Circuit(3, [Gate("ry", (0,), (0.4,)), Gate("rx", (1,), (Affine(0, 0.5, 0.3),)), Gate("u", (2,), (0.7, 0.9, 0.2))], 1)
    single = [[("I" * (2 - qubit) + letter + "I" * qubit, 1.0)] for qubit in range(3) for letter in "XYZ"]
    problems = [_Problem("single qubits", axes, normal(2, 1), [*single, [("III", 0.5), ("ZII", -2.0)]])]
    mixing = [Gate("ry", (qubit,), (angle(),)) for qubit in range(4)]
    names = list(GATES)
    for start in range(0, len(names), 9):
        gates = [gate(name) for name in names[start : start + 9]]
        circuit = Circuit(4, [*mixing, *gates], num_parameters=4)
        problems.append(_Problem(f"{gates[0].name} to {gates[-1].name}", circuit, normal(3, 4), [observable() for _ in range(3)]))
    return problems


def _coins() -> Circuit:
    """Three fair coins and a parameter that no gate follows."""
    return Circuit(3, [Gate("h", (qubit,)) for qubit in range(3)], num_parameters=1)


# Checks ---------------------------------------------------------------------------------------------------------------


@dataclass
class _Trial:
    """One executor on one problem after the other; ``log_level`` is minus the log false-alarm probability of one test."""

    executor: Executor
    num_samples: int
    log_level: float

    def bit_order(self) -> str:
        """X on qubit 1 of 3 sets column 1, and -<Z_1> only; in a second row a parameter sets qubit 2."""
        circuit = Circuit(3, [Gate("x", (1,)), Gate("rx", (2,), (Affine(0),))], num_parameters=1)
        values = torch.tensor([[0.0], [math.pi]], dtype=torch.float64)
        means = self._sampled(circuit, values, 100).double().mean(1)
        expected = torch.tensor([[0.0, 1, 0], [0, 1, 1]], dtype=torch.float64)
        slack = 0.5 if self.executor.capabilities.noisy else 1e-9
        text = f"qubits 0, 1, 2 are 1 in shares of {means.tolist()} where {expected.tolist()} are right"
        require(bool((means - expected).abs().max() < slack), text)
        found = self.executor.expectations(circuit, values, [[("IIZ", 1.0)], [("IZI", 1.0)], [("ZII", 1.0)]])
        text = f"<Z> of qubits 0, 1, 2 are {found.tolist()} where {(1 - 2 * expected).tolist()} are right"
        require(bool((found - (1 - 2 * expected)).abs().max() < max(1e-6, 2 * slack)), text)
        return ""

    def expectations(self, problem: _Problem) -> str:
        """As close to the exact ones as the shots allow, to rounding if the executor is exact."""
        before = problem.values.clone()
        found = self.executor.expectations(problem.circuit, problem.values, problem.observables)
        require(torch.equal(before, problem.values), "expectations changed the values")
        error = (found.cpu() - _exact(problem)).abs()
        weights = torch.tensor([sum(abs(weight) for _, weight in terms) for terms in problem.observables])
        if self.executor.capabilities.noisy:
            raise Skipped(f"form right; it is noisy, largest error {float(error.max()):.3f}")
        if self.executor.capabilities.exact:
            allowed = TOLERANCE[torch.float64] * torch.ones_like(weights)
        else:
            allowed = weights * math.sqrt(2 * self.log_level / self.executor.shots)
        worst = divmod(int((error - allowed).argmax()), error.shape[1])
        text = f"{float(error[worst]):.1e} is the error of {problem.observables[worst[1]]}"
        require(bool((error <= allowed).all()), f"{text}, where {float(allowed[worst[1]]):.1e} is allowed")
        return f"largest error {float(error.max()):.1e}"

    def distribution(self, problem: _Problem) -> str:
        """Bits from the exact probabilities, as far as that many shots can tell."""
        bits = self._sampled(problem.circuit, problem.values, self.num_samples).long()
        size = 2**problem.circuit.num_qubits
        indices = (bits << torch.arange(problem.circuit.num_qubits)).sum(-1)
        largest = 0.0
        for row, drawn in zip(problem.values, indices, strict=True):
            exact = torch.from_numpy(abs(dense_state(problem.circuit, row)) ** 2)
            distance = float((drawn.bincount(minlength=size) / len(drawn) - exact).abs().sum() / 2)
            expected = float((exact * (1 - exact) / len(drawn)).clamp(min=0).sqrt().sum() / 2)
            allowed = expected + math.sqrt(self.log_level / (2 * len(drawn)))
            largest = max(largest, distance)
            text = f"total variation {distance:.3f}, {allowed:.3f} allowed"
            require(self.executor.capabilities.noisy or distance <= allowed, f"not the circuit's distribution: {text}")
        if self.executor.capabilities.noisy:
            raise Skipped(f"form right; it is noisy, total variation up to {largest:.3f}")
        return f"total variation up to {largest:.3f}"

    def no_parameters(self) -> str:
        """A circuit without parameters runs for each of the empty rows."""
        circuit = Circuit(2, [Gate("x", (0,)), Gate("h", (1,))])
        values = torch.zeros(3, 0)
        means = self._sampled(circuit, values, self.num_samples).double().mean(1)
        require(bool((means[:, 0] > 0.5).all()), f"X on qubit 0 gives 1 in shares of {means[:, 0].tolist()} in three rows")
        require(bool(((means[:, 1] > 0) & (means[:, 1] < 1)).all()), "H on qubit 1 always gives the same bit")
        self.executor.expectations(circuit, values, [[("ZI", 1.0)]])
        return ""

    def any_number(self) -> str:
        """No rows and several; one shot, then more, then fewer."""
        self.executor.expectations(_coins(), torch.zeros(0, 1), [[("ZII", 1.0)]])
        for rows, shots in ((0, 5), (2, 1), (2, 37), (1, 5)):
            self._sampled(_coins(), torch.zeros(rows, 1), shots)
        return ""

    def fresh_randomness(self) -> str:
        """Equal rows and equal calls give different bits."""
        first, second = (self._sampled(_coins(), torch.zeros(3, 1), 100) for _ in range(2))
        require(not torch.equal(first, second), "two calls returned the same bits: derive a fresh seed for each call")
        rows_differ = not (torch.equal(first[0], first[1]) or torch.equal(first[1], first[2]))
        require(rows_differ, "two rows of one call returned the same bits: derive a fresh seed for each row")
        return ""

    def precisions(self) -> str:
        """Results are as precise as values are."""
        problem = _problems()[1]
        single = self.executor.expectations(problem.circuit, problem.values.float(), problem.observables)
        if self.executor.capabilities.exact:
            error = float((single.double() - _exact(problem)).abs().max())
            require(error <= TOLERANCE[torch.float32], f"in float32 the error is {error:.1e}; 1e-5 is allowed")
        return ""

    def gradients(self) -> str:
        """Those of a differentiable executor are the exact ones' differences; another one refuses to be asked for them."""
        problem = _problems()[-1]
        values = problem.values.clone().requires_grad_()
        if not self.executor.capabilities.differentiable:
            self._require_refusal(ExecutorError, problem.circuit, values, problem.observables)
            return "it has none, and says so"
        (found,) = torch.autograd.grad(self.executor.expectations(problem.circuit, values, problem.observables).sum(), values)
        step, error = 1e-5, 0.0
        for column in range(values.shape[1]):
            shift = step * torch.eye(values.shape[1], dtype=torch.float64)[column]
            up, down = (_exact(problem, problem.values + sign * shift).sum(1) for sign in (1, -1))
            error = max(error, float((found[:, column] - (up - down) / (2 * step)).abs().max()))
        require(error < 1e-7, f"gradients are off by {error:.1e}")
        return f"largest error {error:.1e}"

    def cuda(self) -> str:
        """Values on the GPU, wherever the executor itself works."""
        if not torch.cuda.is_available():
            raise Skipped("there is no CUDA device here")
        problem = _problems()[0]
        values = problem.values.cuda()
        for found in (
            self.executor.expectations(problem.circuit, values, problem.observables),
            self.executor.sample(problem.circuit, values, 5),
        ):
            require(found.device == values.device, f"results are on {found.device}, not on {values.device} as values are")
        return ""

    def too_many_qubits(self) -> str:
        """Limits are kept: the error comes before any work."""
        limit = self.executor.capabilities.max_qubits
        if limit is None:
            raise Skipped("it sets no limit")
        circuit = Circuit(limit + 1, [])
        self._require_refusal(ExecutorError, circuit, torch.zeros(1, 0), [[("Z" * (limit + 1), 1.0)]])
        return f"refuses {limit + 1} qubits"

    def wrong_values(self) -> str:
        """Values need a column for each parameter."""
        for values in (torch.zeros(1, 2), torch.zeros(1), torch.zeros(1, 1, dtype=torch.int64)):
            self._require_refusal(CircuitError, _coins(), values, [[("ZII", 1.0)]])
        return ""

    def wrong_observables(self) -> str:
        """Labels need a letter for each qubit."""
        for label in ("ZI", "ZIIZ", "ZAI"):
            try:
                self.executor.expectations(_coins(), torch.zeros(1, 1), [[(label, 1.0)]])
            except CircuitError:
                continue
            raise AssertionError(f"expectations took the label {label!r} for three qubits")
        return ""

    def close(self) -> str:
        """``close`` is harmless."""
        self.executor.close()
        return ""

    def _sampled(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        """Bits whose form is right, on the CPU."""
        bits = self.executor.sample(circuit, values, shots)
        strange = sorted(set(bits.unique().tolist()) - {0, 1})
        require(not strange, f"bits hold {strange[:3]}; they must be 0 or 1")
        return bits.cpu()

    def _require_refusal(self, error: type[Exception], circuit: Circuit, values: Tensor, observables: list[PauliSum]) -> None:
        methods = [("expectations", lambda: self.executor.expectations(circuit, values, observables))]
        if not values.requires_grad:
            methods.append(("sample", lambda: self.executor.sample(circuit, values, 5)))
        for name, method in methods:
            try:
                method()
            except error:
                continue
            wanted = ", with gradients" if values.requires_grad else ""
            raise AssertionError(f"{name} took values of shape {tuple(values.shape)} for {circuit.num_qubits} qubits{wanted}")


def _exact(problem: _Problem, values: Tensor | None = None) -> Tensor:
    """True expectations, float64, (B, K)."""
    states = [dense_state(problem.circuit, row) for row in (problem.values if values is None else values)]
    rows = [[dense_expectation(state, terms) for terms in problem.observables] for state in states]
    return torch.tensor(rows, dtype=torch.float64)


class _Subject:
    """What is checked, and how fresh ones are made."""

    def __init__(self, executor: Checkable, options: dict[str, Any]) -> None:
        self.options = options
        if isinstance(executor, Executor):
            original = executor
            self.takes_seed = False
            self.build: Callable[..., Executor] = lambda: pickle.loads(pickle.dumps(original))
        elif isinstance(executor, str):
            name = executor
            self.takes_seed = "seed" in executor_options(name)
            self.build = lambda **given: load_executor(name, **given)
        else:
            named = named_parameters(executor) if isinstance(executor, type) else inspect.signature(executor).parameters.values()
            self.takes_seed = "seed" in {parameter.name for parameter in named}
            self.build = executor

    def make(self, seed: int) -> Executor:
        """A fresh executor, seeded if it takes seeds."""
        return self.build(**self.options, **({"seed": seed} if self.takes_seed and "seed" not in self.options else {}))

    def seeded(self, seed: int) -> Executor:
        """A fresh executor with this very seed."""
        if not self.takes_seed:
            raise Skipped("it takes no seed, or was handed over as an object")
        return self.build(**self.options | {"seed": seed})

    def same_seed(self) -> str:
        """Two executors of one seed agree call by call, whatever else draws random numbers."""
        first, second = self.seeded(5), self.seeded(5)
        if first.capabilities.remote:
            raise Skipped("it is remote: hardware doesn't repeat itself")
        require(_same_future(first, second), "two executors with seed=5 returned different bits")
        return ""

    def another_seed(self) -> str:
        """The seed is used."""
        require(not _same_future(self.seeded(5), self.seeded(6)), "executors with seed=5 and seed=6 returned the same bits")
        return ""

    def state(self) -> str:
        """Another executor with the state of the first goes on exactly as that one does."""
        first = self.make(seed=5)
        _toss(first)
        state = first.state_dict()
        if not state:
            raise Skipped("it keeps no state")
        second = self.make(seed=6)
        second.load_state_dict(state)
        same = first.capabilities.remote or _same_future(first, second)
        require(same, "bits after load_state_dict differ from those of the executor it was taken from")
        return f"holds {', '.join(sorted(state))}"

    def pickles(self) -> str:
        """A copy in another process works, and goes on as the first does if it has state."""
        first = self.make(seed=5)
        _toss(first)
        second: Executor = pickle.loads(pickle.dumps(first))
        require(second.name == first.name, f"the copy's name is {second.name!r}, not {first.name!r}")
        same = _same_future(first, second)
        require(same or not first.state_dict() or first.capabilities.remote, "bits of a pickled copy differ from the first's")
        return ""


def _toss(executor: Executor) -> Tensor:
    return executor.sample(_coins(), torch.zeros(2, 1), 50)


def _same_future(first: Executor, second: Executor) -> bool:
    """Whether two calls of both return the same bits."""
    return all([torch.equal(_toss(first), _toss(second)) for _ in range(2)])
