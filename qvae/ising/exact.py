"""The exact z-basis distribution of small systems: enumeration, or with a transverse field exp(-H) or Trotter products."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from qvae.ising.exponential import log_exponential
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian

MAX_ENUMERATION_SPINS = 20
"""The largest system without a transverse field."""
MAX_EXPONENTIAL_SPINS = 10
"""The largest system with a transverse field of which exp(-H) is taken; beyond it, Trotter's product is quicker."""
MAX_QUANTUM_SPINS = 14
"""The largest system with a transverse field."""

_TROTTER_SLICES = (4, 8, 12, 16, 24, 32, 48, 64)
_TROTTER_ERROR = 1e-6  # at which no finer product is taken
_RARE_ERROR = 1e-3  # of log p of any state, at which neither
_RANGE = 600.0  # nats that a float64 holds, with room for products
_FACTOR_SPINS = 5  # matrices of 2^5 states: larger ones cost more arithmetic, smaller ones more passes over memory


@dataclass(frozen=True)
class ExactDistribution:
    """p(s) = <s|exp(-H)|s> / Z of all spin configurations, in float64.

    Attributes:
        graph: the Hamiltonian's.
        log_probabilities: of state k, in which spin i is +1 iff bit i of k is set (little-endian, as in Qiskit), (2**n,).
        log_z: log Tr exp(-H), in nats.
        method: how it was computed, in words.
        transverse: <sigma^x_i>, (n,).
        error: estimated, of ``probabilities`` in total variation and of ``log_z``, whichever is larger; 0 where there is none
            but rounding. It is of the whole: a rare state may be off by more than this share of itself.
        rare_error: estimated, of ``log_probabilities`` of the state that is worst off; infinite where one may be lost.
    """

    graph: Graph
    log_probabilities: Tensor
    log_z: float
    method: str
    transverse: Tensor
    error: float = 0.0
    rare_error: float = 0.0

    @cached_property
    def probabilities(self) -> Tensor:
        """p of every state, (2**n,); 0 below e^-745, where ``log_probabilities`` still tell states apart."""
        return self.log_probabilities.exp()

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
    """The exact distribution of ``hamiltonian`` on its device, by the best method for its size.

    Without a transverse field by enumeration. With one by :func:`~qvae.ising.exponential.log_exponential` up to
    ``MAX_EXPONENTIAL_SPINS`` spins, which gives the rarest states to as many digits as the likely ones, and beyond by
    second-order Trotter products on all basis states, extrapolated to infinitely many slices until two extrapolations in a row
    are closer than 1e-6 in total variation and log Z, and than 1e-3 in log p of every state; ``error`` and ``rare_error`` are
    their distances. In fields of tens of k_B T 64 slices may not be enough for the rarest states.

    Raises:
        ValueError: there are more than ``MAX_ENUMERATION_SPINS`` spins, or more than ``MAX_QUANTUM_SPINS`` with a
            transverse field.

    >>> p = exact_distribution(IsingHamiltonian([0.0, 0.0], [(0, 1)], [-1.0]))
    >>> p.probabilities.round(decimals=3).tolist(), round(p.log_z, 3)
    ([0.44, 0.06, 0.06, 0.44], 1.82)
    """
    n = hamiltonian.num_spins
    if n > (MAX_QUANTUM_SPINS if hamiltonian.is_quantum else MAX_ENUMERATION_SPINS):
        kind, module = (" with a transverse field", "path_integral") if hamiltonian.is_quantum else ("", "partition")
        raise ValueError(
            f"{n} spins{kind} are too many for an exact solution; the limit is {MAX_ENUMERATION_SPINS}, or "
            f"{MAX_QUANTUM_SPINS} with a transverse field: take a smaller system, or a sampler and qvae.ising.{module}"
        )
    hamiltonian = hamiltonian.detach().to(dtype=torch.float64)
    energies = basis_energies(hamiltonian)
    if not hamiltonian.is_quantum:
        log_z = torch.logsumexp(-energies, 0)
        nothing = torch.zeros_like(hamiltonian.h)
        return ExactDistribution(hamiltonian.graph, -energies - log_z, float(log_z), f"enumeration of 2^{n} states", nothing)
    if n > MAX_EXPONENTIAL_SPINS:
        return _extrapolated(hamiltonian, energies)
    log_entries = log_exponential(energies, hamiltonian.gamma)
    log_z = torch.logsumexp(log_entries.diagonal(), 0)
    states = torch.arange(2**n, device=energies.device)
    flips = [log_entries[states, states ^ (1 << i)] for i in range(n)]
    transverse = (torch.stack(flips) - log_z).exp().sum(1) if flips else torch.zeros_like(hamiltonian.h)
    method = f"exp(-H) in 2^{n} states, scaled and squared"
    return ExactDistribution(hamiltonian.graph, log_entries.diagonal() - log_z, float(log_z), method, transverse)


def spin_states(num_spins: int, device: torch.device | str | None = None) -> Tensor:
    """All spin configurations in little-endian order, (2**n, n), int8.

    >>> spin_states(2).tolist()
    [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    """
    return _spins_of(torch.arange(2**num_spins, device=device), num_spins)


def state_numbers(bits: Tensor) -> Tensor:
    """The places of bits (..., n) among all states in little-endian order, int64, (...,).

    >>> state_numbers(spin_states(2) > 0).tolist()
    [0, 1, 2, 3]
    """
    # A sum, since CUDA has no integer matrix product.
    return (bits.long() << torch.arange(bits.shape[-1], device=bits.device)).sum(-1)


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


def basis_energies(hamiltonian: IsingHamiltonian) -> Tensor:
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


def _transverse(vectors: Tensor) -> Tensor:
    """<psi|sigma^x_i|psi> of real, not normalized columns psi (2**n, k), as (n, k)."""
    size, columns = vectors.shape
    found = []
    for i in range(size.bit_length() - 1):
        down, up = vectors.view(-1, 2, 2**i, columns).unbind(1)
        found.append(2 * (down * up).sum((0, 1)))
    return torch.stack(found) if found else vectors.new_zeros(0, columns)


# Trotter's product ----------------------------------------------------------------------------------------------------


def _extrapolated(hamiltonian: IsingHamiltonian, energies: Tensor) -> ExactDistribution:
    """Richardson's extrapolation of Trotter products with ever more slices P, in powers of P^-2.

    It is taken of log p, which is smoother in 1/P than p, and keeps rare states positive.
    """
    lowest = energies.min()
    i, j = hamiltonian.edges.T
    squares = hamiltonian.J.square()
    local_field = float(hamiltonian.h.square().index_add(0, i, squares).index_add(0, j, squares).max().sqrt())
    weights: list[Tensor] = []
    transverse: list[Tensor] = []
    log_p = torch.zeros_like(energies)
    for count in range(1, len(_TROTTER_SLICES) + 1):
        slices = _TROTTER_SLICES[:count]
        weight, moments = _trotter(energies - lowest, hamiltonian.gamma, slices[-1])
        weights.append(weight)
        transverse.append(moments / torch.logsumexp(weight, 0).exp())
        before, log_p = log_p, _richardson(slices, weights)
        log_p = log_p.where(log_p.isfinite(), weight)
        error, rare_error = _distance(log_p, before), _largest_step(log_p, before)
        # The expansion in 1/P has not begun yet while a slice still sees energies far above 1.
        has_begun = local_field <= 2 * slices[-1]
        if count > 2 and has_begun and error < _TROTTER_ERROR and rare_error < _RARE_ERROR:
            break
    if not has_begun:
        error, rare_error = max(error, _distance(log_p, weight)), max(rare_error, _largest_step(log_p, weight))
    if _loses_paths(energies - lowest, hamiltonian.gamma):
        rare_error = math.inf
    log_z = torch.logsumexp(log_p, 0)
    return ExactDistribution(
        hamiltonian.graph,
        log_p - log_z,
        float(log_z - lowest + hamiltonian.gamma.sum()),
        f"Trotter products of {slices[0]} to {slices[-1]} slices on 2^{hamiltonian.num_spins} states, extrapolated",
        _richardson(slices, transverse),
        error,
        rare_error,
    )


def _trotter(energies: Tensor, gamma: Tensor, slices: int) -> tuple[Tensor, Tensor]:
    """log <z|S^P|z>, (2**n,), and Tr S^P sigma^x_i, (n,), of S = exp(-E/2P) exp(sum_i gamma_i (sigma^x_i - 1) / P) exp(-E/2P).

    S is symmetric: the first is the squared length of S^(P/2)|z>, and so a sum of positive terms. Basis states z are the
    columns of a matrix, as many at a time as a processor's cache holds. Where energies are far apart each column is divided by
    its largest entry after every step, so that rare states keep their digits; -inf is one that even a step of loses.
    """
    size, n = len(energies), len(gamma)
    columns = min(size, max(1, (2**19 if energies.device.type == "cpu" else 2**25) // size))
    whole = torch.exp(-energies / slices).unsqueeze(1)
    half = whole.sqrt()
    is_wide = float(energies.max()) > _RANGE
    cuts = [*range(0, n, _FACTOR_SPINS), n]
    factors = [_rotation(gamma[low:high] / slices) for low, high in itertools.pairwise(cuts)]
    log_weights, transverse = torch.empty_like(energies), torch.zeros_like(gamma)
    for first in range(0, size, columns):
        here = torch.arange(first, first + columns, device=energies.device)
        psi = energies.new_zeros(size, columns)
        psi[here, here - first] = half[here, 0]
        log_scale = energies.new_zeros(columns)
        for step in range(slices // 2):
            for low, factor in zip(cuts, factors, strict=False):
                # Rows are numbers of states: the bits of the spins low, low + 1, ... are an axis of their own.
                psi = torch.matmul(factor, psi.view(-1, len(factor), 2**low * columns)).view(size, columns)
            psi *= whole if step < slices // 2 - 1 else half
            if is_wide:
                largest = psi.amax(0).clamp(min=1e-300)
                psi /= largest
                log_scale += largest.log()
        log_weights[here] = psi.square().sum(0).log() + 2 * log_scale
        transverse += (_transverse(psi) * torch.exp(2 * log_scale)).sum(1)
    return log_weights, transverse


def _loses_paths(energies: Tensor, gamma: Tensor) -> bool:
    """Whether a state that is reached by tiny fields alone may count for more than what a float64 holds of it."""
    flips = (gamma[gamma > 0] / _TROTTER_SLICES[-1]).clamp(max=1).log().sum()
    return float(energies.max()) > 2 * _RANGE and float(flips) < -_RANGE


def _rotation(angles: Tensor) -> Tensor:
    """exp(sum_i angle_i (sigma^x_i - 1)) on the states of some spins, (2**k, 2**k)."""
    matrix = angles.new_ones(1, 1)
    for angle in angles:
        flip = -torch.expm1(-2 * angle) / 2
        stay = 1 - flip
        matrix = torch.kron(torch.stack([stay, flip, flip, stay]).view(2, 2), matrix)
    return matrix


def _richardson(slices: Sequence[int], values: Sequence[Tensor]) -> Tensor:
    """The value at P = infinity of the polynomial in P^-2 through ``values`` at ``slices``."""
    total = torch.zeros_like(values[0])
    for a, value in zip(slices, values, strict=True):
        weight = 1.0
        for b in slices:
            if b != a:
                weight *= a**2 / (a**2 - b**2)
        total += weight * value
    return total


def _largest_step(log_p: Tensor, log_q: Tensor) -> float:
    """Between the log p of any state; infinite where there is none."""
    return float((log_p - log_q).abs().nan_to_num(math.inf).max())


def _distance(log_p: Tensor, log_q: Tensor) -> float:
    """Of two distributions with their normalization: the total variation or that of log Z, whichever is larger."""
    variation = (log_p.softmax(0) - log_q.softmax(0)).abs().sum() / 2
    return float(torch.maximum(variation, (torch.logsumexp(log_p, 0) - torch.logsumexp(log_q, 0)).abs()))
