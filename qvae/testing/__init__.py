"""Conformance suites for samplers and executors: small problems x properties, with exact results as ground truth.

A plugin author's test is one line, and ``qvae samplers check NAME`` and ``qvae executors check NAME`` run the same::

    def test_conformance():
        check_sampler("my-sampler")
"""

from qvae.testing.executors import check_executor, run_executor_checks
from qvae.testing.results import CheckResult, ConformanceError, ConformanceReport
from qvae.testing.samplers import check_sampler, run_checks

__all__ = [
    "CheckResult",
    "ConformanceError",
    "ConformanceReport",
    "check_executor",
    "check_sampler",
    "run_checks",
    "run_executor_checks",
]
