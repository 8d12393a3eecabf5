"""Minima of polynomials of bits: by trying all, and by samplers of Ising Hamiltonians."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, log10

import torch
from torch import Tensor

from qvae.errors import DataError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.sampling.sampler import LatentSampler

_MOST_BITS = 24
_AT_ONCE = 2**16  # states whose values are worked out together
_STEPS = 20  # temperatures on the way from hot to cold
_SAME = 1e-9  # part of the largest value by which equal ones may differ


@dataclass(frozen=True)
class Minimum:
    """The best of some draws.

    Attributes:
        bits: of the lowest value, 0 or 1, int8, (n,).
        value: of the polynomial there.
        frequency: part of the draws that had it.
        mean: value of all draws.
        num_draws: of them.
    """

    bits: Tensor
    value: float
    frequency: float
    mean: float
    num_draws: int

    @classmethod
    def of(cls, values: Tensor, bits: Tensor) -> Minimum:
        """From the values of all draws, and the bits of the lowest."""
        lowest = values.min()
        is_lowest = values <= lowest + _SAME * values.abs().max()
        return cls(bits.to(torch.int8), float(lowest), float(is_lowest.double().mean()), float(values.mean()), len(values))


def minimise_exhaustively(polynomial: PseudoBoolean) -> Minimum:
    """The minimum of all 2**n states, of which ``frequency`` is the part that have it.

    Raises:
        DataError: there are more than 24 bits.
    """
    number = polynomial.num_bits
    if number > _MOST_BITS:
        raise DataError(f"the polynomial has {number} bits, and at most {_MOST_BITS} can be tried out; take a sampler.")
    places = torch.arange(number)
    states = torch.arange(2**number)
    values = torch.cat([polynomial.values(part.unsqueeze(1) >> places & 1) for part in states.split(_AT_ONCE)])
    return Minimum.of(values, values.argmin() >> places & 1)


def minimise_by_sampling(
    polynomial: PseudoBoolean,
    sampler: LatentSampler,
    num_samples: int = 100,
    betas: Sequence[float] | None = None,
    strength: float = 0.05,
) -> Minimum:
    """The lowest of samples of exp(-beta * polynomial), from any sampler that takes the Hamiltonian in its place.

    Samplers draw at a temperature of 1, so the Hamiltonian is multiplied by beta; of more than one the sampler is called for
    each in turn, so that persistent chains are annealed. Monomials of more than two bits are made quadratic with more spins,
    and what is returned is judged by the polynomial itself.

    Args:
        polynomial: with numbers as coefficients.
        sampler: ``dimod``, ``gibbs``, ``exact``, ``dwave``, or another one.
        num_samples: of each call; ``frequency`` and ``mean`` are of the last one.
        betas: inverse temperatures, in units of 1 / value. None is for a persistent sampler a rise by equal factors from where
            most spins are free to where few are, for one that works elsewhere the inverse of the largest coefficient, since
            couplings beyond an annealer's range are clipped (with the option ``beta=1`` of ``dwave`` they fill it, and the
            draws are as cold as the annealer), and for others the end of the rise.
        strength: of the penalties for these. Above 1 the lowest energy is sure to be the polynomial's minimum, but couplings
            grow a hundredfold, and samplers get stuck: the default finds it more often.

    Raises:
        CapabilityError, SamplerError: as :meth:`LatentSampler.sample`.
    """
    quadratic = polynomial.quadratised(strength)
    hamiltonian = quadratic.hamiltonian
    for beta in _betas(hamiltonian, sampler) if betas is None else betas:
        samples = sampler.sample(hamiltonian.replace(beta * hamiltonian.h, beta * hamiltonian.J), num_samples)
    bits = (samples.spins[:, : quadratic.num_bits] > 0).to(torch.int8)
    values = polynomial.values(bits)
    return Minimum.of(values, bits[values.argmin()])


def _betas(hamiltonian: IsingHamiltonian, sampler: LatentSampler) -> list[float]:
    """From where the costliest flip is still made by half, to where one of a mean coefficient is made by a hundredth."""
    sizes = hamiltonian.replace(hamiltonian.h.abs(), hamiltonian.J.abs())
    coefficients = torch.cat([sizes.h, sizes.J])
    if not coefficients.any():
        return [1.0]
    if sampler.capabilities.remote:
        return [1 / float(coefficients.max())]
    costliest = 2 * float(sizes.local_fields(torch.ones_like(sizes.h)).max())
    rise = torch.logspace(log10(log(2) / costliest), log10(log(100) / (2 * float(coefficients.mean()))), _STEPS).tolist()
    return rise if sampler.capabilities.persistent else rise[-1:]
