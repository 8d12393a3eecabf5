"""Small systems with a known distribution, on which samplers are checked."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising import graphs
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian


@dataclass(frozen=True)
class Problem:
    """A system and what it is called in a report."""

    name: str
    hamiltonian: IsingHamiltonian


def problems(quantum: bool) -> list[Problem]:
    """Small systems with fixed coefficients; with a transverse field once more if ``quantum``."""
    numbers = torch.Generator().manual_seed(20)

    def normal(count: int, scale: float) -> Tensor:
        return scale * torch.randn(count, generator=numbers)

    # Edges are given in no order and in both directions; a cell's sides take turns in its labels.
    five = Graph(5, [(3, 1), (0, 4), (2, 0), (1, 0), (4, 3), (3, 2), (2, 1), (0, 3), (4, 1), (2, 4)])
    cell = Graph(8, [(i, j) for i in range(0, 8, 2) for j in range(1, 8, 2)])
    classical = {
        "single spin": IsingHamiltonian([0.7], [], []),
        "no couplings": IsingHamiltonian([0.5, -1.0, 0.0, 0.25], [], []),
        "ferromagnetic pair": IsingHamiltonian([0.0, 0.0], [(0, 1)], [-1.0]),
        "antiferromagnetic pair": IsingHamiltonian([0.4, 0.1], [(0, 1)], [1.0]),
        "frustrated triangle": IsingHamiltonian([0.0, 0.0, 0.0], [(0, 1), (1, 2), (0, 2)], [1.0, 1.0, 1.0]),
        "strong fields": IsingHamiltonian([3.0, -4.0, 0.5], [(0, 1), (1, 2)], [0.5, -1.0]),
        "complete graph of 5": IsingHamiltonian(normal(5, 0.3), five, normal(10, 0.5)),
        "Chimera cell": IsingHamiltonian(normal(8, 0.3), cell, normal(16, 0.5)),
        "RBM 3x3": IsingHamiltonian(normal(6, 0.5), graphs.rbm(3, 3), normal(9, 0.8)),
    }
    found = [Problem(name, hamiltonian) for name, hamiltonian in classical.items()]
    if quantum:
        for name, plain in classical.items():
            gamma = torch.linspace(0.3, 1.2, plain.num_spins)
            found.append(Problem(f"{name}, transverse field", IsingHamiltonian(plain.h, plain.graph, plain.J, gamma)))
    return found


def small() -> IsingHamiltonian:
    """One problem that any sampler takes in no time."""
    return IsingHamiltonian([0.3, -0.2, 0.0, 0.1, 0.2], graphs.complete(5), torch.linspace(-0.5, 0.5, 10))
