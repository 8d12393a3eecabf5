"""log Z without a transverse field by annealing, one way or both ways with an honest error bar."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.ising.annealing_path import PILOT_CHAINS, PILOT_STEPS, AnnealingPath
from qvae.ising.estimate import LogPartition
from qvae.ising.exact_partition import refuse_transverse_field
from qvae.ising.hamiltonian import IsingHamiltonian

_MIN_SWEEPS = 200
_MIN_EFFECTIVE, _MIN_EFFECTIVE_SHARE = 20, 0.05  # of all chains; below it the weights' spread no longer tells the error
_MAX_GAP = 0.5  # nat; a larger distance of forward and reverse is said aloud


def annealed_importance_sampling(
    hamiltonian: IsingHamiltonian,
    *,
    chains: int,
    temperatures: int,
    generator: torch.Generator,
    base_fields: Tensor | None = None,
    parts: int = 1,
    spread: Callable[..., Iterable[Any]] = map,
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
        parts: into which the chains are shared out, with 2 or more in each and random numbers of its own; the base is one.
        spread: does several parts, as of :func:`bidirectional_annealing`.

    Raises:
        ValueError: there is a transverse field, or there are fewer than 2 chains in a part, or than 2 temperatures.
    """
    refuse_transverse_field(hamiltonian)
    check_lengths(chains // max(1, parts), temperatures)
    if base_fields is None:
        _, fields = _equilibrate(hamiltonian, PILOT_CHAINS, _MIN_SWEEPS, generator)
    else:
        fields = torch.as_tensor(base_fields)
        if fields.shape != hamiltonian.h.shape:
            raise ValueError(f"base_fields has shape {tuple(fields.shape)}; one field for each spin is needed")
    if parts == 1:
        log_z0, works = _forward(hamiltonian, fields, chains, temperatures, generator)
    else:
        seed = int(torch.randint(2**62, (1,), generator=generator, device=generator.device))
        shares, seeds = share_out(chains, parts, seed)
        found = spread(_forward, [hamiltonian.detach()] * parts, [fields] * parts, shares, [temperatures] * parts, seeds)
        bases, runs = zip(*found, strict=True)
        log_z0, works = bases[0], torch.cat(runs)
    return _one_way(log_z0, works, 1, f"AIS forward, {chains} chains x {temperatures} temperatures")


def _forward(
    hamiltonian: IsingHamiltonian, fields: Tensor, chains: int, temperatures: int, randomness: torch.Generator | int
) -> tuple[float, Tensor]:
    """log Z of the base, and log weights of chains that ran from there; ``randomness`` is a generator or a seed."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(randomness) if isinstance(randomness, int) else randomness
    # A pilot finer than the ladder itself would be most of the cost.
    path = AnnealingPath(hamiltonian, generator, fields, min(PILOT_STEPS, temperatures))
    works, _ = path.anneal(path.base_state(chains), path.ladder(temperatures))
    return path.log_z0, works


def bidirectional_annealing(
    hamiltonian: IsingHamiltonian,
    *,
    chains: int = 500,
    temperatures: int = 2000,
    seed: int = 0,
    parts: int = 1,
    spread: Callable[..., Iterable[Any]] = map,
) -> LogPartition:
    """log Z by annealing forward and back, combined by the acceptance ratio of Bennett (1976, J. Comput. Phys. 22).

    The runs back (Burda, Grosse and Salakhutdinov 2015) start from samples of the target, found by replica exchange with
    uniform spins; the path of both leads from independent spins with the means of these samples. Such a base spends its
    chains where the target is, but may commit them all to one mode: samples found without it tell, and the acceptance
    ratio then counts the other modes.

    The error bar is that of the acceptance ratio, and whatever of the distance between both directions their own errors
    don't explain. If the directions are far apart, or the weights concentrate on a few chains, their whole distance and
    the larger of their own errors are added to it, and ``details["warning"]`` says so.

    In several parts, each has its share of the chains, samples and a base of its own, and random numbers of its own. Weights
    that count from the same Z are ratios of the same kind whatever base they come from, so that one acceptance ratio is taken
    over all of them. Equal seeds and parts give equal numbers, wherever the parts are done.

    Args:
        hamiltonian: without transverse field, on any graph.
        chains: of each direction, of all parts together.
        temperatures: steps of each direction.
        seed: of all random numbers.
        parts: into which the chains are shared out, with 2 or more in each.
        spread: does them: as :func:`map`, ``executor.map`` of :mod:`concurrent.futures`, or :meth:`qvae.workers.Workers.map`.

    Raises:
        ValueError: there is a transverse field, or there are fewer than 2 chains in a part, or than 2 temperatures.
    """
    refuse_transverse_field(hamiltonian)
    check_lengths(chains // max(1, parts), temperatures)
    shares, seeds = share_out(chains, parts, seed)
    found = spread(_both_ways, [hamiltonian.detach()] * parts, shares, [temperatures] * parts, seeds)
    log_z0, forward, backward = from_one_base(*zip(*found, strict=True))
    return combine_annealings(log_z0, forward, backward, f"{chains} chains x {temperatures} temperatures")


def share_out(chains: int, parts: int, seed: int) -> tuple[list[int], list[int]]:
    """How many chains each part has, and its seed; that of one part is ``seed`` itself."""
    shares = [len(share) for share in torch.arange(chains).tensor_split(parts)]
    return shares, [seed] if parts == 1 else np.random.SeedSequence(seed).generate_state(parts).tolist()


def from_one_base(bases: Sequence[float], up: Sequence[Tensor], down: Sequence[Tensor]) -> tuple[float, Tensor, Tensor]:
    """log Z of the first part's base, and all parts' log weights forward and back, as if they all began there."""
    forward = torch.cat([works + (base - bases[0]) for base, works in zip(bases, up, strict=True)])
    # Those of chains that ran back are ratios the other way round: of the base to the target.
    backward = torch.cat([works - (base - bases[0]) for base, works in zip(bases, down, strict=True)])
    return bases[0], forward, backward


def _both_ways(hamiltonian: IsingHamiltonian, chains: int, temperatures: int, seed: int) -> tuple[float, Tensor, Tensor]:
    """log Z of a base, and log weights of chains that ran from there to the target, and back."""
    generator = torch.Generator(hamiltonian.h.device).manual_seed(seed)
    target, fields = _equilibrate(hamiltonian, chains, temperatures // 8, generator)
    path = AnnealingPath(hamiltonian, generator, fields)
    betas = path.ladder(temperatures)
    forward, _ = path.anneal(path.base_state(chains), betas)
    backward, _ = path.anneal(target, betas, reverse=True)
    return path.log_z0, forward, backward


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


def check_lengths(chains: int, temperatures: int) -> None:
    """Raise a ValueError if there are fewer than two chains or temperatures."""
    if chains < 2 or temperatures < 2:
        raise ValueError(f"chains is {chains} and temperatures is {temperatures}; each must be 2 or more")


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
