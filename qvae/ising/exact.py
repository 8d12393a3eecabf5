"""The exact z-basis distribution of small systems: enumeration, or diagonalization with a transverse field."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian

MAX_ENUMERATION_SPINS = 20
MAX_DIAGONALIZATION_SPINS = 12


@dataclass(frozen=True)
class ExactDistribution:
    """p(s) = <s|exp(-H)|s> / Z of all spin configurations, in float64.

    Attributes:
        graph: the Hamiltonian's.
        probabilities: of state k, in which spin i is +1 iff bit i of k is set (little-endian, as in Qiskit), (2**n,).
        log_z: log Tr exp(-H), in nats.
        method: how it was computed, in words.
    """

    graph: Graph
    probabilities: Tensor
    log_z: float
    method: str

    def spins(self) -> Tensor:
        """The spins of every state in the order of ``probabilities``, (2**n, n), int8."""
        return spin_states(self.graph.num_spins, self.probabilities.device)

    def moments(self) -> tuple[Tensor, Tensor]:
        """<s_i>, (n,), and <s_i s_j> over the edges, (m,)."""
        # Bits split into a low and a high half: second moments then need no table of 2**n rows of spins.
        low, high = _halves(self.graph.num_spins, self.probabilities.device)
        joint = self.probabilities.view(len(high), len(low))
        p_low, p_high = joint.sum(0), joint.sum(1)
        means = torch.cat([p_low @ low, p_high @ high])
        across = low.T @ joint.T @ high
        pairs = torch.cat(
            [
                torch.cat([low.T @ (p_low.unsqueeze(1) * low), across], dim=1),
                torch.cat([across.T, high.T @ (p_high.unsqueeze(1) * high)], dim=1),
            ]
        )
        i, j = self.graph.edges.T
        return means, pairs[i, j]

    def sample(self, num_samples: int, generator: torch.Generator) -> Tensor:
        """Independent samples, (num_samples, n), int8; ``generator`` must be on the distribution's device."""
        states = torch.multinomial(self.probabilities, num_samples, replacement=True, generator=generator)
        return _spins_of(states, self.graph.num_spins)


def exact_distribution(hamiltonian: IsingHamiltonian) -> ExactDistribution:
    """The exact distribution of ``hamiltonian`` on its device: by enumeration at gamma = 0, else by diagonalization.

    Raises:
        ValueError: there are more than ``MAX_ENUMERATION_SPINS`` spins, or more than ``MAX_DIAGONALIZATION_SPINS`` with
            a transverse field.

    >>> p = exact_distribution(IsingHamiltonian([0.0, 0.0], [(0, 1)], [-1.0]))
    >>> p.probabilities.round(decimals=3).tolist(), round(p.log_z, 3)
    ([0.44, 0.06, 0.06, 0.44], 1.82)
    """
    n = hamiltonian.num_spins
    limit = MAX_DIAGONALIZATION_SPINS if hamiltonian.is_quantum else MAX_ENUMERATION_SPINS
    if n > limit:
        kind = " with a transverse field" if hamiltonian.is_quantum else ""
        raise ValueError(
            f"{n} spins{kind} are too many for an exact solution; the limit is {MAX_ENUMERATION_SPINS}, or "
            f"{MAX_DIAGONALIZATION_SPINS} with a transverse field: take a smaller system or a sampler"
        )
    hamiltonian = hamiltonian.detach().to(dtype=torch.float64)
    energies = _energies(hamiltonian)
    if not hamiltonian.is_quantum:
        log_z = torch.logsumexp(-energies, 0)
        probabilities = (-energies - log_z).exp()
        return ExactDistribution(hamiltonian.graph, probabilities, float(log_z), f"enumeration of 2^{n} states")
    levels, vectors = torch.linalg.eigh(_matrix(energies, hamiltonian.gamma))
    log_z = torch.logsumexp(-levels, 0)
    probabilities = vectors.square_() @ (-levels - log_z).exp()
    return ExactDistribution(hamiltonian.graph, probabilities, float(log_z), f"diagonalization in 2^{n} states")


def spin_states(num_spins: int, device: torch.device | str | None = None) -> Tensor:
    """All spin configurations in little-endian order, (2**n, n), int8.

    >>> spin_states(2).tolist()
    [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    """
    return _spins_of(torch.arange(2**num_spins, device=device), num_spins)


def _spins_of(states: Tensor, num_spins: int) -> Tensor:
    """Spins (k, n), int8, from the numbers (k,) of their states."""
    spins = torch.empty(len(states), num_spins, dtype=torch.int8, device=states.device)
    for i in range(num_spins):
        spins[:, i] = 2 * (states >> i & 1) - 1
    return spins


def _halves(num_spins: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """All states of the first and of the other half of the spins; a and b together are state b 2**(n//2) + a."""
    low = num_spins // 2
    return spin_states(low, device).double(), spin_states(num_spins - low, device).double()


def _energies(hamiltonian: IsingHamiltonian) -> Tensor:
    """Diagonal energies E(a, b) = E(a) + E(b) + a.J.b of all states, (2**n,)."""
    n = hamiltonian.num_spins
    low, high = _halves(n, hamiltonian.h.device)
    i, j = hamiltonian.edges.T
    couplings = hamiltonian.J.new_zeros(n, n).index_put((i.minimum(j), i.maximum(j)), hamiltonian.J)
    split = low.shape[1]
    inside_low = low @ hamiltonian.h[:split] + ((low @ couplings[:split, :split]) * low).sum(1)
    inside_high = high @ hamiltonian.h[split:] + ((high @ couplings[split:, split:]) * high).sum(1)
    across = high @ couplings[:split, split:].T @ low.T
    return (across + inside_low + inside_high.unsqueeze(1)).reshape(-1)


def _matrix(energies: Tensor, gamma: Tensor) -> Tensor:
    """H in the z basis: energies on the diagonal, -gamma_i between states that differ in spin i alone, (2**n, 2**n)."""
    matrix = torch.diag(energies)
    states = torch.arange(len(energies), device=energies.device)
    for i in range(len(gamma)):
        matrix[states, states ^ (1 << i)] = -gamma[i]
    return matrix
