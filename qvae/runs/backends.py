"""The samplers and executors of a run, and those that a user names in their place, each with a seed of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from qvae.circuits.executor import Executor
from qvae.circuits.registry import EXECUTORS
from qvae.config.backends import BackendSpec
from qvae.config.load import parse_backend
from qvae.config.schema import MEMORY, Config, ExecutorConfig, SamplerConfig
from qvae.sampling import registry
from qvae.sampling.registered import SAMPLERS
from qvae.sampling.sampler import LatentSampler
from qvae.training import ranks
from qvae.trust import texts


def make_sampler(chosen: SamplerConfig, config: Config, folder: Path, purpose: int) -> LatentSampler:
    """A sampler for a run; its seed is the run's unless given, apart from that of training and of other purposes.

    Raises:
        SamplerError: it can't be made, or needs a word that the user of the configuration hasn't said.
    """
    return registry.make_sampler(chosen, _seed_of(chosen, config, purpose), folder, config.trust)


def make_executor(
    config: Config, folder: Path, purpose: int, chosen: ExecutorConfig | None = None, seed: int | None = None
) -> Executor:
    """An executor for a run, that of its configuration unless another is ``chosen``; its seed as of :func:`make_sampler`.

    Raises:
        ExecutorError: it can't be made, or needs a word that the user of the configuration hasn't said.
    """
    spec = config.executor if chosen is None else chosen
    its_seed = _seed_of(spec, config, purpose) if seed is None else seed
    return EXECUTORS.make(spec, its_seed, config.trust, folder)


def _seed_of(spec: BackendSpec, config: Config, purpose: int) -> int | None:
    """The seed that a backend is given, or one that follows from the run's; of several processes each has another."""
    common = spec.options.get("seed", own_seed(config, purpose))
    return ranks.seed(common) if isinstance(common, int) else common


def own_seed(config: Config, purpose: int) -> int:
    """A seed that follows from the run's, apart from that of training and of other purposes."""
    return int(np.random.SeedSequence([config.training.seed, purpose]).generate_state(1)[0])


def generation_sampler(config: Config, folder: Path, name: str | None = None, seed: int | None = None) -> LatentSampler:
    """A fresh sampler for generation: the one named, ``generation.sampler``, or that of the negative phase.

    Args:
        config: of the run.
        folder: of the run.
        name: another sampler, ``NAME[:OPTION=VALUE,...]``; options that were set when the run was opened are its own.
        seed: in place of the run's.
    """
    configured = config.generation.sampler or config.sampler
    if name is None or name == configured.name:
        chosen = configured
    else:
        chosen = SamplerConfig.model_validate(_named(config, name, "sampler", "generation.sampler"))
        config = config.trusting(_own_words(chosen))
    if seed is None:
        return make_sampler(chosen, config, folder, purpose=2)
    return registry.make_sampler(chosen, seed, folder, config.trust)


def generation_executor(config: Config, folder: Path, name: str | None = None, seed: int | None = None) -> Executor:
    """A fresh executor for generation: the one named, ``NAME[:OPTION=VALUE,...]``, or that of the configuration."""
    chosen = chosen_executor(config, name)
    if chosen is not config.executor:
        config = config.trusting(_own_words(chosen))
    return make_executor(config, folder, 5, chosen, seed)


def chosen_executor(config: Config, name: str | None) -> ExecutorConfig:
    """The specification of the one named, ``NAME[:OPTION=VALUE,...]``; None, or the name alone, is the configuration's own.

    Options that were set when the run was opened are those of the one named, as in a training.
    """
    if name is None or name == config.executor.name:
        return config.executor
    return ExecutorConfig.model_validate(_named(config, name, "executor"))


def _named(config: Config, text: str, *sections: str) -> dict[str, Any]:
    """Name and options of a backend that is named beside a configuration, with those that were set for it in a section."""
    spec = parse_backend(text)
    for section in sections:
        spec.options |= config.overrides.options_of(spec.name, section)
    return spec.model_dump()


def _own_words(chosen: BackendSpec) -> list[str]:
    """All texts of a specification that its user has given: these need no other word."""
    return [chosen.name, *texts(chosen.options)]


def needed_words(config: Config, folder: Path) -> set[str]:
    """All that the backends of a run need the user's word for."""
    words = {need.text for need in EXECUTORS.needs(config.executor, folder)} if config.model.has_circuit else set()
    fallback = config.training.fallback
    chosen = (config.sampler, config.generation.sampler, fallback and SamplerConfig(name=fallback))
    if config.model.has_boltzmann_prior:
        words |= {need.text for spec in chosen if spec and spec.name != MEMORY for need in SAMPLERS.needs(spec, folder)}
    return words
