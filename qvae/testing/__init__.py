"""Conformance suite for samplers: small problems x properties, with the exact distribution as ground truth.

A plugin author's test is one line, and ``qvae samplers check NAME`` runs the same::

    def test_conformance():
        check_sampler("my-sampler")
"""

from qvae.testing.results import CheckResult, ConformanceError, ConformanceReport
from qvae.testing.samplers import check_sampler, run_checks

__all__ = ["CheckResult", "ConformanceError", "ConformanceReport", "check_sampler", "run_checks"]
