"""Samplers made from their names and options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qvae.sampling.registered import SAMPLERS
from qvae.trust import OWN, Trust

if TYPE_CHECKING:
    from qvae.config.schema import BackendSpec
    from qvae.sampling.sampler import LatentSampler


def load_sampler(name: str, /, **options: Any) -> LatentSampler:
    """The sampler registered as ``name``, or that of an import path such as ``my_module:MySampler``, made with ``options``.

    Raises:
        SamplerError: no sampler has this name or two packages claim it, a module that it needs isn't installed, or an
            option is unknown, missing or has a value that the sampler refuses.

    >>> load_sampler("exact", seed=0).capabilities.max_spins
    20
    """
    return SAMPLERS.load(name, options)


def make_sampler(
    spec: BackendSpec, seed: int | None, folder: Path | None = None, trust: Trust = OWN
) -> LatentSampler:
    """The sampler that a specification names, with this seed if it takes one; it keeps its files in the run folder.

    Raises:
        SamplerError: as :func:`load_sampler`, or the specification needs a word that the user hasn't said.
    """
    from qvae.sampling.abilities import KeepsFiles

    sampler = SAMPLERS.make(spec, seed, trust, folder)
    if folder is not None and isinstance(sampler, KeepsFiles):
        sampler.attach(folder)
    return sampler
