"""How fresh samplers are made for the checks, and whether seeds, states and pickles make them agree."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import named_parameters
from qvae.sampling.registry import load_sampler, sampler_options
from qvae.sampling.sampler import LatentSampler
from qvae.testing.problems import small
from qvae.testing.results import Skipped, require
from qvae.testing.trial import sampled

Checkable = str | LatentSampler | Callable[..., LatentSampler]


class Subject:
    """What is checked, and how fresh ones are made."""

    def __init__(self, sampler: Checkable, options: dict[str, Any]) -> None:
        self.options = options
        if isinstance(sampler, LatentSampler):
            original = sampler
            self.takes_seed = False
            self.build: Callable[..., LatentSampler] = lambda: pickle.loads(pickle.dumps(original))
        elif isinstance(sampler, str):
            name = sampler
            self.takes_seed = "seed" in sampler_options(name)
            self.build = lambda **given: load_sampler(name, **given)
        else:
            self.takes_seed = "seed" in _parameters(sampler)
            self.build = sampler

    def make(self, seed: int) -> LatentSampler:
        """A fresh sampler, seeded if it takes seeds."""
        return self.build(**self.options, **({"seed": seed} if self.takes_seed and "seed" not in self.options else {}))

    def seeded(self, seed: int) -> LatentSampler:
        """A fresh sampler with this very seed."""
        if not self.takes_seed:
            raise Skipped("it takes no seed, or was handed over as an object")
        return self.build(**self.options | {"seed": seed})

    def same_seed(self) -> str:
        """Two samplers of one seed agree call by call, whatever else draws random numbers."""
        hamiltonian, first, second = small(), self.seeded(5), self.seeded(5)
        if first.capabilities.remote:
            raise Skipped("it is remote: hardware doesn't repeat itself")
        for _ in range(2):
            same = torch.equal(first.sample(hamiltonian, 100).spins, second.sample(hamiltonian, 100).spins)
            require(same, "two samplers with seed=5 returned different samples")
        return ""

    def another_seed(self) -> str:
        """The seed is used."""
        hamiltonian = small()
        first, second = (self.seeded(seed).sample(hamiltonian, 100).spins for seed in (5, 6))
        require(not torch.equal(first, second), "samplers with seed=5 and seed=6 returned the same samples")
        return ""

    def state(self) -> str:
        """Another sampler with the state of the first goes on exactly as that one does."""
        hamiltonian, first = small(), self.make(seed=5)
        first.sample(hamiltonian, 50)
        state = _travelled(first.state_dict(), "state_dict()")
        if not state:
            raise Skipped("it keeps no state")
        second = self.make(seed=6)
        second.load_state_dict(state)
        require(_same_state(second.state_dict(), state), "state_dict right after load_state_dict isn't what was loaded")
        _require_same_future(first, second, hamiltonian, "after load_state_dict")
        return f"holds {', '.join(sorted(state))}"

    def pickles(self) -> str:
        """A copy in another process works, and goes on as the first does if it has state."""
        hamiltonian, first = small(), self.make(seed=5)
        first.sample(hamiltonian, 50)
        second: LatentSampler = pickle.loads(pickle.dumps(first))
        require(second.name == first.name, f"the copy's name is {second.name!r}, not {first.name!r}")
        if first.state_dict():
            _require_same_future(first, second, hamiltonian, "of a pickled copy")
        else:
            sampled(second, hamiltonian, 50)
        return ""


def _parameters(make: Callable[..., LatentSampler]) -> set[str]:
    if isinstance(make, type):
        return {parameter.name for parameter in named_parameters(make)}
    return set(inspect.signature(make).parameters)


def _require_same_future(first: LatentSampler, second: LatentSampler, hamiltonian: IsingHamiltonian, when: str) -> None:
    if first.capabilities.remote:  # hardware doesn't repeat itself; what is left is that both work
        sampled(first, hamiltonian, 50)
        sampled(second, hamiltonian, 50)
        return
    for _ in range(2):
        same = torch.equal(first.sample(hamiltonian, 50).spins, second.sample(hamiltonian, 50).spins)
        require(same, f"samples {when} differ from those of the sampler it was taken from")


def _travelled(value: Any, path: str) -> Any:
    """A state as a checkpoint gives it back: tensors, and what JSON holds.

    Raises:
        AssertionError: it has other values.
    """
    if isinstance(value, Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        strange = [key for key in value if not isinstance(key, str)]
        require(not strange, f"{path} has the key {strange[:1]}, which is no text")
        return {key: _travelled(part, f"{path}[{key!r}]") for key, part in value.items()}
    if isinstance(value, list):
        return [_travelled(part, f"{path}[{index}]") for index, part in enumerate(value)]
    plain = value is None or type(value) in (bool, int, float, str)
    require(plain, f"{path} is a {type(value).__name__}; a state holds tensors, dicts, lists, numbers, texts and null")
    return json.loads(json.dumps(value))


def _same_state(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) or isinstance(second, Tensor):
        return isinstance(first, Tensor) and isinstance(second, Tensor) and torch.equal(first, second)
    if isinstance(first, dict) and isinstance(second, dict):
        return first.keys() == second.keys() and all(_same_state(first[key], second[key]) for key in first)
    if isinstance(first, list) and isinstance(second, list):
        return len(first) == len(second) and all(map(_same_state, first, second))
    return first == second
