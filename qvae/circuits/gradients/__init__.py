"""Gradients of expectations where an executor has none: from more executions, at other angles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qvae.circuits.gradients.estimator import GradientEstimator, estimated_expectations
from qvae.circuits.gradients.hadamard import HadamardTest
from qvae.circuits.gradients.parameter_shift import ParameterShift
from qvae.circuits.gradients.shadows import ClassicalShadows
from qvae.circuits.gradients.shot_budget import ShotBudget
from qvae.circuits.gradients.spsa import SPSA
from qvae.circuits.gradients.stochastic_shift import StochasticShift
from qvae.errors import CircuitError, nearest
from qvae.options import checked, named_parameters
from qvae.seeding import Seed

__all__ = [
    "GRADIENTS",
    "SPSA",
    "ClassicalShadows",
    "GradientEstimator",
    "HadamardTest",
    "ParameterShift",
    "ShotBudget",
    "StochasticShift",
    "estimated_expectations",
    "gradient_estimator",
    "load_gradient",
]

GRADIENTS: dict[str, type[GradientEstimator]] = {
    "parameter-shift": ParameterShift,
    "stochastic-shift": StochasticShift,
    "shot-budget": ShotBudget,
    "hadamard": HadamardTest,
    "spsa": SPSA,
    "shadows": ClassicalShadows,
}


def load_gradient(name: str, options: Mapping[str, Any], seed: Seed = None) -> GradientEstimator:
    """The estimator of a name, made with options, and with a seed if it takes one.

    Raises:
        CircuitError: there is no such name, or an option is unknown, or out of its range.
    """
    kind = type(gradient_estimator(name))
    known = [option.name for option in named_parameters(kind)]
    for option in options:
        if option not in known:
            raise CircuitError(f"gradient {name!r} has no option {option!r}: {nearest(option, known)}.")
    seeded = {"seed": seed} if "seed" in known else {}
    try:
        return kind(**(seeded | checked(kind, options)))
    except ValueError as error:
        raise CircuitError(f"gradient {name!r} refuses its options: {error}.") from None


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
