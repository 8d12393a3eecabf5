"""log <s|exp(-H)|s> of all states of a small system, differentiable in fields, couplings and transverse field."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.ising.exact import MAX_EXPONENTIAL_SPINS, basis_energies
from qvae.ising.exponential import log_exponential
from qvae.ising.hamiltonian import IsingHamiltonian


def log_probabilities(hamiltonian: IsingHamiltonian) -> Tensor:
    """log p(s) = log <s|exp(-H)|s> - log Z of every state, (2**n,), float64, in the order of ``exact_distribution``.

    Differentiable in ``h``, ``J`` and ``gamma``: the exact gradient of a quantum Boltzmann machine (Amin et al. 2018), which
    its usual bound gives up.

    Raises:
        ValueError: there are more than ``MAX_EXPONENTIAL_SPINS`` spins.

    >>> gamma = torch.tensor([0.5], requires_grad=True)
    >>> log_probabilities(IsingHamiltonian([0.3], [], [], gamma))[1].backward()
    >>> round(float(gamma.grad), 3)  # a transverse field flattens p(s)
    0.106
    """
    n = hamiltonian.num_spins
    if n > MAX_EXPONENTIAL_SPINS:
        raise ValueError(f"{n} spins are too many to differentiate exp(-H); the limit is {MAX_EXPONENTIAL_SPINS}")
    energies = basis_energies(hamiltonian.to(dtype=torch.float64))
    log_diagonal = log_exponential(energies, hamiltonian.gamma.double()).diagonal()
    return log_diagonal - torch.logsumexp(log_diagonal, 0)


def expected_log_probability(log_p: Tensor, logits: Tensor) -> Tensor:
    """E_q[log p(z)], (B,), of a factorial q with ``logits`` (B, n) over the states of ``log_p`` (2**n,): exact, no sampling."""
    table = logits.new_ones(len(logits), 1)
    for up in torch.sigmoid(logits).unbind(1):
        # Spin i is bit i of a state's number: each further spin doubles the table.
        table = torch.cat([table * (1 - up).unsqueeze(1), table * up.unsqueeze(1)], dim=1)
    return table @ log_p.to(table.dtype)
