"""Samplers made from their names and options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from qvae.sampling.registered import SAMPLERS
from qvae.trust import OWN, Trust

if TYPE_CHECKING:
    from qvae.config.backends import BackendSpec
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

    One that was given as an object is that very object, whatever the seed, and is left open by us.

    Raises:
        SamplerError: as :func:`load_sampler`, the specification needs a word that the user hasn't said, or it is of an object
            that isn't given again.
    """
    from qvae.config.schema import MEMORY
    from qvae.sampling.abilities import KeepsFiles

    sampler = _given(spec) if spec.name == MEMORY else SAMPLERS.make(spec, seed, trust, folder)
    if folder is not None and isinstance(sampler, KeepsFiles):
        sampler.attach(folder)
    return sampler


def _given(spec: BackendSpec) -> LatentSampler:
    from qvae.errors import SamplerError
    from qvae.sampling.sampler import LatentSampler

    sampler = getattr(spec, "given", None)
    if sampler is None:
        raise SamplerError(
            f"the sampler of this run was an object of the class {spec.options.get('class')}, which is kept nowhere; give it "
            "again, as in resume(path, sampler=...) or load_run(path, sampler=...), or name another: --sampler gibbs."
        )
    if not isinstance(sampler, LatentSampler):
        what = f"the class {sampler.__name__}" if isinstance(sampler, type) else f"a {type(sampler).__name__}"
        raise SamplerError(
            f"sampler is {what}; give an object of a class that derives from qvae.LatentSampler, or a name in the "
            "configuration (sampler.name)."
        )
    sampler.is_lent = True
    return sampler
