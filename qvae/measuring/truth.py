"""The truth of a problem: exact where it is small, else a long reference run with an error bar of its own."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.errors import RunError
from qvae.ising.annealing_path import AnnealingPath
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.compiled import kernels
from qvae.ising.exact import MAX_ENUMERATION_SPINS, ExactDistribution, exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.trotter import choose_slices, estimate_trotter_error
from qvae.ising.world_lines import WorldLines
from qvae.sampling.diagnostics import r_hat
from qvae.sampling.sampler import Moments, pair_moments

MAX_EXACT_QUANTUM_SPINS = 12
"""The largest system with a transverse field that is solved: some twenty seconds of one core."""
_GROUPS = 16  # of independent chains, whose spread is the error bar: it is itself known to 18 %
_CHAINS = 256  # without tempering
_PILOT_SWEEPS = 200
_FORGOTTEN = 0.05  # of what chains remember after the pilot's sweeps, root mean square, that needs no tempering
_SETTLING = 0.2  # part of a reference run that is thrown away
_TROTTER_ERROR = 0.001


@dataclass(frozen=True)
class Truth:
    """Moments and energy of a problem, with their standard errors; all tensors float64, on the CPU.

    Attributes:
        method: how they were found, in words.
        moments: <s_i>, (n,), and <s_i s_j>, (m,).
        spins_error: of each <s_i>, (n,); 0 where the truth is exact.
        pairs_error: of each <s_i s_j>, (m,).
        energy: mean of E(s), in units of k_B T; with a transverse field its diagonal part, which a z measurement shows.
        energy_error: of that mean.
        energy_sd: standard deviation of E(s) over states, the unit of a sampler's energy error.
        r_hat: of the energies of the reference run's groups of chains, near 1 if they agree; None where the truth is exact.
        cpu_seconds: that it took.
        distribution: the exact one; None if there is none.
    """

    method: str
    moments: Moments
    spins_error: Tensor
    pairs_error: Tensor
    energy: float
    energy_error: float
    energy_sd: float
    r_hat: float | None
    cpu_seconds: float
    distribution: ExactDistribution | None = None

    @property
    def rms_errors(self) -> tuple[float, float, float]:
        """Root mean square standard errors of means and of correlations, and that of the energy in standard deviations."""
        return _rms(self.spins_error), _rms(self.pairs_error), self.energy_error / self.energy_sd if self.energy_sd else 0.0


def can_be_exact(hamiltonian: IsingHamiltonian) -> bool:
    """Whether enumeration or diagonalization gives the truth in seconds."""
    return hamiltonian.num_spins <= (MAX_EXACT_QUANTUM_SPINS if hamiltonian.is_quantum else MAX_ENUMERATION_SPINS)


def find_truth(
    hamiltonian: IsingHamiltonian,
    seconds: float,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
    clock: Callable[[], float] = time.process_time,
) -> Truth:
    """The truth: exact where :func:`can_be_exact`, else from a reference run of so many seconds.

    Without a transverse field the run is block Gibbs sampling, by itself where a pilot run forgets its start and with
    replica exchange where it does not; with one, path integrals. Its means are those given the other colours (Rao-Blackwell).
    Sixteen groups of chains have nothing in common, neither starts nor random numbers; their spread gives the error bars, to
    which path integrals add the estimated Trotter error. Chains that all missed the same mode would not show: ``r_hat`` only
    tells where groups disagree.

    Args:
        hamiltonian: on the CPU.
        seconds: for a reference run; one so short that it measures less than four times is longer.
        seed: of the chains.
        progress: called with the part that is done.
        clock: of these seconds: that of the processor, on which others' work doesn't count, or of the wall.
    """
    # Loading them isn't the run's time.
    kernels(hamiltonian.h.device, "ising.fused_lines" if hamiltonian.is_quantum else "ising.fused")
    started, started_cpu = clock(), time.process_time()
    hamiltonian = hamiltonian.detach()
    if can_be_exact(hamiltonian):
        return _exact(hamiltonian, started_cpu)
    generator = torch.Generator().manual_seed(seed)
    quantum = hamiltonian.is_quantum
    chains = _quantum_chains(hamiltonian, generator) if quantum else _classical_chains(hamiltonian, generator, clock)
    method, measurements = next(chains), chains
    sums: list[Tensor] = []
    energies: list[Tensor] = []
    spent = squares = 0.0
    while len(energies) < 4 or spent < seconds:
        means, pairs, energy = next(measurements)
        spent = clock() - started
        progress(min(1.0, spent / max(seconds, 1e-9)))
        if spent < _SETTLING * seconds:
            continue
        found = [means, pairs]
        sums = found if not sums else [a + b for a, b in zip(sums, found, strict=True)]
        energies.append(energy.mean(1))
        squares += float(energy.square().mean())
    means, pairs = (part / len(energies) for part in sums)
    energy = torch.stack(energies)
    mean_energy = float(energy.mean())
    trotter = estimate_trotter_error(hamiltonian, choose_slices(hamiltonian, _TROTTER_ERROR)) if hamiltonian.is_quantum else 0.0
    return Truth(
        f"{method}, {_GROUPS} independent groups, {len(energies)} measurements",
        Moments(means.mean(0), pairs.mean(0)),
        _standard_error(means, trotter),
        _standard_error(pairs, trotter),
        mean_energy,
        float(_standard_error(energy.mean(0).unsqueeze(1), 0.0)),
        math.sqrt(max(0.0, squares / len(energies) - mean_energy**2)),
        r_hat(energy),
        time.process_time() - started_cpu,
    )


def _exact(hamiltonian: IsingHamiltonian, started: float) -> Truth:
    distribution = exact_distribution(hamiltonian)
    moments = Moments(*distribution.moments())
    energies = hamiltonian.to(dtype=torch.float64).energy(distribution.spins())
    mean = float(distribution.probabilities @ energies)
    variance = float(distribution.probabilities @ (energies - mean).square())
    nothing = torch.zeros_like(moments.spins), torch.zeros_like(moments.pairs)
    seconds = time.process_time() - started
    return Truth(distribution.method, moments, *nothing, mean, 0.0, math.sqrt(variance), None, seconds, distribution)


def _standard_error(groups: Tensor, systematic: float) -> Tensor:
    """Of the mean over independent groups (groups, ...), a systematic error added in quadrature."""
    return torch.sqrt(groups.var(0) / len(groups) + systematic**2)


def _rms(values: Tensor) -> float:
    return math.sqrt(float(values.square().mean())) if values.numel() else 0.0


# Reference runs -------------------------------------------------------------------------------------------------------
# Each yields its description, and then for ever: means (groups, n), correlations (groups, m), energies (groups, chains).


def _classical_chains(hamiltonian: IsingHamiltonian, generator: torch.Generator, clock: Callable[[], float]) -> Iterator[Any]:
    kernel = BlockGibbs(hamiltonian)
    state = kernel.random_state(_CHAINS, generator)
    kernel.sweep(state, _PILOT_SWEEPS, generator)
    before = kernel.to_spins(state).float()
    started = clock()
    kernel.sweep(state, _PILOT_SWEEPS, generator)
    sweep_seconds = (clock() - started) / _PILOT_SWEEPS
    if _memory(before, kernel.to_spins(state).float()) > _FORGOTTEN:
        yield from _tempered_chains(hamiltonian, generator)
    yield f"block Gibbs, {_CHAINS} chains"
    # As much time for sweeps as for measuring, and some: measurements one sweep apart say little new.
    started = clock()
    _measure(kernel, hamiltonian, state)
    elapsed = clock() - started
    sweeps = max(2, math.ceil(elapsed / sweep_seconds))
    while True:
        kernel.sweep(state, sweeps, generator)
        yield _measure(kernel, hamiltonian, state)


def _tempered_chains(hamiltonian: IsingHamiltonian, generator: torch.Generator) -> Iterator[Any]:
    # From spins that are all free: a better base might prefer one mode.
    path = AnnealingPath(hamiltonian, generator, torch.zeros_like(hamiltonian.h))
    betas = path.ladder(200)
    betas = betas[path.rungs(betas)]
    yield f"block Gibbs with replica exchange at {len(betas)} temperatures"
    replicas = path.base_state(len(betas) * _GROUPS).view(hamiltonian.num_spins, len(betas), _GROUPS)
    while True:
        path.temper(replicas, betas, 5)
        cold = replicas[:, -1].contiguous()
        # An exchange leaves the spins that the path sums out as they were at the other temperature: they are drawn first.
        path.sweep(cold, 1.0)
        yield _measure(path.gibbs, hamiltonian, cold)


def _quantum_chains(hamiltonian: IsingHamiltonian, generator: torch.Generator) -> Iterator[Any]:
    lines = WorldLines(hamiltonian, choose_slices(hamiltonian, _TROTTER_ERROR))
    yield f"path integrals, {lines.slices} slices, {4 * _GROUPS} chains"
    bits = lines.random_state(4 * _GROUPS, generator)
    while True:
        lines.sweep(bits, 3, generator)
        # Chains come in parts, not always the same number in each: a slice that all have is enough.
        spins = lines.gibbs.to_spins(bits.flatten(1)).view(lines.slices, _GROUPS, -1, hamiltonian.num_spins)
        rows = spins.transpose(0, 1).flatten(1, 2).double()
        means, pairs = rows.mean(1), torch.stack([pair_moments(r, r, hamiltonian) / len(r) for r in rows])
        yield means, pairs, hamiltonian.to(dtype=torch.float64).energy(rows)


def _memory(before: Tensor, after: Tensor) -> float:
    """Root mean square over spins of the correlation of chains (chains, n) with themselves, less what chance makes."""
    covariance = ((before - before.mean(0)) * (after - after.mean(0))).mean(0)
    correlation = covariance / (before.std(0) * after.std(0)).clamp(min=0.1)  # a spin that hardly turns says nothing
    return math.sqrt(max(0.0, float(correlation.square().mean()) - 1 / len(before)))


def _measure(kernel: BlockGibbs, hamiltonian: IsingHamiltonian, state: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    conditional, _ = kernel.means(state)
    m = torch.empty_like(conditional).index_copy_(0, kernel.order, conditional).T
    spins = kernel.to_spins(state)
    s = spins.to(m)
    groups = list(zip(m.split(len(m) // _GROUPS), s.split(len(s) // _GROUPS), strict=True))
    pairs = [(pair_moments(a, b, hamiltonian) + pair_moments(b, a, hamiltonian)) / (2 * len(a)) for a, b in groups]
    means = torch.stack([a.mean(0) for a, _ in groups])
    return means.double(), torch.stack(pairs).double(), hamiltonian.energy(s).double().view(_GROUPS, -1)


# Cache ----------------------------------------------------------------------------------------------------------------


def cached_truth(
    hamiltonian: IsingHamiltonian,
    fingerprint: str,
    folder: Path,
    seconds: float,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> Truth:
    """As :func:`find_truth`, but a reference run is kept in ``folder``, and taken from there if its settings are the same."""
    if can_be_exact(hamiltonian):
        return find_truth(hamiltonian, seconds, seed)
    settings = {"problem": fingerprint, "seconds": seconds, "seed": seed}
    file = folder / f"{fingerprint}.safetensors"
    if file.exists():
        try:
            kept = load_checkpoint(file)
        except RunError:  # damaged: measured again
            kept = {}
        if kept.get("settings") == settings:
            return _unpacked(kept)
    truth = find_truth(hamiltonian, seconds, seed, progress)
    folder.mkdir(parents=True, exist_ok=True)
    numbers = {"energy": truth.energy, "energy_error": truth.energy_error, "energy_sd": truth.energy_sd, "r_hat": truth.r_hat}
    save_checkpoint(
        file,
        {
            "settings": settings,
            "method": truth.method,
            "cpu_seconds": truth.cpu_seconds,
            "numbers": json.dumps(numbers),  # infinities included
            "spins": truth.moments.spins,
            "pairs": truth.moments.pairs,
            "spins_error": truth.spins_error,
            "pairs_error": truth.pairs_error,
        },
    )
    return truth


def _unpacked(kept: dict[str, Any]) -> Truth:
    moments = Moments(kept["spins"], kept["pairs"])
    errors = kept["spins_error"], kept["pairs_error"]
    return Truth(kept["method"], moments, *errors, **json.loads(kept["numbers"]), cpu_seconds=kept["cpu_seconds"])
