"""The negative phase of several processes: its chains are shared out, and a sampler that costs something is asked once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qvae.errors import ConfigError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.abilities import Metered
from qvae.sampling.sampler import LatentSampler, Moments, Samples
from qvae.training import ranks


def is_of_first(sampler: LatentSampler) -> bool:
    """Whether the first process alone asks a sampler: one that is far away or paid for, or an object whose seed isn't ours."""
    return ranks.count() > 1 and (sampler.capabilities.remote or sampler.is_lent or isinstance(sampler, Metered))


def share_of(chains: int, sampler: LatentSampler) -> int:
    """How many of a call's chains this process asks for.

    Raises:
        ConfigError: they can't be shared out.
    """
    if is_of_first(sampler):
        return chains
    if chains % ranks.count():
        raise ConfigError(
            f"{chains} chains can't be shared out among {ranks.count()} processes; take a training.chains that their number "
            "divides."
        )
    return chains // ranks.count()


def check(sampler: LatentSampler, hamiltonian: IsingHamiltonian) -> None:
    """As the sampler's own; what one far away says is told to all."""
    if is_of_first(sampler):
        ranks.first_does(lambda: sampler.check(hamiltonian))
    else:
        sampler.check(hamiltonian)


def moments_of_first(work: Callable[[], Moments], hamiltonian: IsingHamiltonian) -> Moments:
    """Moments that the first process gets by ``work``, for all; only there is something known of how they came about."""
    given: list[Moments] = []

    def numbers() -> list[Tensor]:
        given.append(work())
        return [given[0].spins, given[0].pairs]

    spins, pairs = ranks.first_does(numbers)
    return given[0] if given else Moments(spins.to(hamiltonian.h), pairs.to(hamiltonian.h))


def samples_of_all(sampler: LatentSampler, hamiltonian: IsingHamiltonian, share: int) -> Samples:
    """Samples of all processes, each of which asks for its share of them, in the order of their numbers."""
    if ranks.count() == 1:
        return sampler.sample(hamiltonian, share)
    given: list[Samples] = []

    def numbers() -> list[Tensor | None]:
        given.append(sampler.sample(hamiltonian, share))
        return [given[0].spins, given[0].weights]

    found: list[Any] = [ranks.first_does(numbers)] if is_of_first(sampler) else ranks.gathered(numbers())
    device = hamiltonian.h.device
    spins = torch.cat([spins.to(device) for spins, _ in found])
    weights = None if found[0][1] is None else torch.cat([weights.to(device) for _, weights in found]) / len(found)
    return Samples(spins, weights, given[0].info, given[0].advise) if given else Samples(spins, weights)
