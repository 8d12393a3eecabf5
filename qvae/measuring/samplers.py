"""One sampler measured on one problem with a truth: its errors against time, and its speed, at a budget of seconds."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import torch

from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.accuracy import biases, energy_r_hat, rates, summarize, temperature, time_to_goal
from qvae.measuring.repetition import Repetition, run_to_share
from qvae.measuring.truth import Truth
from qvae.sampling.sampler import LatentSampler

REPEATS = 10
"""Independent repetitions that share a sampler's budget: 512 patterns of signs, for the test of bias."""


def measure_sampler(
    make: Callable[[int], LatentSampler],
    hamiltonian: IsingHamiltonian,
    truth: Truth,
    budget: float,
    seed: int = 0,
    progress: Callable[[float], None] = lambda share: None,
) -> dict[str, Any]:
    """Measure a sampler at a budget of CPU seconds; the result is that of a sampler in
    :func:`~qvae.measuring.benchmark.run_benchmark`'s schema.

    Up to ``REPEATS`` fresh samplers share the budget, and each goes from its cold start: burn-in counts. Persistent chains
    (``CHAINS`` of them) go on from call to call, others are asked for ever larger numbers of samples, and all samples of a
    repetition are pooled. So a curve says: how far off are the averages of somebody who has spent so many seconds? What
    the sampler does not do itself, such as the sums, is not timed. The clock is that of the processor, threads added up, and
    that of the wall for samplers that work elsewhere and on CUDA.

    Errors are root mean squares over moments and repetitions, less the reference's own error (in quadrature). The effective
    number of samples is Sum_i (1 - m_i^2) / Sum_i Var(m_i), the variance being that between repetitions: the number of
    perfect samples whose averages scatter as much, whatever the sampler does inside. It is taken over means and over
    correlations, and the smaller counts. A bias is what repetitions have in common: it is stated where the sum of their
    errors is longer than under every other choice of their signs (a randomization test; one perfect sampler in 512 fails).

    Args:
        make: a fresh sampler for a seed.
        hamiltonian: the problem, on the device.
        truth: of it, from :func:`~qvae.measuring.truth.find_truth`.
        budget: seconds; one call of one repetition is made, whatever it takes.
        seed: of the first repetition.
        progress: called with the part of the budget that is spent.

    Raises:
        CapabilityError: the problem is beyond the sampler's capabilities.
        SamplerError: what it returned are no samples.
    """
    runs, points, spent = [], [], 0.0
    sampler = make(REPEATS * seed)
    try:
        sampler.check(hamiltonian)
        is_remote = sampler.capabilities.remote
        if not is_remote:
            _warm_up(make, hamiltonian)
        for repeat in range(REPEATS):
            # A remote sampler keeps its connection, and what it has learnt of the device, from one repetition to the next.
            if repeat > 0 and not is_remote:
                sampler.close()
                sampler = make(REPEATS * seed + repeat)
            run = Repetition(sampler, hamiltonian, truth)
            points.append(run_to_share(run, budget / REPEATS))
            runs.append(run)
            spent += run.seconds
            progress(min(1.0, spent / budget))
            if spent >= budget:
                break
    finally:
        sampler.close()
    final = [found[-1] for found in points]
    steps = min(len(found) for found in points)
    # Repetitions have their doublings in common, but not how many, nor where the budget cut them off.
    shared = [[found[step] for found in points] for step in range(steps - 1)] + [final]
    curve = [summarize(group, truth) for group in shared]
    clock = runs[0].clock
    return {
        "clock": clock,
        "repeats": len(runs),
        "persistent": runs[0].sampler.capabilities.persistent,
        "curve": curve,
        **rates(final, [found[0] for found in points], runs, truth),
        "seconds_to_goal": time_to_goal(curve, truth, f"{clock}_seconds"),
        "bias": biases(final, truth),
        **temperature(runs, hamiltonian),
        "r_hat": energy_r_hat(runs),
        "qpu_seconds": sum(run.qpu_seconds for run in runs) if any(run.has_qpu_seconds for run in runs) else None,
    }


def _warm_up(make: Callable[[int], LatentSampler], hamiltonian: IsingHamiltonian) -> None:
    """Imports and compilers are paid once a process, not by the first repetition; what fails here fails again there."""
    gamma = 1.0 if hamiltonian.is_quantum else 0.0
    tiny = IsingHamiltonian(torch.zeros(4), graphs.rbm(2, 2), torch.zeros(4), gamma).to(hamiltonian.h.device)
    with contextlib.suppress(Exception):
        make(0).sample(tiny, 4)
