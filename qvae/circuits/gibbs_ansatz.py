"""Variational Gibbs states: the thermofield-double ansatz, and its training by free energy or in imaginary time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.circuits.statevector import PauliRotations, PauliString
from qvae.ising.exact import spin_states
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian

COLD_ITERATIONS = 100
"""The most of a fresh start, which ends where ten iterations lower the free energy by less than ten times the tolerance."""
WARM_ITERATIONS = 5
"""The most of a start from the last solution, which ends where one iteration gains less than the tolerance."""
TOLERANCE = 1e-5
"""Nats an iteration."""
_JUMP = 1e-3  # nats: where a warm start still gains so much in an iteration, the last solution was far off, and it goes on
_STEPS = 1.25  # of imaginary time for each unit of the coefficients' norm, which is the spread of H's levels; at least 4
_SHIFT = 1e-4  # on the metric's diagonal, which is 1/4: with 1e-6 large steps become unstable, 1e-2 costs accuracy
_DRIFT = 0.1  # coefficients: a continuation of imaginary time is right to second order only, so it starts anew beyond this


class GibbsAnsatz:
    """A pure state of n system and n ancilla qubits, whose system part imitates exp(-H)/Z.

    Bell pairs (s_i, a_i), (|00> + |11>)/sqrt(2), go through K layers of rotations exp(-i theta P / 2), one angle each. On
    Bell pairs Y_s Z_a acts as i X_s, Y_s X_a as -i Z_s, and Y_si X_ai Z_sj as -i Z_si Z_sj, so that unitaries imitate
    imaginary time: the layers with the angles {gamma_i, -h_i, J_ij / 2}/K are a first-order exp(-H/2) on the system, hence
    the thermofield double of exp(-H), whose system part is the Gibbs state (Wu and Hsieh 2019, arXiv:1811.11756, prepare it
    with other gates). Every pair is coupled in both orders, i with control j and j with control i, J_ij / 2 each: that costs
    the state vector nothing, and two layers come as close as four of one order.

    Qubit i < n is spin i, qubit n + i its ancilla, and a qubit in |1> is a spin +1: s_i = -Z_i. The state is real.

    Args:
        graph: of the spins.
        layers: K.
        device: of angles and states, which are float64: at 8 spins float32 saves a quarter of the time, but puts the free
            energy off by 3e-6, too close to what an iteration gains.
    """

    def __init__(self, graph: Graph, layers: int = 2, device: torch.device | str | None = None) -> None:
        n = graph.num_spins
        self.graph = graph.to(device or "cpu")
        self.layers = layers
        strings, sources, weights = _layer(graph)
        self.strings: list[PauliString] = strings * layers
        self.circuit = PauliRotations(2 * n, self.strings, device=device)
        self._sources = torch.tensor(sources * layers, dtype=torch.int64, device=device)
        self._weights = torch.tensor(weights * layers, dtype=torch.float64, device=device) / layers
        self.bell = torch.eye(2**n, dtype=torch.float64, device=device).flatten() / 2 ** (n / 2)
        spins = spin_states(n, device).double()
        i, j = self.graph.edges.T
        self._diagonals = torch.cat([spins, spins[:, i] * spins[:, j]], dim=1)

    @property
    def num_spins(self) -> int:
        """n, half the number of qubits."""
        return self.graph.num_spins

    @property
    def num_angles(self) -> int:
        """K (2n + 2m)."""
        return len(self.strings)

    def coefficients(self, hamiltonian: IsingHamiltonian) -> Tensor:
        """h, J and gamma in one row, (2n + m,), float64."""
        parts = (hamiltonian.h, hamiltonian.J, hamiltonian.gamma)
        return torch.cat([part.detach() for part in parts]).to(self.bell)

    def matrix(self, coefficients: Tensor) -> Tensor:
        """H in the z basis of the system, little-endian, (2**n, 2**n); linear in the coefficients."""
        n = self.num_spins
        matrix = torch.diag(self._diagonals @ coefficients[:-n])
        states = torch.arange(2**n, device=matrix.device)
        for i in range(n):
            matrix[states, states ^ (1 << i)] = -coefficients[i - n]
        return matrix

    def start(self, coefficients: Tensor) -> Tensor:
        """The angles of a first-order product formula of exp(-H/2), (T,); linear in the coefficients."""
        return coefficients[self._sources] * self._weights

    def state(self, angles: Tensor) -> Tensor:
        """Amplitudes Psi (..., 2**n of the ancillas, 2**n of the system) for angles (..., T); differentiable."""
        side = 2**self.num_spins
        return self.circuit(angles, self.bell).unflatten(-1, (side, side))

    def probabilities(self, angles: Tensor) -> Tensor:
        """The distribution of the system's spins, in the order of :func:`~qvae.ising.exact.spin_states`, (..., 2**n)."""
        return self.state(angles).square().sum(-2)

    def free_energy(self, angles: Tensor, matrix: Tensor) -> Tensor:
        """F = Tr(rho H) - S(rho) of the system's rho, in nats, (...,) for angles (..., T); differentiable.

        By Gibbs' principle F + log Z = Tr rho (log rho - log rho_Gibbs) >= 0, which bounds KL(p || p_Gibbs) of the z-basis
        distributions.
        """
        return _FreeEnergy.apply(self.state(angles), matrix)


class _FreeEnergy(torch.autograd.Function):
    """Tr(Psi'Psi H) + Tr(Psi'Psi log Psi'Psi) of real amplitudes Psi (..., a, s).

    The gradient, 2 Psi (H + log rho + 1), needs no derivative of eigenvectors, so degenerate eigenvalues do no harm; zero
    ones neither, since Psi vanishes there.
    """

    @staticmethod
    def forward(ctx: Any, state: Tensor, matrix: Tensor) -> Tensor:
        rho = state.mT @ state
        p, basis = torch.linalg.eigh(rho)
        log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log()
        ctx.save_for_backward(state, matrix, log_p, basis)
        return (rho * matrix).sum((-2, -1)) + (p * log_p).sum(-1)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        state, matrix, log_p, basis = ctx.saved_tensors
        entropic = (state @ basis * (log_p + 1).unsqueeze(-2)) @ basis.mT
        return 2 * grad[..., None, None] * (state @ matrix + entropic), None


def _layer(graph: Graph) -> tuple[list[PauliString], list[int], list[float]]:
    """One layer: its strings, the coefficient that each imitates, and the factor from that to the first angle."""
    n, m = graph.num_spins, graph.num_edges
    partners: list[list[tuple[int, int]]] = [[] for _ in range(n)]
    for edge, (i, j) in enumerate(graph.edges.tolist()):
        partners[i].append((j, edge))
        partners[j].append((i, edge))
    terms: list[tuple[PauliString, int, float]] = []
    for i in range(n):
        terms.append((("YZ", (i, n + i)), n + m + i, 1.0))
        # One pass of the state vector: all of these flip the same two qubits and commute.
        terms.append((("YX", (i, n + i)), i, -1.0))
        terms += [(("YXZ", (i, n + i, j)), n + edge, 0.5) for j, edge in partners[i]]
    return [string for string, _, _ in terms], [source for _, source, _ in terms], [weight for _, _, weight in terms]


# Exact solution -------------------------------------------------------------------------------------------------------


class ExactGibbsState:
    """exp(-H)/Z by diagonalization, to measure an ansatz by.

    Args:
        matrix: H, (2**n, 2**n).

    Attributes:
        free_energy: -log Z, in nats.
    """

    def __init__(self, matrix: Tensor) -> None:
        levels, basis = torch.linalg.eigh(matrix)
        log_z = torch.logsumexp(-levels, 0)
        self.free_energy = -float(log_z)
        self._root = basis * (0.5 * (-levels - log_z)).exp() @ basis.T

    def fidelity(self, state: Tensor) -> float:
        """(Tr |sqrt(rho) sqrt(sigma)|)^2 to the system's part rho of amplitudes Psi (2**n, 2**n), from 0 to 1 (Uhlmann)."""
        squares = torch.linalg.eigvalsh(self._root @ (state.T @ state) @ self._root)
        return min(1.0, float(squares.clamp(min=0).sqrt().sum()) ** 2)


# Training -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Solution:
    """Trained angles, and what the training for the next Hamiltonian goes on from.

    Attributes:
        coefficients: of the Hamiltonian they belong to, (2n + m,).
        angles: (T,).
        memory: of :func:`minimise_free_energy` the inverse Hessian, (T, T); of :func:`follow_imaginary_time` the coefficients
            for which it last began at Bell pairs, (2n + m,).
        iterations: steps of the optimizer; solutions of McLachlan's equation.
    """

    coefficients: Tensor
    angles: Tensor
    memory: Tensor
    iterations: int = 0


def minimise_free_energy(ansatz: GibbsAnsatz, hamiltonian: IsingHamiltonian, last: Solution | None = None) -> Solution:
    """Angles of least free energy, by a quasi-Newton method (BFGS), which needs the entropy of the state.

    Given the ``last`` solution, its angles are shifted by what the coefficients' change adds to the first angles, unless
    first angles are better as they are. Then few iterations suffice, since the inverse Hessian goes on, too: with L-BFGS,
    which begins without it, as many of them fall behind a moving Hamiltonian.
    """
    coefficients = ansatz.coefficients(hamiltonian)
    matrix = ansatz.matrix(coefficients)

    def evaluate(angles: Tensor) -> _Point:
        angles = angles.detach().requires_grad_()
        with torch.enable_grad():
            value = ansatz.free_energy(angles, matrix)
        (gradient,) = torch.autograd.grad(value, angles)
        return _Point(angles.detach(), float(value.detach()), gradient)

    first = ansatz.start(coefficients)
    memory = None
    if last is None:
        here = evaluate(first)
    else:
        here = evaluate(last.angles + first - ansatz.start(last.coefficients))
        if here.value <= float(ansatz.free_energy(first, matrix)):
            memory = last.memory
        else:
            here = evaluate(first)
    warm = memory is not None
    values = [here.value]
    while len(values) <= COLD_ITERATIONS and not _settled(values, warm):
        steepest = -here.gradient / max(1.0, float(here.gradient.norm()))
        there = _line_search(evaluate, here, steepest if memory is None else -(memory @ here.gradient))
        if there is None and memory is None:
            break
        if there is None:
            memory = None
            continue
        memory = _updated(memory, there.angles - here.angles, there.gradient - here.gradient)
        here = there
        values.append(here.value)
    memory = torch.eye(len(first)).to(first) if memory is None else memory
    return Solution(coefficients, here.angles, memory, len(values) - 1)


def _settled(values: list[float], warm: bool) -> bool:
    """Whether the free energies after each iteration have come to rest."""
    window = 1 if warm else 10  # single iterations of a fresh start may gain little in the middle of it
    if len(values) <= window:
        return False
    if values[-1 - window] - values[-1] < window * TOLERANCE:
        return True
    return warm and len(values) > WARM_ITERATIONS and values[-2] - values[-1] < _JUMP


@dataclass(frozen=True)
class _Point:
    angles: Tensor
    value: float
    gradient: Tensor


def _line_search(evaluate: Callable[[Tensor], _Point], here: _Point, direction: Tensor) -> _Point | None:
    """A point along ``direction`` that is low enough (Armijo), by interpolation back from the full step; None without one."""
    slope, length = float(here.gradient @ direction), 1.0
    if slope > -1e-12:
        return None
    while length > 1e-3:
        there = evaluate(here.angles + length * direction)
        if there.value <= here.value + 1e-4 * length * slope:
            return there
        lowest = -slope * length**2 / (2 * (there.value - here.value - slope * length))
        length = min(max(lowest, 0.1 * length), 0.5 * length)
    return None


def _updated(inverse: Tensor | None, step: Tensor, change: Tensor) -> Tensor | None:
    """The inverse Hessian after a step that changed the gradient so (Nocedal and Wright 2006, equations 6.17 and 6.20)."""
    product = step @ change
    if product <= 1e-10 * step.norm() * change.norm():
        return inverse
    if inverse is None:
        inverse = torch.eye(len(step)).to(step) * (product / (change @ change))
    image = inverse @ change
    cross = torch.outer(image, step) / product
    return inverse + (1 + change @ image / product) * torch.outer(step, step) / product - cross - cross.T


@torch.no_grad()
def follow_imaginary_time(ansatz: GibbsAnsatz, hamiltonian: IsingHamiltonian, last: Solution | None = None) -> Solution:
    """Angles along imaginary time from 0 to 1/2, from Bell pairs to the thermofield double, without any entropy.

    The angles obey McLachlan's equation, sum_j Re<d_i psi|d_j psi> dtheta_j/dtau = -Re<d_i psi|H psi> (McArdle et al. 2019,
    arXiv:1804.03023), all of whose terms a quantum computer could measure.

    The purification of H + D is not reached from the ``last`` one of H by imaginary time under D alone, unless they commute;
    but D / 2 on the system and D / 2 on the ancillas are right to the second order in the commutator. One such step follows
    a small change, until one coefficient has moved by ``_DRIFT`` = 0.1 since the last start from Bell pairs.
    """
    coefficients = ansatz.coefficients(hamiltonian)
    if last is not None and float((coefficients - last.memory).abs().max()) <= _DRIFT:
        change = ansatz.matrix(coefficients - last.coefficients)
        angles = last.angles + 0.5 * _velocity(ansatz, last.angles, lambda psi: 0.5 * (psi @ change + change @ psi))
        return Solution(coefficients, angles, last.memory, 1)
    matrix = ansatz.matrix(coefficients)

    def velocity(angles: Tensor) -> Tensor:
        return _velocity(ansatz, angles, lambda psi: psi @ matrix)

    steps = max(4, math.ceil(_STEPS * float(coefficients.norm())))
    angles, step = torch.zeros(ansatz.num_angles).to(coefficients), 0.5 / steps
    for _ in range(steps):
        a = velocity(angles)
        b = velocity(angles + 0.5 * step * a)
        c = velocity(angles + 0.5 * step * b)
        d = velocity(angles + step * c)
        angles = angles + step / 6 * (a + 2 * b + 2 * c + d)
    return Solution(coefficients, angles, coefficients, 4 * steps)


def _velocity(ansatz: GibbsAnsatz, angles: Tensor, generator: Callable[[Tensor], Tensor]) -> Tensor:
    """dtheta/dtau of imaginary time under a generator, which acts on amplitudes Psi (2**n, 2**n)."""
    state, jacobian = ansatz.circuit.jacobian(angles, ansatz.bell)
    side = 2**ansatz.num_spins
    force = -(jacobian @ generator(state.view(side, side)).flatten())
    metric = jacobian @ jacobian.T
    metric.diagonal().add_(_SHIFT)
    return torch.linalg.solve(metric, force)
