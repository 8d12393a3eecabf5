"""The optimizers of a training, by the name that its configuration gives."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim import Optimizer

from qvae.circuits.layer import CircuitLayer
from qvae.config.schema import TrainingConfig
from qvae.errors import ConfigError, nearest
from qvae.options import checked
from qvae.training.optimizers.natural_gradient import QuantumNaturalGradient
from qvae.training.optimizers.perturbing import PerturbingOptimizer
from qvae.training.optimizers.qnspsa import QNSPSA
from qvae.training.optimizers.rotosolve import Rotosolve
from qvae.training.optimizers.spsa import SPSA

_OPTIONS: dict[str, tuple[type[Optimizer], tuple[str, ...]]] = {
    "adamw": (torch.optim.AdamW, ("betas", "eps")),
    "adam": (torch.optim.Adam, ("betas", "eps")),
    "sgd": (torch.optim.SGD, ("momentum", "nesterov")),
    "qng": (QuantumNaturalGradient, ("metric", "damping", "momentum", "rows", "solver", "source")),
    "spsa": (SPSA, ("step", "stability", "blocking")),
    "qn-spsa": (QNSPSA, ("step", "damping", "blocking", "rows")),
    "rotosolve": (Rotosolve, ("angles", "blocking")),
}
"""The class of each name, and those of its options that a configuration may set."""


def gradient_optimizer(config: TrainingConfig, groups: Iterable[dict[str, Any]]) -> Optimizer:
    """What moves groups of parameters by their gradients: the one that is named, or AdamW beside one of circuits.

    Learning rates are 0 until the schedule sets them.

    Raises:
        ConfigError: an option is unknown, or out of its range.
    """
    name = "adamw" if config.optimizer.is_of_circuits else config.optimizer.name
    options = {} if config.optimizer.is_of_circuits else _options(config)
    if name != "sgd":  # which is one pass anyway
        options["fused"] = True
    kind: Any = _OPTIONS[name][0]
    return _made(config, lambda: kind(groups, lr=0.0, **options))


ByLosses = PerturbingOptimizer | Rotosolve
"""What asks for losses, and for no gradients."""
CircuitOptimizer = QuantumNaturalGradient | SPSA | QNSPSA | Rotosolve
"""What can move the weights of circuits; ``executions`` of it tells how many circuits that takes."""
_HYBRID = {"angles": 4, "blocking": 0.0}
"""Rotosolve's own options where networks are behind the circuit: a step of a bounded price, and no fit believed blindly."""


def circuit_optimizer(config: TrainingConfig, layers: Sequence[CircuitLayer]) -> CircuitOptimizer | None:
    """What moves the weights of circuits alone; None where gradients move them with all others.

    Raises:
        ConfigError: an option is unknown, or out of its range.
    """
    chosen = config.optimizer
    if not chosen.is_of_circuits:
        return None
    options, rate = _options(config), config.circuit_learning_rate
    circuits = nn.ModuleList(layers)
    seed = int(np.random.SeedSequence([config.seed, _PURPOSE]).generate_state(1)[0])
    make: dict[str, Callable[[], CircuitOptimizer]] = {
        "qng": lambda: QuantumNaturalGradient(circuits, rate, **options),
        "spsa": lambda: SPSA(list(circuits.parameters()), rate, seed=seed, **options),
        "qn-spsa": lambda: QNSPSA(circuits, rate, seed=seed, **options),
        "rotosolve": lambda: Rotosolve(list(circuits.parameters()), **(_HYBRID | options)),
    }
    made: CircuitOptimizer = _made(config, make[chosen.name])
    return made


_PURPOSE = 6  # of random numbers, beside those of a training's other parts


def _options(config: TrainingConfig) -> dict[str, Any]:
    kind, allowed = _OPTIONS[config.optimizer.name]
    for option in config.optimizer.options:
        if option not in allowed:
            hint = nearest(option, allowed)
            raise ConfigError(f"training.optimizer {config.optimizer.name!r} has no option {option!r}: {hint}.")
    return dict(_made(config, lambda: checked(kind, config.optimizer.options)))


def _made(config: TrainingConfig, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ValueError as error:
        raise ConfigError(f"training.optimizer {config.optimizer.name!r} refuses its options: {error}.") from None
