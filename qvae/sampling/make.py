"""A sampler from its specification, with its seed and its place in a run folder."""

from __future__ import annotations

from pathlib import Path

from qvae.config.schema import BackendSpec
from qvae.sampling.abilities import KeepsFiles
from qvae.sampling.registry import SAMPLERS
from qvae.sampling.sampler import LatentSampler


def make_sampler(spec: BackendSpec, seed: int | None, folder: Path | None = None) -> LatentSampler:
    """The sampler that a specification names.

    Args:
        spec: name and options; a seed among them doesn't count, since the caller knows what it is for.
        seed: of the sampler, if it takes one.
        folder: of the run, where samplers that keep files keep them; None keeps none.

    Raises:
        SamplerError: there is no such sampler, or it doesn't take these options.
    """
    sampler = SAMPLERS.make(spec, seed)
    if folder is not None and isinstance(sampler, KeepsFiles):
        sampler.attach(folder)
    return sampler
