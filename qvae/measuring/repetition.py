"""One sampler on one problem, once: samples drawn from its cold start on until its share of the time is spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising.exact import state_numbers
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.truth import Truth
from qvae.sampling.sampler import LatentSampler, Moments, Samples

CHAINS = 256
"""Of a persistent sampler; it goes on with these to the end of a repetition."""
FIRST_READS = 16
"""Of a sampler that starts afresh in every call; the calls after the first bring the total to 32, 64, 128 and so on."""
_R_HAT_DRAWS = 2000


@dataclass
class Point:
    """What a repetition has found after so many samples and seconds."""

    samples: int
    cpu_seconds: float
    wall_seconds: float
    means: Tensor
    pairs: Tensor
    energy: float
    total_variation: float | None


class Repetition:
    """Samples drawn by one sampler from its start on, and what they add up to."""

    def __init__(self, sampler: LatentSampler, hamiltonian: IsingHamiltonian, truth: Truth) -> None:
        self.sampler, self.hamiltonian, self.truth = sampler, hamiltonian, truth
        able = sampler.capabilities
        self.is_on_cpu = hamiltonian.h.device.type == "cpu"
        self.clock = "cpu" if self.is_on_cpu and able.computes_here and not able.remote else "wall"
        self.samples, self.cpu_seconds, self.wall_seconds, self.qpu_seconds = 0, 0.0, 0.0, 0.0
        self.has_qpu_seconds = False
        self._means = torch.zeros_like(truth.moments.spins)
        self._pairs = torch.zeros_like(truth.moments.pairs)
        self._energy = 0.0
        size = 0 if truth.distribution is None else len(truth.distribution.probabilities)
        self._counts = torch.zeros(size, dtype=torch.float64)
        self.energies: list[Tensor] = []
        self.last: Samples | None = None

    @property
    def seconds(self) -> float:
        """The clock of the budget: CPU seconds of all threads, or of the wall where others do the work."""
        return self.cpu_seconds if self.clock == "cpu" else self.wall_seconds

    def draw(self, count: int) -> float:
        """Draw ``count`` samples and add them; returns the seconds that the sampler took, adding not included."""
        before, wall, cpu = self.seconds, time.perf_counter(), time.process_time()
        samples = self.sampler.sample(self.hamiltonian, count)
        if not self.is_on_cpu:
            torch.cuda.synchronize(self.hamiltonian.h.device)
        self.cpu_seconds += time.process_time() - cpu
        self.wall_seconds += time.perf_counter() - wall
        if "qpu_seconds" in samples.info:
            self.qpu_seconds += float(samples.info["qpu_seconds"])
            self.has_qpu_seconds = True
        self._add(samples)
        return self.seconds - before

    def _add(self, samples: Samples) -> None:
        found, count = Moments.from_samples(samples, self.hamiltonian), len(samples)
        energies = self.hamiltonian.energy(samples.spins).double().cpu()
        weights = torch.full_like(energies, 1 / count) if samples.weights is None else samples.weights.double().cpu()
        self.samples += count
        self._means += count * found.spins.double().cpu()
        self._pairs += count * found.pairs.double().cpu()
        self._energy += count * float(weights @ energies)
        if len(self._counts):
            states = state_numbers(samples.spins.cpu() > 0)
            self._counts += count * torch.bincount(states, weights, minlength=len(self._counts))
        if self.sampler.capabilities.persistent and len(self.energies) < _R_HAT_DRAWS:
            self.energies.append(energies)
        self.last = samples

    def point(self) -> Point:
        """What all samples so far say."""
        n, variation = self.samples, None
        if self.truth.distribution is not None:
            variation = 0.5 * float((self._counts / n - self.truth.distribution.probabilities.cpu()).abs().sum())
        return Point(n, self.cpu_seconds, self.wall_seconds, self._means / n, self._pairs / n, self._energy / n, variation)


def run_to_share(repetition: Repetition, share: float) -> list[Point]:
    """Points after ever twice as many samples, and the last one where the share of the budget ends; one at least."""
    advance = _persistent_calls if repetition.sampler.capabilities.persistent else _fresh_calls
    points = []
    for _ in advance(repetition, share):
        points.append(repetition.point())
    if repetition.samples > points[-1].samples:
        points.append(repetition.point())
    return points


def _persistent_calls(run: Repetition, share: float) -> Iterator[None]:
    """Calls that continue the same chains, 1, 1, 2, 4, ...; stops between each of them while the share allows one more."""
    seconds, calls = run.draw(CHAINS), 1
    yield
    seconds = 0.0  # the first one's burn-in says nothing about those that follow
    while True:
        for _ in range(calls):
            if run.seconds + seconds >= share:
                return
            seconds = run.draw(CHAINS)
        calls *= 2
        yield


def _fresh_calls(run: Repetition, share: float) -> Iterator[None]:
    """Calls for as many samples as there are already; the last one is as large as the share allows."""
    before, count, seconds = (0, 0.0), FIRST_READS, run.draw(FIRST_READS)
    while True:
        yield
        # What a call costs, at least, and each of its samples, from the last two calls.
        each = max(0.0, (seconds - before[1]) / (count - before[0])) if count > before[0] else seconds / count
        fixed = max(0.0, seconds - each * count)
        left = share - run.seconds - fixed
        wanted = run.samples
        affordable = wanted if each * wanted <= left else int(left / each) if each > 0 else 0
        if left < 0 or affordable < max(1, wanted // 8):
            return
        before, count = (count, seconds), affordable
        seconds = run.draw(affordable)
        if affordable < wanted:
            return
