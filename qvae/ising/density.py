"""log <s|exp(-H)|s> of all states of a small system, differentiable in fields, couplings and transverse field."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qvae.ising.exact import MAX_DIAGONALIZATION_SPINS, basis_energies, dense_matrix
from qvae.ising.hamiltonian import IsingHamiltonian


def log_probabilities(hamiltonian: IsingHamiltonian) -> Tensor:
    """log p(s) = log <s|exp(-H)|s> - log Z of every state, (2**n,), float64, in the order of ``exact_distribution``.

    Differentiable in ``h``, ``J`` and ``gamma``: the exact gradient of a quantum Boltzmann machine (Amin et al. 2018), which
    its usual bound gives up.

    Raises:
        ValueError: there are more than ``MAX_DIAGONALIZATION_SPINS`` spins.

    >>> H = IsingHamiltonian([0.3], [], [], gamma=torch.tensor([0.5], requires_grad=True))
    >>> log_probabilities(H)[1].backward()
    >>> round(float(H.gamma.grad), 3)  # a transverse field flattens p(s)
    0.106
    """
    n = hamiltonian.num_spins
    if n > MAX_DIAGONALIZATION_SPINS:
        raise ValueError(f"{n} spins are too many to differentiate exp(-H); the limit is {MAX_DIAGONALIZATION_SPINS}")
    log_diagonal = _LogDiagonal.apply(basis_energies(hamiltonian.to(dtype=torch.float64)), hamiltonian.gamma.double())
    return log_diagonal - torch.logsumexp(log_diagonal, 0)


class _LogDiagonal(torch.autograd.Function):
    """log <s|exp(-H)|s> from energies (2**n,) and gamma (n,), with the derivative of the matrix exponential.

    d exp(-H) = -V [Phi o (V' dH V)] V' with Phi_ab = (exp(-l_b) - exp(-l_a)) / (l_a - l_b) and exp(-l_a) on the diagonal
    (Daleckii and Krein): unlike the derivative of eigenvectors it is finite where levels are degenerate.
    """

    @staticmethod
    def forward(ctx: Any, energies: Tensor, gamma: Tensor) -> Tensor:
        levels, vectors = torch.linalg.eigh(dense_matrix(energies, gamma))
        lowest = levels[0].clone()
        levels = levels - lowest  # exp(-l) of the lowest is then 1
        diagonal = vectors.square() @ torch.exp(-levels)
        ctx.save_for_backward(levels, vectors, diagonal)
        return diagonal.log() - lowest

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor]:
        levels, vectors, diagonal = ctx.saved_tensors
        weights = gradients[0] / diagonal
        inner = vectors.T @ (weights.unsqueeze(1) * vectors)
        by_matrix = -(vectors @ (_divided_differences(levels) * inner) @ vectors.T)
        states = torch.arange(len(levels), device=levels.device)
        flips = [by_matrix[states, states ^ (1 << i)].sum() for i in range(len(levels).bit_length() - 1)]
        by_gamma = -torch.stack(flips) if flips else levels.new_zeros(0)
        return by_matrix.diagonal().clone(), by_gamma


def _divided_differences(levels: Tensor) -> Tensor:
    """Phi_ab = exp(-min) (1 - exp(-|d|)) / |d| of the distance d of two levels, which keeps its digits at small d."""
    distance = (levels.unsqueeze(0) - levels.unsqueeze(1)).abs()
    slope = torch.where(distance > 1e-8, -torch.expm1(-distance) / distance.clamp_min(1e-8), 1 - distance / 2)
    return torch.exp(-torch.minimum(levels.unsqueeze(0), levels.unsqueeze(1))) * slope


def expected_log_probability(log_p: Tensor, logits: Tensor) -> Tensor:
    """E_q[log p(z)], (B,), of a factorial q with ``logits`` (B, n) over the states of ``log_p`` (2**n,): exact, no sampling."""
    table = logits.new_ones(len(logits), 1)
    for up in torch.sigmoid(logits).unbind(1):
        # Spin i is bit i of a state's number: each further spin doubles the table.
        table = torch.cat([table * (1 - up).unsqueeze(1), table * up.unsqueeze(1)], dim=1)
    return table @ log_p.to(table.dtype)
