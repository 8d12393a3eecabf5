"""Population annealing: chains cooled together and resampled on the way, for distributions with many modes; log Z, too."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs

MAX_TEMPERATURES = 1000
_OVERLAP = 0.8  # effective share of the population that a step in temperature leaves
_LEAST = 128  # chains: fewer than that can't tell the spread of energies well


@dataclass(frozen=True)
class Population:
    """Chains at beta = 1, and what their way there tells.

    Attributes:
        state: bits (n, chains), as :class:`BlockGibbs` keeps them, in random order.
        temperatures: number of steps from beta = 0 to 1.
        size: of the population that was annealed, which ``state`` may be a part of.
        families: 1 / sum_i f_i^2, where f_i is the share of chains that descend from the i-th at beta = 0: how many of the
            first chains have left descendants in effect.
        log_z: an estimate of log sum_s exp(-E(s)), in nats; exp of it is unbiased for a given ladder of temperatures.
        log_z_stderr: sqrt(1 / families - 1 / size), rather too large than too small.
    """

    state: Tensor
    temperatures: int
    size: int
    families: float
    log_z: float
    log_z_stderr: float


def anneal_population(kernel: BlockGibbs, chains: int, sweeps: int, generator: torch.Generator) -> Population:
    """Chains of the kernel's distribution by population annealing (Hukushima and Iba 2003; Machta 2010).

    From uniform spins at beta = 0 on, each step in beta resamples the chains by their weights exp(-dbeta E) and then updates
    every spin ``sweeps`` times. Unlike chains that are cooled each by itself, those in modes too heavy die out and those in
    modes too light multiply, so that modes keep their weights where no chain can move from one to another any more. A step
    is so long that weights of Gaussian energies would be worth 80 % of the chains, dbeta = sqrt(-log 0.8) / sd(E), but no
    shorter than 1 / ``MAX_TEMPERATURES``.

    Args:
        kernel: of the distribution at beta = 1.
        chains: that are wanted, 1 or more; at least 128 are annealed.
        sweeps: at each temperature, 1 or more.
        generator: on the kernel's device.
    """
    size = max(chains, _LEAST)
    state = kernel.random_state(size, generator).to(kernel.quickest)
    family = torch.arange(size, device=state.device)
    log_z = torch.full((), state.shape[0] * math.log(2.0), dtype=torch.float64, device=state.device)
    beta, temperatures = 0.0, 0
    while beta < 1.0:
        energies = kernel.energies(state).double()
        spread = float(energies.std(correction=0))
        step = max(1 / MAX_TEMPERATURES, math.sqrt(-math.log(_OVERLAP)) / max(spread, 1e-9))
        step = min(step, 1.0 - beta)
        # A last step that is a rounding error is none.
        beta, temperatures = (1.0 if beta + step > 1 - 1e-9 else beta + step), temperatures + 1
        log_weights = -step * energies
        log_z += torch.logsumexp(log_weights, 0) - math.log(size)
        chosen = _resample(log_weights, generator)
        state, family = state[:, chosen], family[chosen]
        kernel.sweep(state, sweeps, generator, beta)
    shares = torch.bincount(family, minlength=size).double() / size
    families = float(1 / shares.square().sum())
    # Resampling leaves relatives side by side: the first chains, taken by themselves, would be of few families.
    shuffled = torch.randperm(size, generator=generator, device=state.device)[:chains]
    stderr = math.sqrt(max(0.0, 1 / families - 1 / size))
    return Population(state[:, shuffled], temperatures, size, families, float(log_z), stderr)


def _resample(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    """Indices of chains, each as often as its weight says, to within 1 (systematic resampling)."""
    shift = torch.rand(1, generator=generator, device=log_weights.device, dtype=torch.float64)
    even = (torch.arange(len(log_weights), device=log_weights.device) + shift) / len(log_weights)
    return torch.searchsorted(log_weights.softmax(0).cumsum(0), even).clamp(max=len(log_weights) - 1)
