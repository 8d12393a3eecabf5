"""log Z of classical Ising Hamiltonians: closed form, enumeration, and annealing both ways with an honest error bar."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs, sparse_matrix
from qvae.ising.exact import MAX_ENUMERATION_SPINS, MAX_QUANTUM_SPINS, exact_distribution, spin_states
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian

MAX_LAYER_SPINS = 25
"""Largest smaller layer that :func:`enumerate_rbm` takes; :func:`log_partition` stops at ``MAX_ENUMERATION_SPINS``."""

_PILOT_CHAINS, _PILOT_STEPS = 100, 100
_MAX_REPLICAS, _MIN_SWEEPS = 24, 200
_MIN_EFFECTIVE, _MIN_EFFECTIVE_SHARE = 20, 0.05  # of all chains; below it the weights' spread no longer tells the error
_MAX_GAP = 0.5  # nat; a larger distance of forward and reverse is said aloud


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z = log sum_s exp(-E(s)), in nats.

    Attributes:
        value: the estimate.
        stderr: its standard error; 0 where the value is exact.
        method: how it was found, as a short phrase.
        details: of an estimate by annealing: ``forward``, ``forward_stderr``, ``reverse``, ``reverse_stderr``, ``gap``
            (reverse - forward), ``effective_samples`` (the smaller of both directions), and ``warning``, a sentence, if
            the value is uncertain beyond what its chains show.
    """

    value: float
    stderr: float
    method: str
    details: dict[str, Any] = field(default_factory=dict)


def log_partition(
    hamiltonian: IsingHamiltonian, *, chains: int = 500, temperatures: int = 2000, seed: int = 0
) -> LogPartition:
    """log Z by the best method there is for ``hamiltonian``.

    In closed form without couplings; by enumeration up to ``MAX_ENUMERATION_SPINS`` spins, or of an RBM's smaller layer
    up to as many; else by :func:`bidirectional_annealing`, to which the options belong.

    Raises:
        ValueError: the Hamiltonian has a transverse field, or there are fewer than 2 chains or temperatures.

    >>> log_partition(IsingHamiltonian([0.0, 0.0], [], [])).value  # 2 log 2
    1.3862943611198906
    """
    _check(hamiltonian, chains, temperatures)
    if not hamiltonian.graph.num_edges:
        return product_log_partition(hamiltonian)
    if hamiltonian.num_spins <= MAX_ENUMERATION_SPINS:
        exact = exact_distribution(hamiltonian)
        return LogPartition(exact.log_z, 0.0, exact.method)
    layers = hamiltonian.graph.bipartite_sizes
    if layers is not None and min(layers) <= MAX_ENUMERATION_SPINS:
        return enumerate_rbm(hamiltonian)
    return bidirectional_annealing(hamiltonian, chains=chains, temperatures=temperatures, seed=seed)


def product_log_partition(hamiltonian: IsingHamiltonian) -> LogPartition:
    """log Z = sum_i log 2 cosh h_i of spins without couplings.

    Raises:
        ValueError: there are couplings or a transverse field.
    """
    _check(hamiltonian)
    if hamiltonian.graph.num_edges:
        raise ValueError(f"the closed form is for spins without couplings, but there are {hamiltonian.graph.num_edges}")
    return LogPartition(float(_log_2cosh(hamiltonian.h.detach().double()).sum()), 0.0, "closed form without couplings")


def enumerate_rbm(hamiltonian: IsingHamiltonian) -> LogPartition:
    """log Z of an RBM: a sum over the states of its smaller layer, the other summed out in closed form.

    log Z = log sum_v exp(-h.v) prod_j 2 cosh(h_j + sum_i v_i J_ij).

    Raises:
        ValueError: the graph isn't an RBM, its smaller layer has more than ``MAX_LAYER_SPINS`` spins, or there is a
            transverse field.
    """
    _check(hamiltonian)
    layers = hamiltonian.graph.bipartite_sizes
    if layers is None:
        raise ValueError(f"{hamiltonian.graph} isn't an RBM; use log_partition")
    if min(layers) > MAX_LAYER_SPINS:
        raise ValueError(
            f"the smaller layer has {min(layers)} spins; at most {MAX_LAYER_SPINS} are enumerated: use log_partition"
        )
    h = hamiltonian.h.detach().double()
    J = hamiltonian.J.detach().double().view(layers)
    small, large = h[: layers[0]], h[layers[0] :]
    if layers[0] > layers[1]:
        small, large, J = large, small, J.T
    # The low spins take all their states within a chunk, and the high spins one state per chunk.
    low = min(len(small), max(1, (2**22 // len(large)).bit_length() - 1))
    low_states = spin_states(low, h.device).double()
    low_energy, low_field = low_states @ small[:low], low_states @ J[:low] + large
    sums = []
    for high in spin_states(len(small) - low, h.device).double():
        log_weights = _log_2cosh(low_field + high @ J[low:]).sum(1) - low_energy - high @ small[low:]
        sums.append(torch.logsumexp(log_weights, 0))
    value = float(torch.logsumexp(torch.stack(sums), 0))
    return LogPartition(value, 0.0, f"enumeration of a layer's 2^{len(small)} states")


def annealed_importance_sampling(
    hamiltonian: IsingHamiltonian,
    *,
    chains: int,
    temperatures: int,
    generator: torch.Generator,
    base_fields: Tensor | None = None,
) -> LogPartition:
    """log Z by annealed importance sampling from independent spins; it is unbiased in Z, and low in log Z on average.

    The path is E_beta = (1-beta) h0.s + beta E(s). As in Salakhutdinov and Murray (2008), whose states are one layer of
    an RBM, the spins of the largest colour are summed out of the weights. A base that prefers one of several modes
    leaves the others out unnoticed: only :func:`bidirectional_annealing` can tell.

    Args:
        hamiltonian: without transverse field, on any graph.
        chains: independent annealing runs.
        temperatures: number of betas from 0 to 1, both included, so spaced that each step costs the same variance.
        generator: on the Hamiltonian's device.
        base_fields: h0, (n,); the default makes independent spins with the means of a short tempered run.

    Raises:
        ValueError: there is a transverse field, or there are fewer than 2 chains or temperatures.
    """
    _check(hamiltonian, chains, temperatures)
    path = _path(hamiltonian, generator, base_fields, temperatures)
    works, _ = path.anneal(path.base_state(chains), path.ladder(temperatures))
    return _one_way(path.log_z0, works, 1, f"AIS forward, {chains} chains x {temperatures} temperatures")


def reverse_annealed_importance_sampling(
    hamiltonian: IsingHamiltonian,
    spins: Tensor,
    *,
    temperatures: int,
    generator: torch.Generator,
    base_fields: Tensor | None = None,
) -> LogPartition:
    """log Z by annealing samples of the target back to independent spins; it is high in log Z on average.

    The same path as :func:`annealed_importance_sampling`, travelled backwards (Burda, Grosse and Salakhutdinov 2015).
    It is as good as its ``spins``: where those miss a mode of the distribution, so does the estimate.

    Args:
        hamiltonian: without transverse field, on any graph.
        spins: independent samples of exp(-E)/Z, (chains, n).
        temperatures: number of betas from 1 to 0, both included.
        generator: on the Hamiltonian's device.
        base_fields: h0, (n,); the default makes independent spins with the means of a short tempered run.

    Raises:
        ValueError: there is a transverse field, or there are fewer than 2 chains or temperatures.
    """
    _check(hamiltonian, len(spins), temperatures)
    path = _path(hamiltonian, generator, base_fields, temperatures)
    works, _ = path.anneal(path.gibbs.from_spins(spins), path.ladder(temperatures), reverse=True)
    return _one_way(path.log_z0, works, -1, f"AIS reverse, {len(spins)} chains x {temperatures} temperatures")


def bidirectional_annealing(
    hamiltonian: IsingHamiltonian, *, chains: int = 500, temperatures: int = 2000, seed: int = 0
) -> LogPartition:
    """log Z by annealing forward and back, combined by the acceptance ratio of Bennett (1976, J. Comput. Phys. 22).

    The runs back start from samples of the target, found by replica exchange with uniform spins; the path of both leads
    from independent spins with the means of these samples. Such a base spends its chains where the target is, but may
    commit them all to one mode: samples found without it tell, and the acceptance ratio then counts the other modes.

    The error bar is that of the acceptance ratio, and whatever of the distance between both directions their own errors
    don't explain. If the directions are far apart, or the weights concentrate on a few chains, their whole distance and
    the larger of their own errors are added to it, and ``details["warning"]`` says so.

    Raises:
        ValueError: there is a transverse field, or there are fewer than 2 chains or temperatures.
    """
    _check(hamiltonian, chains, temperatures)
    generator = torch.Generator(hamiltonian.h.device).manual_seed(seed)
    target, fields = _equilibrate(hamiltonian, chains, temperatures // 8, generator)
    path = AnnealingPath(hamiltonian, generator, fields)
    betas = path.ladder(temperatures)
    forward, _ = path.anneal(path.base_state(chains), betas)
    backward, _ = path.anneal(target, betas, reverse=True)
    return combine_annealings(path.log_z0, forward, backward, f"{chains} chains x {temperatures} temperatures")


def _path(
    hamiltonian: IsingHamiltonian, generator: torch.Generator, base_fields: Tensor | None, temperatures: int
) -> AnnealingPath:
    if base_fields is None:
        _, fields = _equilibrate(hamiltonian, _PILOT_CHAINS, _MIN_SWEEPS, generator)
    else:
        fields = torch.as_tensor(base_fields)
        if fields.shape != hamiltonian.h.shape:
            raise ValueError(f"base_fields has shape {tuple(fields.shape)}; one field for each spin is needed")
    # A pilot finer than the ladder itself would be most of the cost.
    return AnnealingPath(hamiltonian, generator, fields, min(_PILOT_STEPS, temperatures))


def _equilibrate(
    hamiltonian: IsingHamiltonian, chains: int, sweeps: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Samples of the target as a state (n, chains), and fields (n,) of independent spins with their means.

    Annealing from uniform spins, then replica exchange; from uniform spins, because a better base may prefer one mode.
    """
    sweeps = max(_MIN_SWEEPS, sweeps)
    path = AnnealingPath(hamiltonian, generator, torch.zeros_like(hamiltonian.h))
    betas = path.ladder(sweeps)
    rungs = path.rungs(betas)
    _, replicas = path.anneal(path.base_state(chains), betas, keep=rungs)
    # The means are of the first half alone: the samples forget it, so that the base isn't fitted to their noise.
    means = path.temper(replicas, betas[rungs], sweeps // 2)
    path.temper(replicas, betas[rungs], sweeps // 2)
    fields = torch.empty_like(means)
    fields[path.gibbs.order] = -torch.atanh(means * chains / (chains + 2))
    return replicas[:, -1].contiguous(), fields


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
        pilot_steps: int = _PILOT_STEPS,
    ) -> None:
        hamiltonian = hamiltonian.detach().to(dtype=torch.float32)
        fields = base_fields.detach().to(hamiltonian.h)
        self.generator = generator
        self.gibbs = BlockGibbs(hamiltonian)
        self.log_z0 = float(_log_2cosh(fields.double()).sum())
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
        columns, edges, starts = Graph(n, ends[inside]).forward_neighbours
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
        summed = (_log_2cosh(after / 2) - _log_2cosh(before / 2)).sum(0, dtype=torch.float64)
        return summed - (new - beta) * slope.double()

    def sweep(self, state: Tensor, beta: float | Tensor, reverse: bool = False) -> None:
        """One update of every block at ``beta``, in place."""
        self.gibbs.sweep(state, 1, self.generator, beta, self.base, self._orders[reverse])

    def _survey(self, steps: int) -> Tensor:
        """sd(d log f / d beta) d beta at even betas, from a pilot run: lengths of the path's parts."""
        state = self.base_state(_PILOT_CHAINS)
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
        beta = betas.to(state).repeat_interleave(chains)
        sums = torch.zeros_like(state[:, 0])
        for step in range(sweeps):
            self.sweep(state, beta)
            # Neighbours exchange in pairs, (0, 1), (2, 3), ... and (1, 2), (3, 4), ... in turns.
            partner, lower = torch.arange(rungs), torch.arange(step % 2, rungs - 1, 2)
            partner[lower], partner[lower + 1] = lower + 1, lower
            gain = self.log_ratio(state, beta, betas[partner].to(state).repeat_interleave(chains)).view(rungs, chains)
            uniform = torch.rand(len(lower), chains, generator=self.generator, device=state.device)
            accepted = uniform.log() < gain[lower] + gain[lower + 1]
            low, high = replicas[:, lower], replicas[:, lower + 1]
            replicas[:, lower] = torch.where(accepted, high, low)
            replicas[:, lower + 1] = torch.where(accepted, low, high)
            sums += self.gibbs.means(replicas[:, -1].contiguous())[0].mean(1)
        return sums / sweeps


def _one_way(log_z0: float, works: Tensor, sign: int, method: str) -> LogPartition:
    """log Z from the mean weight exp(works) of chains that ran forward (``sign`` 1) or back (-1)."""
    log_mean, stderr, effective = _log_mean_exp(works)
    return LogPartition(log_z0 + sign * log_mean, stderr, method, {"effective_samples": effective})


def _log_mean_exp(works: Tensor) -> tuple[float, float, float]:
    """log mean exp(works), its standard error, and the effective sample size (sum w)^2 / sum w^2."""
    weights = works.softmax(0)
    n, effective = len(works), float(1 / weights.square().sum())
    return float(torch.logsumexp(works, 0)) - math.log(n), math.sqrt((n / effective - 1) / (n - 1)), effective


def combine_annealings(log_z0: float, forward: Tensor, backward: Tensor, size: str) -> LogPartition:
    """Bennett's acceptance ratio over the log weights of both directions, and the checks on its error bar."""
    up = _one_way(log_z0, forward, 1, "")
    down = _one_way(log_z0, backward, -1, "")
    log_ratio, stderr = _acceptance_ratio(forward, -backward)
    gap = down.value - up.value
    effective = min(up.details["effective_samples"], down.details["effective_samples"])
    details = {
        "forward": up.value,
        "forward_stderr": up.stderr,
        "reverse": down.value,
        "reverse_stderr": down.stderr,
        "gap": gap,
        "effective_samples": effective,
    }
    chains = len(forward)
    reasons = []
    if effective < max(_MIN_EFFECTIVE, _MIN_EFFECTIVE_SHARE * chains):
        reasons.append(f"the weights of {chains} chains are worth only {effective:.1f}")
    if abs(gap) > _MAX_GAP:
        reasons.append(f"forward and reverse are {abs(gap):.2f} nats apart")
    if reasons:
        stderr = math.hypot(stderr, gap, max(up.stderr, down.stderr))
        details["warning"] = (
            f"log Z is uncertain: {' and '.join(reasons)}; the error bar was widened, and more temperatures would help"
        )
    else:
        # What their own errors don't explain of the distance.
        stderr = math.hypot(stderr, math.sqrt(max(0.0, gap**2 - up.stderr**2 - down.stderr**2)))
    return LogPartition(log_z0 + log_ratio, stderr, f"AIS forward + reverse (BAR), {size}", details)


def _acceptance_ratio(forward: Tensor, backward: Tensor) -> tuple[float, float]:
    """log(Z / Z0) and its standard error from equally many log weights w of paths either way.

    p_back(w) / p_forward(w) = exp(w - log Z/Z0) (Crooks 1999), so log Z/Z0 is the intercept of a logistic regression
    that tells the two apart (Shirts et al. 2003, PRL 91, 140601): sum_F sigmoid(w - x) = sum_B sigmoid(x - w).
    """
    low, high = float(torch.minimum(forward.min(), backward.min())), float(torch.maximum(forward.max(), backward.max()))
    while high - low > 1e-9 * max(1.0, abs(low), abs(high)):
        x = (low + high) / 2
        if torch.sigmoid(forward - x).sum() > torch.sigmoid(x - backward).sum():
            low = x
        else:
            high = x
    x = (low + high) / 2
    p = torch.sigmoid(torch.cat([forward, backward]) - x)
    variance = 1 / float((p * (1 - p)).sum().clamp(min=1e-300)) - 2 / len(forward)
    return x, math.sqrt(max(0.0, variance))


def _log_2cosh(x: Tensor) -> Tensor:
    """log(2 cosh x) without overflow."""
    size = x.abs()
    return size + torch.log1p(torch.exp(-2 * size))


def _check(hamiltonian: IsingHamiltonian, chains: int = 2, temperatures: int = 2) -> None:
    if hamiltonian.is_quantum:
        raise ValueError(
            "this log Z is of Hamiltonians without transverse field; with one, use exact_distribution(hamiltonian).log_z, for "
            f"at most {MAX_QUANTUM_SPINS} spins, or path_integral_log_partition"
        )
    if chains < 2 or temperatures < 2:
        raise ValueError(f"chains is {chains} and temperatures is {temperatures}; each must be 2 or more")
