"""Any dimod sampler by import path; simulated annealing by default, held at beta = 1 so that it samples."""

from __future__ import annotations

import importlib
import inspect
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any

import dimod
import numpy as np
import torch
from pydantic import Field

from qvae.errors import SamplerError, install_line, nearest
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.sampling.sampler import Capabilities, Samples, SeededSampler
from qvae.seeding import Seed
from qvae.trust import Code

SIMULATED_ANNEALING = "dwave.samplers.SimulatedAnnealingSampler"
DOCUMENTED = ("dwave.samplers.", "openjij.")
"""Beginnings of import paths that a run folder or file may name without the user's word."""
ImportPath = Annotated[
    str, Field(pattern=r".\..", description=f"an import path such as {SIMULATED_ANNEALING}"), Code(DOCUMENTED)
]
_SCHEDULE = {"beta_range", "beta_schedule", "beta_schedule_type", "num_sweeps", "num_sweeps_per_beta"}


class DimodSampler(SeededSampler):
    """Samples of a dimod sampler that takes ``num_reads``; others, such as exact solvers, list states and are refused.

    Simulated annealing's own schedule ends far below the temperature of the problem: it optimizes. Here beta rises
    linearly from 0 to 1 and is held at 1, in heat-bath updates. With another sampler, or another schedule in
    ``parameters``, the temperature is that sampler's: ``capabilities.native_beta`` is then False, and the effective beta has
    to be estimated.

    Args:
        sampler: import path of a dimod sampler class; outside of dwave.samplers and openjij also of a function that makes one.
        sampler_options: keyword arguments for it.
        parameters: keyword arguments of its ``sample`` method; they win over those set here.
        num_sweeps: updates of every spin in one simulated annealing, 1 or more.
        held: part of them at beta = 1, from 0 to 1.
        seed: of the seeds for each call, if the sampler takes seeds.

    Raises:
        ValueError: an option is out of its range, or ``parameters`` has one that the sampler doesn't know.
        SamplerError: the import path leads nowhere or not to a sampler that draws samples.
    """

    capabilities = Capabilities()

    @checked_options
    def __init__(
        self,
        sampler: ImportPath = SIMULATED_ANNEALING,
        sampler_options: Mapping[str, Any] | None = None,
        parameters: Mapping[str, Any] | None = None,
        num_sweeps: Annotated[int, Field(ge=1, le=10**7)] = 100,
        held: Annotated[float, Field(ge=0, le=1)] = 0.5,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        self.path = sampler
        self.sampler_options, self.parameters = dict(sampler_options or {}), dict(parameters or {})
        self.num_sweeps, self.held = num_sweeps, held
        self._child = self._make_child()
        known = _parameters(self._child)
        for name in self.parameters:
            if name not in known:
                raise ValueError(f"parameters has {name!r}, which {self.path} doesn't know: {nearest(name, known)}")
        self.capabilities = replace(type(self).capabilities, native_beta=self._schedules_itself)

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """One read of the dimod sampler for each sample; ``info`` holds ``method`` and ``wall_seconds``.

        Raises:
            SamplerError: it returned fewer reads than that, or not the spins it was given.
        """
        started = time.perf_counter()
        generator = self.generator(torch.device("cpu"))
        settings: dict[str, Any] = {"num_reads": num_samples}
        if "seed" in _parameters(self._child):
            settings["seed"] = int(torch.randint(2**31 - 1, (), generator=generator))
        if self._schedules_itself:
            settings |= {"beta_schedule_type": "custom", "beta_schedule": self._schedule()}
            # Its default, Metropolis updates in a fixed order, is faster but not ergodic: on a frustrated triangle two of
            # three correlations stay wrong (-.25 and -.49 instead of -.325), however many sweeps are made.
            settings["proposal_acceptance_criteria"] = "Gibbs"
        sampleset = self._child.sample(_model(hamiltonian), **settings | self.parameters)
        spins = torch.from_numpy(_spins(sampleset, hamiltonian.num_spins))
        if len(spins) < num_samples:
            raise SamplerError(f"{self.path} returned {len(spins)} reads where {num_samples} were asked for.")
        if len(spins) > num_samples:
            # Composites may multiply reads, and order them by energy: a random choice is fair where a head is not.
            spins = spins[torch.randperm(len(spins), generator=generator)[:num_samples]]
        info = {"method": self.path, "wall_seconds": time.perf_counter() - started}
        return Samples(spins.to(hamiltonian.h.device), info=info)

    # The dimod sampler ------------------------------------------------------------------------------------------------

    @property
    def _schedules_itself(self) -> bool:
        return self.path == SIMULATED_ANNEALING and not _SCHEDULE & set(self.parameters)

    def _schedule(self) -> np.ndarray:
        """Inverse temperature of each sweep.

        On RBMs of 12 spins with couplings of 0.5 to 1, linear rises and a half held came closest, of linear and geometric
        rises and 5 to 50 % held.
        """
        rising = round(self.num_sweeps * (1 - self.held))
        return np.concatenate([np.linspace(0, 1, rising, endpoint=False), np.ones(self.num_sweeps - rising)])

    def _make_child(self) -> dimod.Sampler:
        found = _imported(self.path)
        is_sampler = isinstance(found, type) and issubclass(found, dimod.Sampler)
        # A function runs code that its class doesn't vouch for: where the user's word isn't asked, only a sampler is called.
        is_function = inspect.isfunction(found) and Code(DOCUMENTED).needs_word(self.path, None)
        if not (is_sampler or is_function):
            raise SamplerError(f"{self.path} is no class of dimod samplers; give the import path of one.")
        child = found(**self.sampler_options)
        if not isinstance(child, dimod.Sampler):
            raise SamplerError(f"{self.path} made a {type(child).__name__}, which is not a dimod.Sampler.")
        if "num_reads" not in _parameters(child):
            raise SamplerError(
                f"{self.path} takes no num_reads, so it doesn't draw samples (an exact solver lists every state once); "
                "name a dimod sampler that does, or use `--sampler exact`."
            )
        return child

    # State ------------------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Release what the dimod sampler holds, such as a connection."""
        close = getattr(self._child, "close", None)
        if callable(close):
            close()

    def __getstate__(self) -> dict[str, Any]:
        """The dimod sampler isn't pickled but made again: it may hold a connection."""
        return super().__getstate__() | {"_child": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """As pickled, with a new dimod sampler."""
        self.__dict__.update(state)
        self._child = self._make_child()


def _imported(path: str) -> Any:
    """What stands at a dotted import path."""
    module, _, attribute = path.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError as error:
        missing = getattr(error, "name", None) or module
        ocean = missing.startswith(("dwave.system", "dwave.cloud"))
        remedy = install_line("dwave") if ocean else "install the package that has it"
        raise SamplerError(f"{path} needs the module {missing}, which can't be imported: {remedy}.") from error
    except AttributeError as error:
        raise SamplerError(f"the module {module} has no {attribute}; give the import path of a dimod sampler class.") from error


def _parameters(sampler: dimod.Sampler) -> set[str]:
    """What its ``sample`` takes: what it says, and what it forgot to say but names in the signature."""
    signature = inspect.signature(sampler.sample).parameters.values()
    named = {p.name for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    return (named | set(sampler.parameters)) - {"bqm"}


def _model(hamiltonian: IsingHamiltonian) -> dimod.BinaryQuadraticModel:
    fields, couplings = (t.detach().cpu().double().numpy() for t in (hamiltonian.h, hamiltonian.J))
    ends = hamiltonian.edges.cpu().numpy()
    return dimod.BinaryQuadraticModel.from_numpy_vectors(fields, (ends[:, 0], ends[:, 1], couplings), 0.0, dimod.SPIN)


def _spins(sampleset: dimod.SampleSet, num_spins: int) -> np.ndarray:
    """Every read as a row, (reads, num_spins), int8, in the order of the spins."""
    found = sampleset.change_vartype(dimod.SPIN, inplace=False)
    labels = list(found.variables)
    if sorted(labels, key=str) != sorted(range(num_spins), key=str):
        raise SamplerError(f"a dimod sampler was given the spins 0..{num_spins - 1}, but returned {len(labels)} others.")
    rows = found.record.sample[:, np.argsort(labels)].astype(np.int8)
    return np.repeat(rows, found.record.num_occurrences, axis=0)
