"""The sections of what moves the weights: the optimizer of a training, and where a circuit's gradients come from."""

from __future__ import annotations

from typing import Literal

from qvae.config.backends import BackendSpec

_OF_CIRCUITS = ("qng", "spsa", "qn-spsa", "rotosolve")


class OptimizerConfig(BackendSpec):
    """An optimizer and its options; its learning rates are those of the training."""

    name: Literal["adamw", "adam", "sgd", "qng", "spsa", "qn-spsa", "rotosolve"] = "adamw"

    @property
    def is_of_circuits(self) -> bool:
        """Whether it moves the weights of circuits alone, beside AdamW, which moves the rest."""
        return self.name in _OF_CIRCUITS

    @property
    def in_words(self) -> str:
        """What moves which weights.

        >>> OptimizerConfig(name="qng", options={"damping": 0.01}).in_words
        'qng:damping=0.01 of the circuit, adamw of the rest'
        """
        return f"{self.label} of the circuit, adamw of the rest" if self.is_of_circuits else self.label


class GradientConfig(BackendSpec):
    """An estimator of a circuit's gradients and its options."""

    name: str
    """one of ``qvae.circuits.gradients.GRADIENTS``"""
