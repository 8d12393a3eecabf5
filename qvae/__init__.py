"""Quantum variational autoencoders with pluggable Boltzmann samplers.

The names below are the public interface; each is imported when it is first used, so ``import qvae`` is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qvae.config.load import load_config
    from qvae.config.schema import Config
    from qvae.data.load import load_data
    from qvae.errors import QvaeError
    from qvae.ising.graphs import Graph
    from qvae.ising.hamiltonian import IsingHamiltonian
    from qvae.models.prior import BoltzmannPrior
    from qvae.models.qvae import QVAE
    from qvae.run import Run, load_run, train
    from qvae.sampling.registry import list_samplers, load_sampler
    from qvae.sampling.sampler import Capabilities, LatentSampler, Moments, Samples

__version__ = "0.1.0"

_HOMES = {
    "Config": "qvae.config.schema",
    "load_config": "qvae.config.load",
    "load_data": "qvae.data.load",
    "QvaeError": "qvae.errors",
    "Graph": "qvae.ising.graphs",
    "IsingHamiltonian": "qvae.ising.hamiltonian",
    "BoltzmannPrior": "qvae.models.prior",
    "QVAE": "qvae.models.qvae",
    "Run": "qvae.run",
    "load_run": "qvae.run",
    "train": "qvae.run",
    "list_samplers": "qvae.sampling.registry",
    "load_sampler": "qvae.sampling.registry",
    "Capabilities": "qvae.sampling.sampler",
    "LatentSampler": "qvae.sampling.sampler",
    "Moments": "qvae.sampling.sampler",
    "Samples": "qvae.sampling.sampler",
}

__all__ = [
    "QVAE",
    "BoltzmannPrior",
    "Capabilities",
    "Config",
    "Graph",
    "IsingHamiltonian",
    "LatentSampler",
    "Moments",
    "QvaeError",
    "Run",
    "Samples",
    "list_samplers",
    "load_config",
    "load_data",
    "load_run",
    "load_sampler",
    "train",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'qvae' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
