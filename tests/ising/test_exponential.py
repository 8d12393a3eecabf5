"""exp(-H) entry by entry: states of any rarity against closed forms of single spins, and their gradients."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from qvae.ising.density import log_probabilities
from qvae.ising.exact import exact_distribution, spin_states
from qvae.ising.exponential import log_exponential
from qvae.ising.hamiltonian import IsingHamiltonian


def log_returns(h: Tensor, gamma: Tensor) -> tuple[Tensor, Tensor]:
    """log <s|exp(-h sz + gamma sx)|s> for s = +1 and -1: cosh e -+ (h/e) sinh e with e^2 = h^2 + gamma^2 and h > 0."""
    e = torch.hypot(h, gamma)
    small = gamma.square() / (e * (e + h)) / 2  # (1 - h/e) / 2, which 1 - h/e itself would lose
    up = torch.logaddexp(e + small.log(), torch.log1p(-small) - e)
    down = torch.logaddexp(e + torch.log1p(-small), small.log() - e)
    return up, down


def independent(n: int, h: float, gamma: float) -> tuple[IsingHamiltonian, Tensor]:
    """Spins without couplings, the first of which has some transverse field, and log <s|exp(-H)|s> of all their states."""
    gammas = torch.tensor([max(gamma, 1e-3)] + (n - 1) * [gamma], dtype=torch.float64)
    hamiltonian = IsingHamiltonian(torch.full((n,), h, dtype=torch.float64), [], [], gammas)
    up, down = log_returns(hamiltonian.h, hamiltonian.gamma)
    bits = (1 + spin_states(n).double()) / 2
    return hamiltonian, bits @ up + (1 - bits) @ down


# The rarest of all states are at e^-119 and below; some are far below what a float64 holds.
RARE = [(10, 6.0, 0.01), (6, 12.0, 1e-4), (4, 300.0, 1e-37), (5, 130.0, 0.0), (3, 500.0, 1e-120)]


@pytest.mark.parametrize(("n", "h", "gamma"), [*RARE, (4, 0.3, 2.0), (3, 0.5, 300.0), (1, 5.0, 1e-3), (4, 1e4, 1e-3)])
def test_states_of_any_rarity_keep_their_digits(n: int, h: float, gamma: float) -> None:
    hamiltonian, expected = independent(n, h, gamma)
    exact = exact_distribution(hamiltonian)
    # Rounding energies is an error of their size in the logarithm.
    allowed = 1e-14 * (n * (h + gamma) + 1) * 10
    log_z = float(torch.logsumexp(expected, 0))
    assert exact.log_z == pytest.approx(log_z, abs=allowed)
    torch.testing.assert_close(exact.log_probabilities, expected - log_z, atol=allowed, rtol=0)
    torch.testing.assert_close(log_probabilities(hamiltonian), exact.log_probabilities, atol=allowed, rtol=0)


def test_a_state_of_e_to_the_minus_119_in_numbers() -> None:
    exact = exact_distribution(IsingHamiltonian(torch.full((10,), 6.0), [], [], 0.01))
    assert float(exact.log_probabilities.min()) == pytest.approx(-118.929412, abs=1e-5)
    assert exact.error == 0.0


def test_gradients_of_the_rarest_state_are_those_of_the_closed_form() -> None:
    h = torch.full((4,), 30.0, dtype=torch.float64, requires_grad=True)
    gamma = torch.full((4,), 0.01, dtype=torch.float64, requires_grad=True)
    log_p = log_probabilities(IsingHamiltonian(h, [], [], gamma))
    up, down = log_returns(h, gamma)
    expected = (up - torch.logaddexp(up, down)).sum()
    assert float(log_p[-1].detach()) < -60
    for mine, true in zip(torch.autograd.grad(log_p[-1], (h, gamma)), torch.autograd.grad(expected, (h, gamma)), strict=True):
        torch.testing.assert_close(mine, true, rtol=1e-9, atol=0)


def test_gradients_are_finite_where_entries_are_zero() -> None:
    energies = torch.tensor([0.0, 400.0, -400.0, 1.0], dtype=torch.float64, requires_grad=True)
    gamma = torch.tensor([0.5, 0.0], dtype=torch.float64, requires_grad=True)
    log_entries = log_exponential(energies, gamma)
    assert float(log_entries[0, 2].detach()) == -math.inf  # no field turns spin 1
    for gradient in torch.autograd.grad(log_entries.diagonal().sum(), (energies, gamma)):
        assert bool(gradient.isfinite().all())


def test_no_fields_at_all() -> None:
    assert log_exponential(torch.zeros(4).double(), torch.zeros(2).double()).diagonal().tolist() == [0.0] * 4
