"""Gradients of expectations where an executor has none: from more executions, at other angles."""

from __future__ import annotations

from qvae.circuits.gradients.estimator import GradientEstimator, estimated_expectations
from qvae.circuits.gradients.parameter_shift import ParameterShift
from qvae.circuits.gradients.spsa import SPSA
from qvae.errors import CircuitError, nearest

__all__ = ["GRADIENTS", "SPSA", "GradientEstimator", "ParameterShift", "estimated_expectations", "gradient_estimator"]

GRADIENTS: dict[str, type[GradientEstimator]] = {"parameter-shift": ParameterShift, "spsa": SPSA}


def gradient_estimator(gradient: str | GradientEstimator) -> GradientEstimator:
    """The one of this name, with its defaults, or the one itself.

    Raises:
        CircuitError: there is no such name, or it is neither.
    """
    if isinstance(gradient, GradientEstimator):
        return gradient
    if not isinstance(gradient, str):
        raise CircuitError(f"the gradient is {gradient!r}; it must be a name, or an estimator that was made, as SPSA().")
    if gradient not in GRADIENTS:
        raise CircuitError(f"no gradient is called {gradient!r}: {nearest(gradient, GRADIENTS)}.")
    return GRADIENTS[gradient]()
