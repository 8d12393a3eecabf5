"""The conformance suite of executors: which checks there are, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch

from qvae.circuits.executor import Executor
from qvae.circuits.registry import EXECUTORS
from qvae.testing.circuit_problems import circuit_problems, coins
from qvae.testing.circuit_trial import CircuitTrial
from qvae.testing.copies import Subject
from qvae.testing.results import CheckResult, ConformanceError, ConformanceReport, run_check

FALSE_ALARM = 1e-3
"""Probability that a perfect executor fails some statistical check of a whole run, at most."""

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
    subject = Subject(EXECUTORS, Executor, executor, options, draw=lambda one: one.sample(coins(), torch.zeros(2, 1), 50))
    problems = circuit_problems()
    # The last one once more, with weights beside values, and the first with its angle shifted up and down.
    tried = [*problems, problems[-1], problems[0], problems[0]]
    labels = sum(len(problem.values) * len(terms) for problem in tried for terms in problem.observables)
    distributions = sum(len(problem.values) for problem in problems)
    trial = CircuitTrial(subject.make(seed=1), num_samples, math.log((2 * labels + distributions) / FALSE_ALARM))
    yield run_check("qubit q is column q", trial.bit_order)
    for problem in problems:
        yield run_check(f"expectations, {problem.name}", trial.expectations, problem)
    for problem in problems:
        yield run_check(f"distribution, {problem.name}", trial.distribution, problem)
    for name, check in (
        ("weights beside values", trial.weights),
        ("no parameters, several rows", trial.no_parameters),
        ("any number of rows and shots", trial.any_number),
        ("fresh randomness in every call and row", trial.fresh_randomness),
        ("float32 and float64", trial.precisions),
        ("gradients", trial.gradients),
        ("gradients by shifts", trial.shifted_gradients),
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
