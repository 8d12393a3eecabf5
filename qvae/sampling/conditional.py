"""Conditional samples from any sampler: some spins held, fields added to the others."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from qvae.errors import CapabilityError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.sampler import LatentSampler, Samples


def sample_given(
    sampler: LatentSampler,
    hamiltonian: IsingHamiltonian,
    num_samples: int,
    held: Any = (),
    values: Any = (),
    fields: Tensor | None = None,
) -> Samples:
    """Spins from p(s | s_held = values) exp(-fields . s) / Z, (num_samples, n), the held ones included.

    The sampler is given the Hamiltonian of the free spins, in which held ones act as fields, so that any will do.

    Args:
        sampler: who draws.
        hamiltonian: of all n spins.
        num_samples: how many.
        held: indices of the spins that are held.
        values: theirs, -1 or +1, in the order of ``held``.
        fields: (n,), added to those of the Hamiltonian; one above 0 drives its spin down.

    Raises:
        CapabilityError: a held spin has a transverse field, so that holding it isn't conditioning on it (Amin et al. 2018), or
            the sampler can't sample such a system.
        SamplerError: the sampler fails.
        ValueError: indices or values are none.

    >>> from qvae import load_sampler
    >>> H = IsingHamiltonian([0.0, 0.0, 0.0], [(0, 1), (1, 2)], [-9.0, 9.0])
    >>> sample_given(load_sampler("exact", seed=0), H, 2, held=[0], values=[1]).spins.tolist()
    [[1, 1, -1], [1, 1, -1]]
    """
    if fields is not None:
        hamiltonian = hamiltonian.replace(hamiltonian.h + fields.to(hamiltonian.h))
    index = torch.as_tensor(held, dtype=torch.int64).reshape(-1).to(hamiltonian.h.device)
    # A graph of its own, even where none is held: chains of samplers that keep them don't go on from other fields.
    free = hamiltonian.condition(index, values)
    if bool((hamiltonian.gamma[index] > 0).any()):
        raise CapabilityError(
            "a spin with a transverse field can't be held: the distribution of the others would not be that given its value; "
            "hold spins without one, or none."
        )
    found = sampler.sample(free, num_samples)
    spins = found.spins.new_empty(num_samples, hamiltonian.num_spins)
    is_free = torch.ones(hamiltonian.num_spins, dtype=torch.bool, device=index.device)
    is_free[index] = False
    spins[:, is_free] = found.spins
    spins[:, index] = torch.as_tensor(values).reshape(-1).to(spins)
    return Samples(spins, found.weights, found.info, found.advise)
