"""Optimizers for models with circuits in them, for any PyTorch model; one file each."""

from __future__ import annotations

from qvae.training.optimizers.natural_gradient import QuantumNaturalGradient

__all__ = ["QuantumNaturalGradient"]
