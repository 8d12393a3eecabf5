"""A sampler's own temperature: measured against a classical reference, and followed from call to call."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import Estimate
from qvae.sampling.sampler import Samples

_JUMP = 5.0  # standard deviations


def energy_matching_beta(
    samples: Samples | Tensor, hamiltonian: IsingHamiltonian, generator: torch.Generator, sweeps: int = 50, steps: int = 6
) -> Estimate:
    """The inverse temperature at which the Gibbs distribution has the samples' mean energy, 1 for a perfect sampler.

    Newton's method on <E>_beta = <E>_samples with d<E>_beta/dbeta = -Var_beta(E). The reference is block Gibbs sampling
    from the samples themselves, one chain each, which goes on from step to step; where the samples sit in modes that local
    updates don't leave, the reference stays there, too. Energies of different samples are taken as independent.

    Args:
        samples: of a sampler, or its spins (num_samples, n).
        hamiltonian: that they were drawn for, without a transverse field.
        generator: of the reference.
        sweeps: of the reference in each of Newton's ``steps``.

    Returns:
        NaN where the energy says nothing: it has a transverse field, or no spread.
    """
    samples = samples if isinstance(samples, Samples) else Samples(samples)
    number, spins = samples.effective_size, samples.equal_weights(generator).spins
    exact = hamiltonian.detach().to(dtype=torch.float32)
    energies = exact.energy(spins)
    if hamiltonian.is_quantum or len(spins) < 2 or float(energies.std()) == 0.0:
        return Estimate(math.nan, math.nan)
    kernel = BlockGibbs(exact)
    state, beta = kernel.from_spins(spins), 1.0
    for _ in range(steps):
        kernel.sweep(state, sweeps, generator, beta=beta)
        reference = exact.energy(kernel.to_spins(state))
        variance = float(reference.var())
        if variance == 0.0:
            return Estimate(math.nan, math.nan)
        stderr = math.sqrt((float(energies.var()) + variance) / number) / variance
        step = float(reference.mean() - energies.mean()) / variance
        # Far from the solution the variance changes with beta: never more than doubled or halved at once.
        beta = min(2 * beta, max(beta / 2, beta + step))
    return Estimate(beta, stderr)


@dataclass
class BetaFilter:
    """A Kalman filter of an inverse temperature that drifts slowly: calls that say little weigh little.

    Measurements far below zero count as others do, or the estimate would be biased; a measurement that the drift can't explain
    is a jump, after which the estimate is as uncertain as the jump is large.

    Attributes:
        value: the estimate, above 0; a guess at first.
        variance: of the estimate.
        drift: standard deviation of the change from one call to the next, relative to the value.

    >>> beta = BetaFilter(3.0)
    >>> for _ in range(100):
    ...     beta.update(Estimate(2.0, 0.1))
    >>> round(beta.value, 2), beta.stderr < 0.05
    (2.0, True)
    """

    value: float
    variance: float = math.nan
    drift: float = 0.01

    def __post_init__(self) -> None:
        if math.isnan(self.variance):
            self.variance = self.value**2  # a guess may be off by its own size

    @property
    def stderr(self) -> float:
        """Standard error of the estimate."""
        return math.sqrt(self.variance)

    def update(self, measured: Estimate) -> None:
        """Take a measurement; one that is infinite or not a number is none."""
        if not (math.isfinite(measured.value) and math.isfinite(measured.stderr) and measured.stderr > 0):
            return
        predicted = self.variance + (self.drift * self.value) ** 2
        surprise = measured.value - self.value
        if surprise**2 > _JUMP**2 * (predicted + measured.stderr**2):
            predicted = surprise**2
        gain = predicted / (predicted + measured.stderr**2)
        # It divides coefficients: never more than doubled or halved at once, and never 0.
        self.value = min(2 * self.value, max(self.value / 2, self.value + gain * surprise))
        self.variance = (1 - gain) * predicted

    def state_dict(self) -> dict[str, Any]:
        """Estimate and variance."""
        return {"value": self.value, "variance": self.variance}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        self.value, self.variance = float(state["value"]), float(state["variance"])
