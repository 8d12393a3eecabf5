"""What is compared: our samplers and the peers', each with the settings that it is run at."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from environments import PEERS
from problems import Problem, Truth
from protocol import PeerError, Timer, Worker

import qvae


@dataclass(frozen=True)
class Run:
    """One call: how long it took and how far its moments are from the truth (:meth:`problems.Truth.error_of`)."""

    cpu: float
    wall: float
    error: dict[str, float]


class Bench:
    """Workers that are running, and the folder where problems and samples pass between us and them."""

    def __init__(self, environments: Path, folder: Path, names: list[str], threads: int) -> None:
        self.folder = folder
        self.workers: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {"qvae": qvae.__version__, "torch (ours)": torch.__version__}
        for name in names:
            try:
                worker = self.workers[name] = PEERS[name].start(environments, threads)
            except PeerError as error:
                self.missing[name] = str(error)
                continue
            self.versions |= {p if p != "torch" else f"torch ({name})": v for p, v in worker.versions.items()}

    def close(self) -> None:
        for worker in self.workers.values():
            worker.close()

    def give(self, problem: Problem) -> None:
        """Hand ``problem`` to the workers that can take it; one that fails leaves the run."""
        path = self.folder / "problem.npz"
        problem.save(path)
        for name, worker in list(self.workers.items()):
            if name == "rbms" and problem.hamiltonian.graph.bipartite_sizes is None:
                continue
            try:
                worker.ask("load", problem=str(path))
            except PeerError as error:
                self.missing[name] = str(error)
                self.workers.pop(name).close()


@dataclass(frozen=True)
class Ours:
    """A registered sampler of ours, with fresh chains from random spins in every call, as the peers have them.

    ``moments`` asks for those, which have less variance than the samples they come from. ``annealed`` chains start from
    population annealing, with a tenth of the sweeps at each of its temperatures.
    """

    label: str
    name: str = "gibbs"
    options: dict[str, Any] = field(default_factory=dict)
    moments: bool = False
    annealed: bool = False
    peer = None

    @cached_property
    def _sampler(self) -> Any:
        options = {"burn_in": 0, "persistent": False, "seed": 0} | self.options
        return qvae.load_sampler(self.name, **options)

    def run(self, bench: Bench, problem: Problem, truth: Truth, samples: int, sweeps: int, seed: int) -> Run:
        sampler, H = self._sampler, problem.hamiltonian
        # One sampler throughout: what it prepares for a graph is warm, as the peers' models are.
        sampler.sweeps, sampler.annealing = (1, max(1, sweeps // 10)) if self.annealed else (sweeps, 0)
        with Timer() as timer:
            found = sampler.moments(H, samples) if self.moments else sampler.sample(H, samples)
        if isinstance(found, qvae.Moments):
            return Run(timer.cpu, timer.wall, truth.error_of(found.spins, found.pairs))
        return Run(timer.cpu, timer.wall, truth.error_of_spins(found.spins, H))


@dataclass(frozen=True)
class Theirs:
    """A job of a peer's worker."""

    label: str
    peer: str
    job: str
    arguments: dict[str, Any] = field(default_factory=dict)
    seeded: bool = True

    def run(self, bench: Bench, problem: Problem, truth: Truth, samples: int, sweeps: int, seed: int) -> Run:
        """Raises: PeerError: it failed."""
        out = bench.folder / f"{self.peer}.npz"
        seeds = {"seed": seed} if self.seeded else {}
        worker = bench.workers[self.peer]
        times = worker.ask(self.job, out=str(out), samples=samples, sweeps=sweeps, **seeds, **self.arguments)
        spins = torch.from_numpy(np.load(out)["spins"])
        if spins.shape != (samples, problem.hamiltonian.num_spins):
            raise PeerError(f"returned spins of shape {tuple(spins.shape)}")
        return Run(times["cpu"], times["wall"], truth.error_of_spins(spins, problem.hamiltonian))


Method = Ours | Theirs

GIBBS = Ours("qvae gibbs")
GIBBS_MOMENTS = Ours("qvae gibbs, moments()", moments=True)
TEMPERING = Ours("qvae gibbs, tempering", options={"tempering": 12, "beta_min": 0.05})
ANNEALED = Ours("qvae gibbs, annealing", annealed=True)
ANNEALED_MOMENTS = Ours("qvae gibbs, annealing, moments()", moments=True, annealed=True)
PATH_INTEGRAL = Ours("qvae path_integral, 16 slices", "path_integral", {"slices": 16})
PATH_INTEGRAL_MOMENTS = Ours("qvae path_integral, 16 slices, moments()", "path_integral", {"slices": 16}, moments=True)

SA_METROPOLIS = Theirs("dwave-samplers SA at beta = 1", "dwave-samplers", "anneal", {"rule": "Metropolis", "held": True})
SA_GIBBS = Theirs("dwave-samplers SA at beta = 1, Gibbs rule", "dwave-samplers", "anneal", {"rule": "Gibbs", "held": True})
SA_ANNEALED = Theirs("dwave-samplers SA, beta 0 to 1", "dwave-samplers", "anneal", {"rule": "Metropolis", "held": False})
PATH_ANNEALING = Theirs("dwave-samplers path integral", "dwave-samplers", "path_integral")
BLOCK = Theirs("plugin BlockSampler", "dwave-pytorch-plugin", "gibbs", {"bipartite": False})
BIPARTITE = Theirs("plugin BipartiteGibbsSampler", "dwave-pytorch-plugin", "gibbs", {"bipartite": True})
RBMS = Theirs("rbms Gibbs", "rbms", "gibbs")
THRML = Theirs("thrml Gibbs, jax", "thrml", "gibbs")
OPENJIJ = Theirs("openjij SA at beta = 1", "openjij", "anneal", seeded=False)
