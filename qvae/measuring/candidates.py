"""Samplers with settings as candidates for a prior, each judged by the noise and the bias of its gradient and by its cost."""

from __future__ import annotations

import itertools
import json
import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.config.backends import BackendSpec
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.accuracy import bias_of
from qvae.measuring.specs import local_samplers, make_seeded
from qvae.measuring.truth import Truth
from qvae.sampling.registered import sampler_options
from qvae.sampling.sampler import LatentSampler, Moments

_REPEATS = 8
_MOST_STEPS = 60  # of drift before a measurement: longer than chains that are of use remember
MOST_CHAINS = 16  # times the configured number
_GRIDS: tuple[Mapping[str, Sequence[Any]], ...] = (
    {"sweeps": (1, 5, 20, 80)},
    {"tempering": (8,), "sweeps": (5, 20)},
    {"annealing": (5, 20), "persistent": (False,)},
    {"num_sweeps": (20, 100, 400)},
)
"""Settings tried of whatever sampler has these options; one that has none of them is tried at its defaults."""


@dataclass(frozen=True)
class Candidate:
    """A sampler with settings, and what it was measured to do to the gradient.

    Attributes:
        spec: the sampler and its options.
        chains: samples a step that it needs; a multiple of the configured number.
        milliseconds: cost of a step's call for so many, estimated in proportion from the configured number: CPU time of all
            threads, or time of the wall on CUDA.
        noise: variance of its gradient in units of the variance that is allowed, at ``chains``.
        bias: square of its bias in the same units; None where a single call says nothing of it.
        reaches: whether both together are at most 1.
        repeats: repetitions that this rests on.
        why: it was not measured, a clause; empty if it was.
    """

    spec: BackendSpec
    chains: int
    milliseconds: float = math.nan
    noise: float = math.nan
    bias: float | None = None
    reaches: bool = False
    repeats: int = 0
    why: str = ""

    @property
    def total(self) -> float:
        """Noise and bias together, in units of what is allowed."""
        return self.noise + (self.bias or 0.0)


def settings_to_try(configured: BackendSpec, hamiltonian: IsingHamiltonian) -> list[BackendSpec]:
    """What is tried: the configured sampler as it is, and every local one that takes the prior with a few settings each."""
    found: list[BackendSpec] = [configured]
    for spec in local_samplers()[0]:
        if make_seeded(spec, 0).capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum) is not None:
            continue
        grids = [grid for grid in _GRIDS if set(grid) <= set(sampler_options(spec.name))]
        # What is made for a transverse field has no more to offer without one: its defaults will do.
        if make_seeded(spec, 0).capabilities.transverse_field and not hamiltonian.is_quantum:
            grids = []
        products = (dict(zip(grid, values, strict=True)) for grid in grids for values in itertools.product(*grid.values()))
        found += [BackendSpec(name=spec.name, options=options) for options in products] or [spec]
    # The defaults written out are the defaults: the first of equals is kept, which is the configured one.
    keys = [json.dumps([spec.name, sampler_options(spec.name) | dict(spec.options)], default=str) for spec in found]
    return [spec for place, spec in enumerate(found) if keys.index(keys[place]) == place]


def judge(
    spec: BackendSpec, hamiltonian: IsingHamiltonian, truth: Truth, allowed: float, chains: int, step: float, share: float
) -> Candidate:
    """Measure a sampler on ``hamiltonian`` whose ``truth`` is known; one that fails or takes too long says why.

    Args:
        spec: the sampler and its options.
        hamiltonian: the prior, on the device.
        truth: of it.
        allowed: the variance that its gradient may have, summed over h and J.
        chains: the configured number.
        step: root mean square step of the prior's parameters in one step of training.
        share: seconds.
    """
    errors: list[Tensor] = []
    calls: list[float] = []
    why = ""
    try:
        # A candidate that has been measured twice keeps what it has when its time is over.
        with _time_limit(max(share, 0.2)):
            for error in _repetitions(spec, hamiltonian, truth, chains, step, share, calls):
                errors.append(error)
    except _OutOfTime:
        why = "" if errors else "a single call takes longer than its share of the time"
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(".")
    if not errors:
        return Candidate(spec, chains, why=why or "no time was left for it")
    return _candidate(spec, torch.stack(errors), calls, truth, allowed, chains)


def _candidate(
    spec: BackendSpec, errors: Tensor, calls: Sequence[float], truth: Truth, allowed: float, chains: int
) -> Candidate:
    """Noise and bias from errors (repetitions, parameters), and the number of chains at which they are small enough."""
    parameters = errors.shape[1]
    reference = math.sqrt(squared_error(truth) / max(1, parameters))
    size, _ = bias_of(errors, reference)
    total = max(0.0, float(errors.square().sum(1).mean()) - squared_error(truth)) / allowed if allowed else 0.0
    bias = None if math.isnan(size) else min(total, size**2 * parameters / allowed) if allowed else 0.0
    noise = total - (bias or 0.0)
    factor = 1
    while noise / factor + (bias or 0.0) > 1 and factor < MOST_CHAINS:
        factor *= 2
    reaches = noise / factor + (bias or 0.0) <= 1
    if not reaches:
        factor = 1
    milliseconds = 1e3 * factor * statistics.median(calls)
    return Candidate(spec, chains * factor, milliseconds, noise / factor, bias, reaches, len(errors))


def _repetitions(
    spec: BackendSpec,
    hamiltonian: IsingHamiltonian,
    truth: Truth,
    chains: int,
    step: float,
    share: float,
    calls: list[float],
) -> Iterator[Tensor]:
    """Errors (n + m,) of the moments of fresh samplers that have followed the prior on its way; fills in ``calls``' seconds."""
    steps, started = 0, time.perf_counter()
    values = torch.cat([hamiltonian.h, hamiltonian.J])
    rate = step / max(1e-12, float(values.square().mean().sqrt()))
    exact = Moments(truth.moments.spins, truth.moments.pairs)
    for repeat in range(_REPEATS):
        sampler = make_seeded(spec, 1000 + repeat)
        # A persistent sampler's first call is longer than those that training is made of.
        seconds: list[float] = []
        try:
            if repeat == 0 and sampler.capabilities.persistent:
                # How long a first call and one that follows take says how many of them there is time for.
                costs = [_call(sampler, hamiltonian, chains)[2] for _ in range(3)]
                steps = max(1, min(_MOST_STEPS, int((share / _REPEATS - costs[0]) / max(costs[1:]))))
            for left in range(steps, 0, -1):
                scale = 1 - rate * left
                moved = hamiltonian.replace(hamiltonian.h * scale, hamiltonian.J * scale)
                seconds.append(_call(sampler, moved, chains)[1])
            moments, cost, _ = _call(sampler, hamiltonian, chains)
        finally:
            sampler.close()
        calls.extend([*seconds[1:], cost] if seconds else [cost])
        yield torch.cat([moments.spins.double().cpu() - exact.spins, moments.pairs.double().cpu() - exact.pairs])
        spent = time.perf_counter() - started
        if sampler.capabilities.exact or spent + spent / (repeat + 1) > share:
            return


def _call(sampler: LatentSampler, hamiltonian: IsingHamiltonian, chains: int) -> tuple[Moments, float, float]:
    """Moments, their cost in seconds, of the processor or of the wall where a GPU works, and the wall's in any case."""
    wall, cpu = time.perf_counter(), time.process_time()
    moments = sampler.moments(hamiltonian, chains)
    if hamiltonian.h.device.type == "cuda":
        torch.cuda.synchronize(hamiltonian.h.device)
        return moments, time.perf_counter() - wall, time.perf_counter() - wall
    return moments, time.process_time() - cpu, time.perf_counter() - wall


class _OutOfTime(KeyboardInterrupt):
    """A candidate's share of the time is used up; an interrupt, which no code catches."""


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    """Raise _OutOfTime in the block after so many seconds, where the system has alarms; elsewhere do nothing."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "setitimer"):
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise _OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, before)


def squared_error(truth: Truth) -> float:
    """Of what is known of the truth, summed over means and correlations."""
    return float(truth.spins_error.square().sum() + truth.pairs_error.square().sum())
