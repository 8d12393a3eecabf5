"""The path from independent spins to a Hamiltonian: its ladder of temperatures, annealing and tempering along it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs, sparse_matrix
from qvae.ising.free_spin import log_2cosh
from qvae.ising.graphs import by_row
from qvae.ising.hamiltonian import IsingHamiltonian

PILOT_CHAINS, PILOT_STEPS = 100, 100
_MAX_REPLICAS = 24


class AnnealingPath:
    """E_beta(s) = (1-beta) h0.s + beta E(s), with the spins of the largest colour c summed out.

    What is left of the weight is a function of the other spins r,
    f_beta(r) = exp(-E_beta(r)) prod_(i in c) 2 cosh(logit_i(r) / 2), where logit_i is that of spin i given r at beta.
    """

    def __init__(
        self,
        hamiltonian: IsingHamiltonian,
        generator: torch.Generator,
        base_fields: Tensor,
        pilot_steps: int = PILOT_STEPS,
    ) -> None:
        hamiltonian = hamiltonian.detach().to(dtype=torch.float32)
        fields = base_fields.detach().to(hamiltonian.h)
        self.generator = generator
        self.gibbs = BlockGibbs(hamiltonian)
        self.log_z0 = float(log_2cosh(fields.double()).sum())
        self.base = -2 * fields[self.gibbs.order].unsqueeze(1)
        sizes = [self.gibbs.rows(block).stop - self.gibbs.rows(block).start for block in range(self.gibbs.num_blocks)]
        self.summed = sizes.index(max(sizes))
        others = [block for block in range(self.gibbs.num_blocks) if block != self.summed]
        # The summed spins are drawn first in both directions: so one is the other's time reversal (in f_beta).
        self._orders = ([self.summed, *others], [self.summed, *reversed(others)])
        self._slope_field, self._couplings = self._rest(hamiltonian, fields)
        self._spreads = self._survey(pilot_steps)

    def _rest(self, hamiltonian: IsingHamiltonian, fields: Tensor) -> tuple[Tensor, Tensor | None]:
        """h - h0 of the spins that aren't summed out, and the couplings among them, in row order."""
        n = hamiltonian.num_spins
        kept = torch.ones(n, dtype=torch.bool, device=fields.device)
        kept[self.gibbs.rows(self.summed)] = False
        slope = torch.where(kept, (hamiltonian.h - fields)[self.gibbs.order], 0.0)
        ends = torch.argsort(self.gibbs.order)[hamiltonian.edges].sort(1).values
        inside = kept[ends].all(1)
        if not bool(inside.any()):
            return slope, None
        rows, columns = ends[inside].T
        columns, edges, starts = by_row(rows, columns, n)
        return slope, sparse_matrix(starts, columns, hamiltonian.J[inside][edges])

    def base_state(self, chains: int) -> Tensor:
        """Independent samples at beta = 0, (n, chains)."""
        uniform = torch.rand(len(self.base), chains, generator=self.generator, device=self.base.device)
        return (uniform < torch.sigmoid(self.base)).float()

    def log_ratio(self, state: Tensor, beta: float | Tensor, new: float | Tensor) -> Tensor:
        """log f_new(r) - log f_beta(r) of every chain, (chains,), float64; betas are numbers or (chains,)."""
        spins = 2 * state - 1
        slope = self._slope_field @ spins
        if self._couplings is not None:
            slope += (spins * (self._couplings @ spins)).sum(0)
        logits = self.gibbs.logits(state, self.summed)
        base = self.base[self.gibbs.rows(self.summed)]
        before, after = torch.lerp(base, logits, beta), torch.lerp(base, logits, new)
        # Differences first: rounding then is relative to the step, not to the energy.
        summed = (log_2cosh(after / 2) - log_2cosh(before / 2)).sum(0, dtype=torch.float64)
        return summed - (new - beta) * slope.double()

    def sweep(self, state: Tensor, beta: float | Tensor, reverse: bool = False) -> None:
        """One update of every block at ``beta``, in place."""
        self.gibbs.sweep(state, 1, self.generator, beta, self.base, self._orders[reverse])

    def _survey(self, steps: int) -> Tensor:
        """sd(d log f / d beta) d beta at even betas, from a pilot run: lengths of the path's parts."""
        state = self.base_state(PILOT_CHAINS)
        spreads = []
        for beta, new in itertools.pairwise(torch.linspace(0, 1, steps + 1).tolist()):
            spreads.append(self.log_ratio(state, beta, new).std())
            self.sweep(state, new)
        return torch.stack(spreads).cpu()

    def ladder(self, temperatures: int) -> Tensor:
        """Betas from 0 to 1 at even distances in thermodynamic length, int sd(d log f / d beta) d beta (Crooks 2007).

        A tenth of the distance is in beta itself, in case the pilot run was too quick to see some spread.
        """
        parts = 0.9 * self._spreads / self._spreads.sum().clamp(min=1e-12) + 0.1 / len(self._spreads)
        travelled = np.concatenate([[0.0], parts.cumsum(0).numpy()])
        even = np.linspace(0.0, travelled[-1], temperatures)
        return torch.from_numpy(np.interp(even, travelled, np.linspace(0.0, 1.0, len(self._spreads) + 1)))

    def rungs(self, betas: Tensor) -> Tensor:
        """Indices of the betas at which replicas exchange, both ends included, at thermodynamic lengths of about 1."""
        count = min(max(4, math.ceil(float(self._spreads.sum())) + 1), _MAX_REPLICAS)
        return torch.linspace(0, len(betas) - 1, count).round().long()

    def anneal(
        self, state: Tensor, betas: Tensor, reverse: bool = False, keep: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Take ``state`` along the ladder: log weights gathered, (chains,), and the states kept, (n, kept, chains).

        States are kept at the indices ``keep`` of the ladder, resampled by their weights so far.
        """
        ladder = betas.flip(0).tolist() if reverse else betas.tolist()
        wanted = set() if keep is None else set(keep.tolist())
        works = torch.zeros(state.shape[1], dtype=torch.float64, device=state.device)
        kept = [state.clone()] if 0 in wanted else []
        for index in range(1, len(ladder)):
            works += self.log_ratio(state, ladder[index - 1], ladder[index])
            self.sweep(state, ladder[index], reverse)
            if index in wanted:
                kept.append(state[:, self._resample(works)])
        return works, torch.stack(kept, 1) if kept else state.unsqueeze(1)[:, :0]

    def _resample(self, works: Tensor) -> Tensor:
        """Indices of chains, each as often as its weight exp(works) says, to within 1 (systematic resampling)."""
        shift = torch.rand(1, generator=self.generator, device=works.device)
        even = (torch.arange(len(works), device=works.device) + shift.double()) / len(works)
        return torch.searchsorted(works.softmax(0).cumsum(0), even).clamp(max=len(works) - 1)

    def temper(self, replicas: Tensor, betas: Tensor, sweeps: int) -> Tensor:
        """Replica exchange between ``betas`` of states (n, len(betas), chains), in place.

        Returns the spin means at the last beta in row order, (n,).
        """
        n, rungs, chains = replicas.shape
        state = replicas.view(n, -1)
        betas = betas.to(state)
        beta = betas.repeat_interleave(chains)
        sums = torch.zeros_like(state[:, 0])
        for step in range(sweeps):
            self.sweep(state, beta)
            # Neighbours exchange in pairs, (0, 1), (2, 3), ... and (1, 2), (3, 4), ... in turns.
            partner = torch.arange(rungs, device=state.device)
            lower = partner[step % 2 : rungs - 1 : 2].clone()
            partner[lower], partner[lower + 1] = lower + 1, lower
            gain = self.log_ratio(state, beta, betas[partner].repeat_interleave(chains)).view(rungs, chains)
            uniform = torch.rand(len(lower), chains, generator=self.generator, device=state.device)
            accepted = uniform.log() < gain[lower] + gain[lower + 1]
            low, high = replicas[:, lower], replicas[:, lower + 1]
            replicas[:, lower] = torch.where(accepted, high, low)
            replicas[:, lower + 1] = torch.where(accepted, low, high)
            sums += self.gibbs.means(replicas[:, -1].contiguous())[0].mean(1)
        return sums / sweeps
