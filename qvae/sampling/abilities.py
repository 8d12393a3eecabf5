"""Abilities that few samplers have, as mixins: who has one is asked for it by ``isinstance(sampler, Metered)`` and the like."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

from qvae.errors import CapabilityError, SamplerError
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.metering import Fault, Meter, read_json, write_json
from qvae.sampling.sampler import LatentSampler, Samples

T = TypeVar("T")

_EMBEDDING = "embedding.json"
_MARGIN = 1.1  # by which the samples at the end may cost more than planned


class KeepsFiles(LatentSampler):
    """Keeps in the run folder what was costly to find or to pay, for others of the run and for those who go on with it."""

    folder: Path | None = None

    def attach(self, folder: Path) -> None:
        """Take the run's folder, which may not be there yet."""
        self.folder = folder


class Metered(KeepsFiles):
    """Takes paid time, within a budget that it never exceeds.

    An author makes a :class:`~qvae.sampling.metering.Meter` in ``__init__``, says what a call costs in :meth:`price`, and has
    each submission made by :meth:`pay`; budget, ledger, plan and repeats after faults follow.
    """

    meter: Meter
    is_rehearsal: bool = False
    """Only plans will be asked for: what has no access to its hardware may plan on an ideal one, and say so."""

    @abstractmethod
    def price(self, hamiltonian: IsingHamiltonian, num_samples: int) -> float:
        """QPU seconds that such a call, which ``check`` has let pass, should take; nothing is submitted."""

    def pay(self, price: float, work: Callable[[], tuple[T, float]]) -> T:
        """One submission: the answer of ``work``, which returns it with its QPU seconds, or raises a ``Fault``.

        Raises:
            BudgetExhausted: the budget doesn't cover the price; nothing was submitted.
            SamplerError: no answer, in spite of repeats where they help.
        """
        try:
            return self.meter.pay(price, work)
        except Fault as fault:
            raise SamplerError(self._without_answer(fault)) from None

    def _without_answer(self, fault: Fault) -> str:
        """Why there are no samples, and the remedy."""
        return f"sampler {self.label!r} {fault.in_words}. Go on later (a training with --resume), or with --sampler gibbs."

    def attach(self, folder: Path) -> None:
        """Take the run's folder and its ledger."""
        super().attach(folder)
        self.meter.attach(folder)

    def begin(self) -> None:
        """A training begins, perhaps anew after a kill: its calls are counted from 0, and what was spent stays spent."""
        self.meter.calls = 0

    @property
    def budget_share(self) -> float:
        """Part of what a training may spend that is spent, 0 to 1; schedules follow it."""
        return self.meter.share

    def keep_back(self, hamiltonian: IsingHamiltonian, num_samples: int) -> None:
        """Of the budget, leave enough for so many samples that others will draw later, but no more than half of it."""
        self.check(hamiltonian)
        self.meter.keep_back(_MARGIN * self.price(hamiltonian, num_samples))

    def plan(self, hamiltonian: IsingHamiltonian, num_samples: int) -> dict[str, Any]:
        """What a call would take, for a person to read before it is made; nothing is submitted.

        ``qpu_seconds`` is among it, and ``budget``, what a training may spend, where there is one.
        """
        self.check(hamiltonian)
        price = {"qpu_seconds": self.price(hamiltonian, num_samples)}
        return price if self.meter.allowance is None else price | {"budget": self.meter.allowance}


class Structured(KeepsFiles):
    """Works on a graph of its own, on which other graphs are embedded; the run folder keeps their chains of units."""

    @abstractmethod
    def native_graph(self, num_spins: int) -> Graph:
        """The graph of ``num_spins`` of the hardware's own units, so that a prior on it needs no embedding.

        Raises:
            CapabilityError: the hardware is smaller than that.
        """

    def kept_chains(self, device: str, graph: Graph) -> list[list[int]] | None:
        """The units of each spin that the run folder names for this graph on this device; None if it names none."""
        found = {} if self.folder is None else read_json(self.folder / _EMBEDDING)
        is_this = found.get("solver") == device and found.get("edges") == graph.edges.tolist()
        return found["chains"] if is_this and _are_chains(found.get("chains")) else None

    def keep_chains(self, device: str, graph: Graph, chains: Sequence[Sequence[int]]) -> None:
        """Name them in the run folder, if there is one."""
        if self.folder is not None and self.folder.is_dir():
            content = {"solver": device, "edges": graph.edges.tolist(), "chains": [list(map(int, chain)) for chain in chains]}
            write_json(self.folder / _EMBEDDING, content)


def _are_chains(value: Any) -> bool:
    """Whether these are lists of units, none of them empty, as far as can be told without the hardware."""
    chains = value if isinstance(value, list) and all(isinstance(chain, list) and chain for chain in value) else [[None]]
    return all(type(unit) is int and abs(unit) < 2**31 for chain in chains for unit in chain)


def native_graph(sampler: LatentSampler, num_spins: int) -> Graph:
    """The sampler's own graph.

    Raises:
        CapabilityError: it has none, or a smaller one.
    """
    if isinstance(sampler, Structured):
        return sampler.native_graph(num_spins)
    raise CapabilityError(
        f"sampler {sampler.label!r} has no hardware graph, which model.latent.graph: native asks for; "
        "name a sampler that has one, as dwave, or another graph: rbm, pegasus, zephyr."
    )


class Remote(LatentSampler):
    """Works elsewhere, while its caller does something else; ``capabilities.remote`` says so in lists."""

    @abstractmethod
    def describe(self) -> dict[str, str]:
        """What it is connected to, for a person to read; takes no paid time."""

    def submit(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Future[Samples]:
        """As :meth:`sample`, in a thread; one call at a time."""
        future: Future[Samples] = Future()

        def work() -> None:
            try:
                future.set_result(self.sample(hamiltonian, num_samples))
            except BaseException as error:
                future.set_exception(error)

        # A daemon: an interrupted training doesn't wait for the service.
        threading.Thread(target=work, daemon=True).start()
        return future
