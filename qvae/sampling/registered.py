"""Which samplers there are: the entry-point group ``qvae.samplers``, asked without making one."""

from __future__ import annotations

from typing import Any

from qvae.errors import SamplerError
from qvae.plugins import PluginInfo, Registry

SAMPLERS: Registry[Any] = Registry("qvae.samplers", "sampler", "qvae.LatentSampler", SamplerError)


def list_samplers() -> list[str]:
    """Names of all registered samplers, whether or not their packages can be imported.

    >>> "gibbs" in list_samplers()
    True
    """
    return SAMPLERS.names()


def sampler_options(name: str) -> dict[str, Any]:
    """The options of a sampler and their defaults; ``inspect.Parameter.empty`` stands for one that must be given.

    Raises:
        SamplerError: as :func:`~qvae.sampling.registry.load_sampler`.

    >>> sorted(sampler_options("exact"))
    ['seed']
    """
    return SAMPLERS.options(name)


def sampler_infos() -> list[PluginInfo]:
    """All registered samplers with what they can do, or why they can't be loaded; imports every backend."""
    return SAMPLERS.infos()


def capable_samplers(num_spins: int, quantum: bool) -> list[str]:
    """Names of the samplers that take so many spins, with a transverse field if ``quantum``.

    Those that are unavailable are left out, and those that work elsewhere: they need an account, and cost money.
    """
    able = {info.name: info.capabilities for info in sampler_infos() if info.capabilities}
    return [name for name, can in able.items() if not can.remote and can.excludes(num_spins, quantum) is None]
