"""A clock that only samplers move, and samplers whose faults are known."""

import itertools
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from qvae.config.backends import BackendSpec
from qvae.ising.exact import exact_distribution
from qvae.measuring import repetition, specs
from qvae.measuring.problems import make_problem
from qvae.measuring.truth import find_truth
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples


class Clock:
    """Seconds that pass when a sampler says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


class Known(LatentSampler):
    """Perfect samples at an inverse temperature, at a price in seconds; ``spoil`` changes them."""

    def __init__(self, clock, seed, beta=1.0, call=0.0, each=1e-3, spoil=lambda spins: spins):
        self.clock, self.beta, self.call, self.each, self.spoil = clock, beta, call, each, spoil
        self.generator = torch.Generator().manual_seed(seed)
        self.sizes = []

    def _sample(self, hamiltonian, num_samples):
        self.clock.now += self.call + self.each * num_samples
        self.sizes.append(num_samples)
        tempered = hamiltonian.replace(hamiltonian.h * self.beta, hamiltonian.J * self.beta)
        return Samples(self.spoil(exact_distribution(tempered).sample(num_samples, self.generator)))


class Chains(Known):
    """Persistent ones: all samples of one in four calls, and the same again in the others."""

    capabilities = Capabilities(persistent=True)

    def _sample(self, hamiltonian, num_samples):
        found = super()._sample(hamiltonian, num_samples)
        if len(self.sizes) % 4 == 1:
            self.kept = found.spins
        return Samples(self.kept)


class Made(BackendSpec):
    """A specification whose samplers come from a function of the seed, not from the registry."""

    function: Any
    label_of_its_own: str

    @property
    def label(self):
        return self.label_of_its_own


@pytest.fixture
def clock(monkeypatch):
    import time

    found = Clock()
    fake = SimpleNamespace(process_time=found, perf_counter=found, strftime=time.strftime)
    monkeypatch.setattr(repetition, "time", fake)
    return found


@pytest.fixture
def known(clock):
    """Makes a function of the seed that makes samplers, as ``make`` of a specification."""
    return lambda cls=Known, **options: lambda seed: cls(clock, seed, **options)


@pytest.fixture
def made(monkeypatch):
    """A specification from such a function."""
    numbers = itertools.count()
    make = specs.make_sampler
    monkeypatch.setattr(specs, "make_sampler", lambda spec, seed: getattr(spec, "function", partial(make, spec))(seed))
    return lambda function, label=None: Made(name="made", function=function, label_of_its_own=label or f"made{next(numbers)}")


@pytest.fixture
def chains():
    return Chains


@pytest.fixture(scope="session")
def small_problem():
    return make_problem("rbm-critical:4x4")


@pytest.fixture(scope="session")
def small_truth(small_problem):
    return find_truth(small_problem.hamiltonian, 1.0)
