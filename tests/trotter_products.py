"""Ground truth in P slices of imaginary time: Trotter products of matrices, and world lines that have settled."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor

from qvae.ising.exact import ExactDistribution, spin_states
from qvae.ising.graphs import complete, edge_list, rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines

SIGMAS = 5.0
MIXED = [3.0, 0.0, 1.0, 0.2]

# Two colours and three, in the order of the spins and in another, free spins beside coupled ones.
GRAPHS = {
    "rbm": rbm(2, 2),
    "complete": complete(4),
    "ring": edge_list([(0, 1), (1, 2), (2, 3), (3, 0)]),
    "permuted, a free spin": edge_list([(0, 1), (1, 3), (3, 0)], 4),
    "no edges": edge_list([], 3),
}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def slice_product(hamiltonian: IsingHamiltonian, slices: int) -> Tensor:
    """S = exp(-E/2P) exp(sum gamma sx / P) exp(-E/2P) as a matrix of Kronecker products, spin 0 the last factor."""
    spins = spin_states(hamiltonian.num_spins)
    half = torch.exp(-hamiltonian.to(dtype=torch.float64).energy(spins) / (2 * slices))
    factors = [
        torch.tensor([[math.cosh(angle), math.sinh(angle)], [math.sinh(angle), math.cosh(angle)]], dtype=torch.float64)
        for angle in (hamiltonian.gamma / slices).flip(0).tolist()
    ]
    return half.unsqueeze(1) * functools.reduce(torch.kron, factors) * half


def trotter(hamiltonian: IsingHamiltonian, slices: int) -> ExactDistribution:
    """The distribution and log Z of so many slices."""
    weights = torch.linalg.matrix_power(slice_product(hamiltonian, slices), slices).diagonal()
    nothing = torch.zeros(hamiltonian.num_spins)
    return ExactDistribution(hamiltonian.graph, (weights / weights.sum()).log(), float(weights.sum().log()), "", nothing)


def flattened(hamiltonian: IsingHamiltonian, slices: int) -> IsingHamiltonian:
    """The classical system of so many slices: spin i in slice k is spin i P + k, coupled to itself in slice k + 1."""
    n = hamiltonian.num_spins
    matrix = torch.zeros(n, slices, n, slices, dtype=torch.float64)
    i, j = hamiltonian.edges.T
    for k in range(slices):
        matrix[i, k, j, k] = hamiltonian.J.double() / slices
        matrix[range(n), k, range(n), (k + 1) % slices] += torch.tanh(hamiltonian.gamma.double() / slices).log() / 2
    matrix = matrix.view(n * slices, n * slices)
    matrix = (matrix + matrix.T).triu(1)
    fields = hamiltonian.h.double().repeat_interleave(slices) / slices
    edges = matrix.nonzero()
    return IsingHamiltonian(fields, edges, matrix[edges[:, 0], edges[:, 1]])


def by_spin(lines: WorldLines, rows: Tensor) -> Tensor:
    return torch.empty_like(rows).index_copy_(0, lines.gibbs.order, rows)


def broken_symmetry(forward: Tensor, backward: Tensor, log_ratio: float) -> float:
    """By how many standard errors log weights of runs either way break p_back(w) = p_forward(w) exp(w - log Z/Z0) (Crooks).

    Means of one bounded function of w, from both sides. Each side alone gives Z whatever the order of updates is; this is
    right only if one is the time reversal of the other.
    """
    found = []
    for shift in (-1.0, 0.0, 1.0):
        x = torch.sigmoid(forward - log_ratio - shift)
        y = torch.sigmoid(log_ratio + backward + shift) * math.exp(-shift)
        found.append(float((x.mean() - y.mean()).abs() / (x.var() / len(x) + y.var() / len(y)).sqrt()))
    return max(found)


def settled(hamiltonian: IsingHamiltonian, slices: int, chains: int = 10_000, sweeps: int = 15) -> tuple[WorldLines, Tensor]:
    lines = WorldLines(hamiltonian, slices)
    return lines, lines.sweep(lines.random_state(chains, generator()), sweeps, generator(1))
