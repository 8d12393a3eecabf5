"""Temperatures that a sampler is led through, and what is told of its draws: by hand."""

from math import log

import pytest
import torch

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.qubo.minimise import _STEPS, Minimum, _betas, minimise_by_sampling
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples

PAIR = IsingHamiltonian([-1.0, 0.0], [(0, 1)], [2.0])


class Recorded(LatentSampler):
    """Draws what it is told to, and keeps what it was asked."""

    def __init__(self, spins, persistent=False, remote=False):
        self.spins, self.asked = torch.tensor(spins, dtype=torch.int8), []
        self.capabilities = Capabilities(persistent=persistent, remote=remote)

    def _sample(self, hamiltonian, num_samples):
        self.asked.append((hamiltonian, num_samples))
        return Samples(self.spins)


def test_a_sampler_of_chains_is_cooled_from_free_spins_to_ones_that_hardly_flip():
    """The costliest flip costs 2 (1 + 2); a coefficient is 1 in the mean, whose flip costs 2."""
    rise = _betas(PAIR, Recorded([[1, 1]], persistent=True))
    assert len(rise) == _STEPS
    assert (rise[0], rise[-1]) == (pytest.approx(log(2) / 6), pytest.approx(log(100) / 2))
    assert rise[1] / rise[0] == pytest.approx(rise[-1] / rise[-2])
    assert _betas(PAIR, Recorded([[1, 1]])) == [rise[-1]]
    assert _betas(PAIR, Recorded([[1, 1]], persistent=True, remote=True)) == [0.5]  # its couplings fill a range of 1
    assert _betas(IsingHamiltonian([0.0, 0.0], [(0, 1)], [0.0]), Recorded([[1, 1]])) == [1.0]


def test_the_lowest_of_the_last_draws_is_told_with_their_mean_and_frequency():
    values = torch.tensor([3.0, -1.0, 5.0, -1.0], dtype=torch.float64)
    found = Minimum.of(values, torch.tensor([1, 0, 1]))
    assert (found.value, found.frequency, found.mean, found.bits.tolist()) == (-1.0, 0.5, 1.5, [1, 0, 1])


def test_every_temperature_is_asked_for_and_the_last_draws_are_judged():
    polynomial = PseudoBoolean({frozenset({0}): -1.0, frozenset({0, 1}): 3.0, frozenset(): 0.5})
    sampler = Recorded([[1, 1], [1, -1], [-1, 1]])
    found = minimise_by_sampling(polynomial, sampler, 3, betas=[0.5, 2.0])
    hamiltonian = polynomial.quadratised(0.05).hamiltonian
    assert [number for _, number in sampler.asked] == [3, 3]
    for (asked, _), beta in zip(sampler.asked, (0.5, 2.0), strict=True):
        torch.testing.assert_close(asked.h, beta * hamiltonian.h)
        torch.testing.assert_close(asked.J, beta * hamiltonian.J)
    # Values of the bits (1, 1), (1, 0) and (0, 1).
    assert (found.value, found.bits.tolist()) == (-0.5, [1, 0])
    assert (found.frequency, found.mean) == (pytest.approx(1 / 3), pytest.approx((2.5 - 0.5 + 0.5) / 3))


def test_the_penalties_of_longer_monomials_are_as_strong_as_is_asked_for():
    polynomial = PseudoBoolean({frozenset({0, 1, 2}): -2.0, frozenset({0}): 1.0})
    size = polynomial.quadratised(1.5).hamiltonian.num_spins
    for strength in (0.25, 1.5):
        sampler = Recorded([[1] * size])
        minimise_by_sampling(polynomial, sampler, 1, betas=[1.0], strength=strength)
        expected = polynomial.quadratised(strength).hamiltonian
        ((asked, _),) = sampler.asked
        torch.testing.assert_close((asked.h, asked.J), (expected.h, expected.J))
    assert not torch.allclose(polynomial.quadratised(0.25).hamiltonian.J, expected.J)
