"""The problems that ours and the peers' samplers get, and the true moments that both are measured against.

Truth is enumeration or diagonalization where a problem is small. Else it is a long parallel tempering written here in plain
torch, which shares no code with the samplers under test, with the error of its moments from the spread of its ladders.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

import qvae
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines

PRIORS = Path(qvae.__file__).parent / "measuring" / "priors"
_GROUPS = 10  # of ladders, whose spread tells the error of the reference


@dataclass(frozen=True)
class Problem:
    """A distribution to sample, with the words that tables call it by."""

    name: str
    title: str
    hamiltonian: IsingHamiltonian

    def save(self, path: Path) -> None:
        """What a worker needs: h, edges, J, gamma, a colouring, and the sizes of an RBM's layers (none: no RBM)."""
        H = self.hamiltonian
        h, edges, J, gamma, colours = (x.numpy() for x in (H.h, H.edges, H.J, H.gamma, H.graph.colouring))
        sizes = np.array(H.graph.bipartite_sizes or (), dtype=np.int64)
        np.savez(path, h=h, edges=edges, J=J, gamma=gamma, colours=colours, sizes=sizes)

    @property
    def digest(self) -> str:
        """A name for exactly these numbers."""
        H, digest = self.hamiltonian, hashlib.sha256()
        for tensor in (H.h, H.edges, H.J, H.gamma):
            digest.update(tensor.numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Truth:
    """Moments <s_i> and <s_i s_j> over the edges, their standard error (root of the mean square), and whence they are."""

    means: Tensor
    pairs: Tensor
    error: float
    method: str

    def error_of(self, means: Tensor, pairs: Tensor) -> dict[str, float]:
        """Roots of the mean square over spins, over edges, and ``moments``: of those two, with equal weight."""
        spin, edge = (float((a - b).square().mean().sqrt()) for a, b in ((means, self.means), (pairs, self.pairs)))
        return {"means": spin, "pairs": edge, "moments": math.hypot(spin, edge) / math.sqrt(2)}

    def error_of_spins(self, spins: Tensor, hamiltonian: IsingHamiltonian) -> dict[str, float]:
        """Those of the plain averages over samples (N, n)."""
        s, (i, j) = spins.float(), hamiltonian.edges.T
        return self.error_of(s.mean(0), ((s.T @ s) / len(s))[i, j])

    def floor(self, samples: int) -> float:
        """``moments`` that so many perfect, independent samples would have."""
        spin, edge = (float((1 - x.square()).mean()) / samples for x in (self.means, self.pairs))
        return math.sqrt((spin + edge) / 2)


# Problems -------------------------------------------------------------------------------------------------------------


def moderate_rbm() -> Problem:
    """Couplings whose largest singular value is 1.1: long correlations, one mode."""
    generator = torch.Generator().manual_seed(0)
    h = 0.2 * torch.randn(256, generator=generator)
    J = 0.05 * torch.randn(128 * 128, generator=generator)
    return Problem("rbm-moderate", "RBM 128x128, random", IsingHamiltonian(h, graphs.rbm(128, 128), J))


def trained(name: str, beta: float = 1.0) -> Problem:
    """A prior from a real training run, of those that the package ships, at an inverse temperature.

    At beta = 1 those that were trained with annealers are frozen: no sampler here comes near their moments. Submitted times
    0.05 to a processor of some inverse temperature, they were sampled at a fraction of it.
    """
    tensors = load_file(PRIORS / f"{name}.safetensors")
    h, J = beta * tensors["h"].float(), beta * tensors["J"].float()
    if "edges" in tensors:
        title = f"{name.removeprefix('trained-').title()}, {len(h)} spins, trained with an annealer, beta = {beta:g}"
        return Problem(name, title, IsingHamiltonian(h, graphs.edge_list(tensors["edges"], len(h)), J))
    side = len(h) // 2
    return Problem(name, f"RBM {side}x{side}, trained on MNIST", IsingHamiltonian(h, graphs.rbm(side, side), J))


def native_graph() -> Problem:
    """Zephyr Z6, 1,248 spins, about 18 neighbours each."""
    graph, generator = graphs.zephyr(6), torch.Generator().manual_seed(0)
    h = 0.2 * torch.randn(graph.num_spins, generator=generator)
    J = 0.15 * torch.randn(graph.num_edges, generator=generator)
    return Problem("zephyr-6", f"Zephyr Z6, {graph.num_spins:,} spins", IsingHamiltonian(h, graph, J))


def quantum_rbm() -> Problem:
    """The problem of ``benchmarks/path_integral.py``."""
    generator = torch.Generator().manual_seed(0)
    h = 0.3 * torch.randn(256, generator=generator)
    J = 0.05 * torch.randn(128 * 128, generator=generator)
    return Problem("quantum-rbm", "RBM 128x128, gamma = 1", IsingHamiltonian(h, graphs.rbm(128, 128), J, 1.0))


def quantum_exact() -> Problem:
    """Small enough to diagonalize."""
    graph, generator = graphs.complete(10), torch.Generator().manual_seed(0)
    h = 0.3 * torch.randn(10, generator=generator)
    J = 0.3 * torch.randn(graph.num_edges, generator=generator)
    return Problem("quantum-exact", "complete graph of 10 spins, gamma = 1", IsingHamiltonian(h, graph, J, 1.0))


# Truth ----------------------------------------------------------------------------------------------------------------


def truth(problem: Problem, cache: Path) -> Truth:
    """The problem's moments, from ``cache`` if they were computed before."""
    path = cache / f"{problem.name}-{problem.digest}.npz"
    if not path.exists():
        found = _compute(problem)
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, means=found.means, pairs=found.pairs, error=found.error, method=found.method)
    stored = np.load(path)
    means, pairs = torch.from_numpy(stored["means"]), torch.from_numpy(stored["pairs"])
    return Truth(means, pairs, float(stored["error"]), str(stored["method"]))


def _compute(problem: Problem) -> Truth:
    H = problem.hamiltonian
    if H.num_spins <= 10:
        means, pairs = exact_distribution(H).moments()
        return Truth(means.float(), pairs.float(), 0.0, "diagonalization")
    if H.is_quantum:
        return _long_world_lines(H)
    if H.num_spins > 512:
        return _tempering(H, [1.0], ladders=500, burn_in=200, sweeps=1000)
    strength = float(H.J.square().mean().sqrt())
    if strength > 0.5:  # frozen: the ladder has to reach where spins are free
        steps = math.ceil(math.log(strength / 0.055, 1.19))
        return _tempering(H, (1.19 ** -np.arange(steps + 1.0)).tolist(), ladders=20, burn_in=8000, sweeps=24000)
    return _tempering(H, np.geomspace(1, 0.3, 8).tolist(), ladders=100, burn_in=1000, sweeps=5000)


def _tempering(H: IsingHamiltonian, betas: list[float], ladders: int, burn_in: int, sweeps: int, every: int = 5) -> Truth:
    """Independent ladders of parallel tempering, heat bath by colours; spins' means given their neighbours are averaged."""
    generator = torch.Generator().manual_seed(1)
    n, (i, j) = H.num_spins, H.edges.T
    J = torch.zeros(n, n)
    J[i, j] = J[j, i] = H.J
    colours = [torch.nonzero(H.graph.colouring == c).squeeze(1) for c in H.graph.colouring.unique()]
    couplings, fields = [J[rows] for rows in colours], [H.h[rows].unsqueeze(1) for rows in colours]
    beta = torch.tensor(betas).repeat_interleave(ladders)
    s = 2.0 * torch.randint(0, 2, (n, len(beta)), generator=generator) - 1
    means, pairs = torch.zeros(_GROUPS, n), torch.zeros(_GROUPS, H.graph.num_edges)
    for sweep in range(burn_in + sweeps):
        for rows, coupling, field in zip(colours, couplings, fields, strict=True):
            up = torch.sigmoid(-2 * beta * torch.addmm(field, coupling, s))
            s[rows] = 2.0 * (torch.rand(up.shape, generator=generator) < up) - 1
        if len(betas) > 1:
            energies = H.h @ s + 0.5 * (s * (J @ s)).sum(0)
            _swap(s.view(n, len(betas), ladders), energies.view(-1, ladders), betas, sweep % 2, generator)
        if sweep < burn_in or sweep % every:
            continue
        cold = s[:, :ladders]
        m = torch.tanh(-torch.addmm(H.h.unsqueeze(1), J, cold))
        for group, (mg, sg) in enumerate(zip(m.chunk(_GROUPS, 1), cold.chunk(_GROUPS, 1), strict=True)):
            product = mg @ sg.T / mg.shape[1]
            means[group] += mg.mean(1)
            pairs[group] += 0.5 * (product[i, j] + product[j, i])
    taken = len([sweep for sweep in range(burn_in, burn_in + sweeps) if sweep % every == 0])
    kind = f"parallel tempering, {ladders} ladders of {len(betas)}" if len(betas) > 1 else f"heat bath, {ladders} chains"
    return _from_groups(means / taken, pairs / taken, f"{kind}, {sweeps} sweeps")


def _swap(s: Tensor, E: Tensor, betas: list[float], first: int, generator: torch.Generator) -> None:
    """Exchange temperatures first and first + 1, first + 2 and so on, in place; s is (n, temperatures, ladders)."""
    for cold in range(first, len(betas) - 1, 2):
        gain = (betas[cold] - betas[cold + 1]) * (E[cold] - E[cold + 1])
        swap = torch.rand(gain.shape, generator=generator).log() < gain
        a, b = s[:, cold].clone(), s[:, cold + 1].clone()
        s[:, cold], s[:, cold + 1] = torch.where(swap, b, a), torch.where(swap, a, b)


def _long_world_lines(H: IsingHamiltonian, slices: int = 48, chains: int = 200, sweeps: int = 60, every: int = 4) -> Truth:
    """Many slices, every one of which counts; our own kernel, which diagonalization vouches for on small systems."""
    generator, lines = torch.Generator().manual_seed(1), WorldLines(H, slices)
    bits = lines.random_state(chains, generator)
    lines.sweep(bits, 20, generator)
    i, j = H.edges.T
    means, pairs = torch.zeros(_GROUPS, H.num_spins), torch.zeros(_GROUPS, H.graph.num_edges)
    for _ in range(0, sweeps, every):
        lines.sweep(bits, every, generator)
        for group, part in enumerate((2.0 * bits - 1).chunk(_GROUPS, 2)):
            flat = part.flatten(1)
            means[group] += flat.mean(1)
            pairs[group] += (flat @ flat.T / flat.shape[1])[i, j]
    taken = len(range(0, sweeps, every))
    return _from_groups(means / taken, pairs / taken, f"path integral of {slices} slices, {chains} chains, {sweeps} sweeps")


def _from_groups(means: Tensor, pairs: Tensor, method: str) -> Truth:
    variance = [(x.var(0) / _GROUPS).mean() for x in (means, pairs)]
    return Truth(means.mean(0), pairs.mean(0), math.sqrt(float(sum(variance)) / 2), method)
