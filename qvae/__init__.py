"""Quantum variational autoencoders with pluggable Boltzmann samplers.

The names below are the public interface; each is imported when it is first used, so ``import qvae`` is quick.
"""

from __future__ import annotations

import importlib as _importlib
from typing import TYPE_CHECKING as _TYPE_CHECKING

if _TYPE_CHECKING:
    from qvae.applications.transformer import LatentEmbedding
    from qvae.circuits.circuit import Circuit
    from qvae.circuits.executor import Executor
    from qvae.circuits.layer import CircuitLayer
    from qvae.circuits.registry import list_executors, load_executor
    from qvae.config.load import load_config
    from qvae.config.schema import Config
    from qvae.data.arrays import dataset_from_arrays
    from qvae.data.load import load_data
    from qvae.diagnosis.diagnose import diagnose_gradients
    from qvae.errors import BudgetExhausted, QvaeError
    from qvae.ising import graphs
    from qvae.ising.graphs import Graph
    from qvae.ising.hamiltonian import IsingHamiltonian
    from qvae.models.likelihoods.likelihood import Likelihood, Statistics
    from qvae.models.posterior import Posterior
    from qvae.models.prior import BoltzmannPrior
    from qvae.models.qvae import QVAE
    from qvae.progress import Progress
    from qvae.runs.run import Run, load_run
    from qvae.sampling.registered import list_samplers
    from qvae.sampling.registry import load_sampler
    from qvae.sampling.sampler import Capabilities, LatentSampler, Moments, Samples, SeededSampler
    from qvae.training.objective import Objective
    from qvae.training.trainer import Trainer
    from qvae.workflow import evaluate, resume, train

__version__ = "0.1.0"

_HOMES = {
    "QVAE": "qvae.models.qvae",
    "BoltzmannPrior": "qvae.models.prior",
    "BudgetExhausted": "qvae.errors",
    "Capabilities": "qvae.sampling.sampler",
    "Circuit": "qvae.circuits.circuit",
    "CircuitLayer": "qvae.circuits.layer",
    "Config": "qvae.config.schema",
    "Executor": "qvae.circuits.executor",
    "Graph": "qvae.ising.graphs",
    "IsingHamiltonian": "qvae.ising.hamiltonian",
    "LatentEmbedding": "qvae.applications.transformer",
    "LatentSampler": "qvae.sampling.sampler",
    "Likelihood": "qvae.models.likelihoods.likelihood",
    "Moments": "qvae.sampling.sampler",
    "Objective": "qvae.training.objective",
    "Posterior": "qvae.models.posterior",
    "Progress": "qvae.progress",
    "QvaeError": "qvae.errors",
    "Run": "qvae.runs.run",
    "Samples": "qvae.sampling.sampler",
    "SeededSampler": "qvae.sampling.sampler",
    "Statistics": "qvae.models.likelihoods.likelihood",
    "Trainer": "qvae.training.trainer",
    "dataset_from_arrays": "qvae.data.arrays",
    "diagnose_gradients": "qvae.diagnosis.diagnose",
    "evaluate": "qvae.workflow",
    "graphs": "qvae.ising.graphs",
    "list_executors": "qvae.circuits.registry",
    "list_samplers": "qvae.sampling.registered",
    "load_config": "qvae.config.load",
    "load_data": "qvae.data.load",
    "load_executor": "qvae.circuits.registry",
    "load_run": "qvae.runs.run",
    "load_sampler": "qvae.sampling.registry",
    "resume": "qvae.workflow",
    "train": "qvae.workflow",
}

__all__ = [
    "QVAE",
    "BoltzmannPrior",
    "BudgetExhausted",
    "Capabilities",
    "Circuit",
    "CircuitLayer",
    "Config",
    "Executor",
    "Graph",
    "IsingHamiltonian",
    "LatentEmbedding",
    "LatentSampler",
    "Likelihood",
    "Moments",
    "Objective",
    "Posterior",
    "Progress",
    "QvaeError",
    "Run",
    "Samples",
    "SeededSampler",
    "Statistics",
    "Trainer",
    "dataset_from_arrays",
    "diagnose_gradients",
    "evaluate",
    "graphs",
    "list_executors",
    "list_samplers",
    "load_config",
    "load_data",
    "load_executor",
    "load_run",
    "load_sampler",
    "resume",
    "train",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'qvae' has no attribute {name!r}")
    module = _importlib.import_module(_HOMES[name])
    return module if _HOMES[name].endswith(f".{name}") else getattr(module, name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
