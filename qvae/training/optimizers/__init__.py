"""Optimizers for models with circuits in them, for any PyTorch model; one file each."""

from __future__ import annotations

from qvae.training.optimizers.natural_gradient import QuantumNaturalGradient
from qvae.training.optimizers.qnspsa import QNSPSA
from qvae.training.optimizers.rotosolve import Rotosolve
from qvae.training.optimizers.spsa import SPSA

__all__ = ["QNSPSA", "SPSA", "QuantumNaturalGradient", "Rotosolve"]
