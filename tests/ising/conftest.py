"""Ground truth shared by the tests of the physics: small Hamiltonians and a chi-square against enumeration."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from qvae.ising.exact import ExactDistribution
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian

RandomHamiltonian = Callable[..., IsingHamiltonian]


@pytest.fixture
def random_hamiltonian() -> RandomHamiltonian:
    """h and J normal, of the spreads ``field`` and ``coupling``."""

    def make(graph: Graph, coupling: float = 0.5, field: float = 0.5, gamma: object = 0.0, seed: int = 0) -> IsingHamiltonian:
        generator = torch.Generator().manual_seed(seed)
        h = field * torch.randn(graph.num_spins, generator=generator)
        return IsingHamiltonian(h, graph, coupling * torch.randn(graph.num_edges, generator=generator), gamma)

    return make


@pytest.fixture
def excess() -> Callable[[Tensor, ExactDistribution], float]:
    """By how many standard deviations the chi-square of spins (k, n) exceeds its expectation; rare states are pooled."""

    def measure(spins: Tensor, exact: ExactDistribution) -> float:
        states = ((spins > 0).long() << torch.arange(spins.shape[1])).sum(1)
        counts = torch.bincount(states, minlength=len(exact.probabilities)).double()
        expected = exact.probabilities * len(spins)
        common = expected >= 5
        if not bool(common.all()):
            counts = torch.cat([counts[common], counts[~common].sum().view(1)])
            expected = torch.cat([expected[common], expected[~common].sum().view(1)])
        freedom = len(expected) - 1
        return float(((counts - expected) ** 2 / expected).sum() - freedom) / (2 * freedom) ** 0.5

    return measure
