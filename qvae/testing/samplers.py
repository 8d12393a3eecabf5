"""The conformance suite of samplers: which checks there are, and in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

from qvae.sampling.registered import SAMPLERS
from qvae.sampling.sampler import LatentSampler
from qvae.testing.copies import Subject
from qvae.testing.problems import problems, small
from qvae.testing.results import CheckResult, ConformanceError, ConformanceReport, run_check
from qvae.testing.trial import Trial, sampled

Checkable = str | LatentSampler | Callable[..., LatentSampler]

FALSE_ALARM = 1e-3
"""Probability that a perfect sampler fails some statistical check of a whole run, at most."""


def check_sampler(sampler: Checkable, /, *, num_samples: int = 4000, **options: Any) -> ConformanceReport:
    """Run the suite on a sampler; see :func:`run_checks` for the arguments.

    Raises:
        ConformanceError: an AssertionError that lists the checks that failed.
    """
    report = ConformanceReport(list(run_checks(sampler, num_samples=num_samples, **options)))
    if report.failures:
        raise ConformanceError(report)
    return report


def run_checks(sampler: Checkable, /, *, num_samples: int = 4000, **options: Any) -> Iterator[CheckResult]:
    """The suite's checks one by one, each result as soon as it is there.

    Moments are compared with the exact ones by Chernoff's bound, total variation by McDiarmid's; both hold for any number
    of samples, and are shared out so that a perfect sampler fails with a probability of at most ``FALSE_ALARM``. Samples
    in one call may be correlated with their neighbours, as states of one chain are: the number of samples is then reduced
    to the effective one, by a factor of at most ``MAX_INFLATION``. A sampler whose temperature is its own must have one for all
    problems, and is compared with the exact distributions at that temperature.

    Args:
        sampler: a registered name, a class or function that makes a sampler, or a sampler; copies of that are used, and
            its seeds can't be checked.
        num_samples: in each of about twenty calls (ten times as many if chains are persistent).
        options: for a name, class or function.
    """
    system = small()  # one graph for all calls, on which persistent chains go on
    subject = Subject(SAMPLERS, LatentSampler, sampler, options, draw=lambda one: sampled(one, system, 100).spins)
    shared = subject.make(seed=1)
    cases = problems(shared.capabilities.transverse_field)
    within = [p for p in cases if shared.capabilities.excludes(p.hamiltonian.num_spins, p.hamiltonian.is_quantum) is None]
    # Two-sided for every moment, of samples and of `moments`, and one total variation.
    tests = sum(4 * (p.hamiltonian.num_spins + p.hamiltonian.graph.num_edges) + 1 for p in within)
    trial = Trial(shared, num_samples, math.log(max(1, tests) / FALSE_ALARM))
    yield run_check("sign convention", trial.sign_convention)
    yield run_check("one temperature", trial.temperature, cases)
    for problem in cases:
        yield run_check(f"distribution, {problem.name}", trial.distribution, problem)
    own_moments = type(shared)._moments is not LatentSampler._moments
    for problem in cases if own_moments else within[-1:]:
        yield run_check(f"moments, {problem.name}", trial.moments, problem)
    for name, check in (
        ("no spins", trial.no_spins),
        ("any number of samples", trial.any_number),
        ("fresh randomness in every call", trial.fresh_randomness),
        ("float64 Hamiltonian", trial.float64),
        ("CUDA Hamiltonian", trial.cuda),
        ("submit", trial.submit),
        ("refusal of more spins than it can take", trial.too_many_spins),
        ("refusal of a transverse field it can't take", trial.transverse_field),
        ("same seed, same samples", subject.same_seed),
        ("another seed, other samples", subject.another_seed),
        ("state", subject.state),
        ("pickle", subject.pickles),
        ("close", trial.close),
    ):
        yield run_check(name, check)
