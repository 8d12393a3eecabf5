"""log Z in a transverse field: world lines annealed forward and back, with the Trotter error taken off."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.ising.annealing import check_lengths, combine_annealings, from_one_base, share_out
from qvae.ising.annealing_path import AnnealingPath
from qvae.ising.estimate import LogPartition
from qvae.ising.free_spin import FreeSpin, fields_of_means, free_lines
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.trotter import slices_to_extrapolate
from qvae.ising.world_lines import WorldLines

_PILOT_STEPS, _FEWEST_SWEEPS = 50, 100


def path_integral_log_partition(
    hamiltonian: IsingHamiltonian,
    *,
    slices: int | None = None,
    chains: int = 500,
    temperatures: int = 500,
    seed: int = 0,
    parts: int = 1,
    spread: Callable[..., Iterable[Any]] = map,
) -> LogPartition:
    """log Tr exp(-H) by annealing world lines forward and back, with the Trotter error taken off.

    As :func:`~qvae.ising.annealing.bidirectional_annealing`, but the path leads from independent spins in the same transverse
    field, and the target's samples are annealed, resampled by their weights, and swept. The Trotter error of independent
    spins is known; that of what couplings add falls as P^-2, and its difference to P/2 slices is seen in the samples of P,
    log <exp(sum_odd E(s^k)/P - sum_even E(s^k)/P)>: a third of it is taken off, and a second step taken with P/4 slices, if 4
    divides P (Richardson). What the last step changed is stated, and added to the error bar.

    Args:
        hamiltonian: on any graph; without a transverse field, there is one slice.
        slices: even, 2 or more, and half the transverse field or more; None for those of
            :func:`~qvae.ising.trotter.slices_to_extrapolate`.
        chains: of each direction, of all parts together.
        temperatures: steps of each direction, 2 or more.
        seed: of all random numbers.
        parts: into which the chains are shared out, with 2 or more in each, and ``spread``, which does them: as of
            :func:`~qvae.ising.annealing.bidirectional_annealing`.

    Returns:
        LogPartition: ``details`` as of :func:`~qvae.ising.annealing.bidirectional_annealing` (of P slices), and ``slices``,
        ``trotter_correction`` (added to what annealing found), ``trotter_error`` (estimated, of what is left), and
        ``sampling_error`` (the error bar without that).

    Raises:
        ValueError: ``slices`` isn't such a number, or if None, 1024 aren't enough; or there are fewer than 2 chains in a part,
            or than 2 temperatures.
    """
    check_lengths(chains // max(1, parts), temperatures)
    hamiltonian = hamiltonian.detach()
    number = slices_to_extrapolate(hamiltonian, slices)
    shares, seeds = share_out(chains, parts, seed)
    found = list(spread(_both_ways, [hamiltonian] * parts, [number] * parts, shares, [temperatures] * parts, seeds))
    bases = [part.base.log_z(number) for part in found]
    log_z0, forward, backward = from_one_base(bases, [part.forward for part in found], [part.backward for part in found])
    annealed = combine_annealings(log_z0, forward, backward, f"{chains} chains x {temperatures} temperatures x {number} slices")
    # Samples of the target are the same from any base, and the errors of any are known.
    energies = torch.cat([part.energies for part in found], 1)
    correction, sampling, rest = _towards_infinitely_many(energies, found[0].base.log_z)
    sampling = math.hypot(annealed.stderr, sampling)
    details = {"slices": number, "trotter_correction": correction, "trotter_error": rest, "sampling_error": sampling}
    method = annealed.method.replace("AIS", "path-integral AIS", 1)
    return LogPartition(annealed.value + correction, math.hypot(sampling, rest), method, annealed.details | details)


@dataclass(frozen=True)
class _Base:
    """Independent spins in the transverse field; both fields are (n, 1), float64, in one order."""

    fields: Tensor
    gamma: Tensor

    def log_z(self, slices: int | None) -> float:
        """log Z of so many slices, or infinitely many."""
        return float(FreeSpin(self.fields, self.gamma, slices).log_trace().sum())


@dataclass(frozen=True)
class _Part:
    """What a part of the chains finds.

    Attributes:
        base: where its path begins.
        forward: log weights of chains that ran from there to the target.
        backward: of those that ran back.
        energies: E(s^k)/P of the target's samples, (P, chains).
    """

    base: _Base
    forward: Tensor
    backward: Tensor
    energies: Tensor


def _both_ways(hamiltonian: IsingHamiltonian, slices: int, chains: int, temperatures: int, seed: int) -> _Part:
    """Chains from a base of their own to the target, and back from samples of it."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(seed)
    lines = WorldLines(hamiltonian, slices)
    target, fields = _equilibrate(lines, hamiltonian, chains, max(_FEWEST_SWEEPS, temperatures // 4), generator)
    path = _LinePath(lines, hamiltonian, fields, generator)
    energies = lines.energies(target.view(hamiltonian.num_spins, lines.slices, chains))
    betas = path.ladder(temperatures)
    forward, _ = path.anneal(path.base_state(chains), betas)
    backward, _ = path.anneal(target, betas, reverse=True)
    return _Part(path.free, forward, backward, energies)


class _LinePath(AnnealingPath):
    """E_beta(s) = (1-beta) h0.s + beta E(s) in every slice, at the Hamiltonian's transverse field; states are (n P, chains).

    Its ladder and its annealing are those of the classical path, by means of the methods that differ here.
    """

    def __init__(
        self, lines: WorldLines, hamiltonian: IsingHamiltonian, base_fields: Tensor, generator: torch.Generator
    ) -> None:
        order = lines.gibbs.order
        self.lines, self.generator = lines, generator
        self.free = _Base(base_fields.double()[order].unsqueeze(1), hamiltonian.gamma.double()[order].unsqueeze(1))
        self.base = (-2 / lines.slices * self.free.fields).float()
        self.log_z0 = self.free.log_z(lines.slices)
        blocks = list(range(lines.gibbs.num_blocks))
        self._orders = (blocks, blocks[::-1])
        self._spreads = self._survey(_PILOT_STEPS)

    def base_state(self, chains: int) -> Tensor:
        """Independent samples at beta = 0, (n P, chains)."""
        return free_lines(self.free.fields, self.free.gamma, self.lines.slices, chains, self.generator).flatten(0, 1)

    def log_ratio(self, state: Tensor, beta: float | Tensor, new: float | Tensor) -> Tensor:
        """log of the ratio of weights at ``new`` and ``beta``, (chains,), float64."""
        bits = self._lines(state)
        base = self.base.T @ (2 * bits.sum(1) - self.lines.slices).float() / -2
        return (beta - new) * (self.lines.energies(bits).sum(0) - base.squeeze(0)).double()

    def sweep(self, state: Tensor, beta: float | Tensor, reverse: bool = False) -> None:
        """One update of every world line at ``beta``, in place."""
        self.lines.sweep(self._lines(state), 1, self.generator, beta, self.base, self._orders[reverse])

    def _lines(self, state: Tensor) -> Tensor:
        return state.view(len(self.base), self.lines.slices, state.shape[1])

    def settle(self, state: Tensor, sweeps: int) -> Tensor:
        """Sweeps of the target itself, in place, and the spins' means over them in row order, (n,)."""
        sums = torch.zeros_like(self.free.fields[:, 0])
        for _ in range(sweeps):
            self.sweep(state, 1.0)
            sums += self._lines(state).sum((1, 2))
        return 2 * sums / (sweeps * self.lines.slices * state.shape[1]) - 1


def _equilibrate(
    lines: WorldLines, hamiltonian: IsingHamiltonian, chains: int, sweeps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Samples of the target as a state (n P, chains), and fields (n,) of independent spins with their means."""
    path = _LinePath(lines, hamiltonian, torch.zeros_like(hamiltonian.h), generator)
    _, kept = path.anneal(path.base_state(chains), path.ladder(sweeps), keep=torch.tensor([sweeps - 1]))
    state = kept[:, 0].contiguous()
    # The means are of the first half alone: the samples forget it, so that the base isn't fitted to their noise.
    means = path.settle(state, sweeps // 2)
    path.settle(state, sweeps // 2)
    fields = torch.empty_like(means)
    fields[lines.gibbs.order] = fields_of_means(means * chains / (chains + 2), path.free.gamma.squeeze(1))
    return state, fields


def _towards_infinitely_many(energies: Tensor, log_base: Callable[[int | None], float]) -> tuple[float, float, float]:
    """What leads from log Z of P slices to infinitely many, its standard error, and the Trotter error that is left.

    ``energies`` are E(s^k)/P of samples at P, (P, chains). Extrapolated is what couplings add to independent spins, whose
    ``log_base`` is known for any number of slices.
    """
    slices = len(energies)
    if slices == 1:
        return 0.0, 0.0, 0.0
    known = log_base(slices)
    half, half_error = _coarser(energies, 2)
    half -= log_base(slices // 2) - known
    correction = log_base(None) - known - half / 3
    if slices % 4:
        return correction, half_error / 3, abs(half) / 3
    # With errors a/P^2 + b/P^4, a second step; the first one's error is stated, which is more than what it leaves.
    quarter, quarter_error = _coarser(energies, 4)
    quarter -= log_base(slices // 4) - known
    step = (quarter - 5 * half) / 45
    return correction + step, 4 / 9 * half_error + quarter_error / 45, abs(step)


def _coarser(energies: Tensor, stride: int) -> tuple[float, float]:
    """log Z of P/stride slices less that of P, from samples of P, and its standard error.

    A slice left out is a slice without classical weight: its two neighbours are then coupled through it as by one step of
    twice the length.
    """
    offsets = energies.double().view(-1, stride, energies.shape[1]).sum(0)
    exponents = offsets.sum(0) - stride * offsets
    per_chain = torch.logsumexp(exponents, 0) - math.log(stride)
    weights = per_chain.softmax(0) * len(per_chain)
    value = torch.logsumexp(per_chain, 0) - math.log(len(per_chain))
    return float(value), float(weights.std() / math.sqrt(len(weights)))
