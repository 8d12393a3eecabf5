"""How fresh backends are made for the checks, and whether seeds, states and pickles make them agree."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from qvae.options import named_parameters
from qvae.plugins import Registry
from qvae.testing.results import Skipped, require


class Backend(Protocol):
    """What samplers and executors have in common."""

    name: str
    capabilities: Any

    def state_dict(self) -> dict[str, Any]:
        """What it goes on from."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from there."""


T = TypeVar("T", bound=Backend)


class Subject(Generic[T]):
    """What is checked, and how fresh ones are made.

    Args:
        registry: of backends of its kind.
        contract: the class that all of them derive from.
        backend: a registered name, a class or function that makes one, or a backend, of which copies are used.
        options: for a name, class or function.
        draw: random samples from a backend, so many that no two calls agree by chance.
    """

    def __init__(
        self,
        registry: Registry[T],
        contract: type,
        backend: str | T | Callable[..., T],
        options: dict[str, Any],
        draw: Callable[[T], Tensor],
    ) -> None:
        self.word, self.options, self.draw = registry.word, options, draw
        if isinstance(backend, contract):
            original = backend
            self.takes_seed = False
            self.build: Callable[..., T] = lambda: pickle.loads(pickle.dumps(original))
        elif isinstance(backend, str):
            name = backend
            self.takes_seed = "seed" in registry.options(name)
            self.build = lambda **given: registry.load(name, given)
        else:
            assert callable(backend)
            self.takes_seed = "seed" in _parameters(backend)
            self.build = backend

    def make(self, seed: int) -> T:
        """A fresh one, seeded if it takes seeds."""
        return self.build(**self.options, **({"seed": seed} if self.takes_seed and "seed" not in self.options else {}))

    def seeded(self, seed: int) -> T:
        """A fresh one with this very seed."""
        if not self.takes_seed:
            raise Skipped("it takes no seed, or was handed over as an object")
        return self.build(**self.options | {"seed": seed})

    def same_seed(self) -> str:
        """Two of one seed agree call by call, whatever else draws random numbers."""
        first, second = self.seeded(5), self.seeded(5)
        if first.capabilities.remote:
            raise Skipped("it is remote: hardware doesn't repeat itself")
        for _ in range(2):
            same = torch.equal(self.draw(first), self.draw(second))
            require(same, f"two {self.word}s with seed=5 returned different samples")
        return ""

    def another_seed(self) -> str:
        """The seed is used."""
        first, second = (self.draw(self.seeded(seed)) for seed in (5, 6))
        require(not torch.equal(first, second), f"{self.word}s with seed=5 and seed=6 returned the same samples")
        return ""

    def state(self) -> str:
        """Another one with the state of the first goes on exactly as that one does."""
        first = self.make(seed=5)
        self.draw(first)
        state = _travelled(first.state_dict(), "state_dict()")
        if not state:
            raise Skipped("it keeps no state")
        second = self.make(seed=6)
        second.load_state_dict(state)
        require(_same_state(second.state_dict(), state), "state_dict right after load_state_dict isn't what was loaded")
        self._require_same_future(first, second, "after load_state_dict")
        return f"holds {', '.join(sorted(state))}"

    def pickles(self) -> str:
        """A copy in another process works, and goes on as the first does if it has state."""
        first = self.make(seed=5)
        self.draw(first)
        second: T = pickle.loads(pickle.dumps(first))
        require(second.name == first.name, f"the copy's name is {second.name!r}, not {first.name!r}")
        if first.state_dict():
            self._require_same_future(first, second, "of a pickled copy")
        else:
            self.draw(second)
        return ""

    def _require_same_future(self, first: T, second: T, when: str) -> None:
        for _ in range(2):
            same = torch.equal(self.draw(first), self.draw(second))
            # Hardware doesn't repeat itself; what is left there is that both work.
            require(same or first.capabilities.remote, f"samples {when} differ from those of the {self.word} it was taken from")


def _parameters(make: Callable[..., Any]) -> set[str]:
    if isinstance(make, type):
        return {parameter.name for parameter in named_parameters(make)}
    return set(inspect.signature(make).parameters)


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
