"""Any sampler on many workers: processes of this machine, a dask cluster, or an executor of the user's own."""

from __future__ import annotations

import contextlib
import pickle
import secrets
import time
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.errors import SamplerError, WorkersError, in_a_line
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.plugins import nested_spec
from qvae.sampling.info import Advice
from qvae.sampling.registry import make_sampler
from qvae.sampling.sampler import Capabilities, Moments, Samples, SeededSampler
from qvae.seeding import Seed
from qvae.trust import Address, Nested
from qvae.workers import Lent, Lost, Processes, Workers, processors
from qvae_backends.pool_worker import Answer, Order, Origin, draw, forget, state

_TRIES = 5  # of a call, while workers die
_OPTIONS = "sampler.options."  # as a sampler's advice names them


@dataclass
class _Share:
    """The part of the chains that lives at one place.

    Attributes:
        origin: how it begins at a worker.
        key: under which the worker holds it.
        calls: how many it has answered there; 0 before it has begun.
        graph: the last one that was sent there.
    """

    origin: Origin
    key: str = field(default_factory=lambda: secrets.token_hex(8))
    calls: int = 0
    graph: Graph | None = None


class PoolSampler(SeededSampler):
    """Shares samples out between workers, each of which has a sampler of its own, with its own seed and chains.

    Chains stay on their workers and go on there from call to call; only fields, couplings and what was drawn travel. Samples
    come back in the order of the workers, so that equal seeds on equally many workers give equal samples, wherever these are.
    Where a worker dies its chains are replaced by fresh ones, which is said. A share of each call is ``num_samples`` divided by
    the number of workers, rounded up or down. Results of population annealing (``annealing`` of ``gibbs``) are weighted by the
    workers' estimates of Z, as those of independent runs are (Machta 2010, Phys. Rev. E 82, 026704), and log Z is that of all.

    Args:
        of: the sampler, ``gibbs`` or ``gibbs:sweeps=5`` or ``{name: gibbs, options: {sweeps: 5}}``; it runs on processors.
        workers: how many; None is one for each processor here, or for each worker of the cluster.
        address: of the scheduler of a dask cluster, ``tcp://host:8786``; None is processes of this machine. Who controls the
            scheduler controls this process, too: the two trust each other.
        executor: from Python, a dask ``Client``, :class:`~qvae.workers.Workers`, or an executor as of
            :mod:`concurrent.futures`, which is left open. As none of the latter says which of its processes does what, chains
            then travel to and fro with each call. A copy of this sampler, in another process, has processes of its own instead.
        seed: of the workers' seeds.

    Raises:
        ValueError: an option is out of its range, both an address and an executor are given, or ``of`` is remote, a pool, or
            can't be sent to a worker.
        SamplerError: there is no such sampler. Later, from the first call: there are no workers, or they can't do the work.
    """

    capabilities = Capabilities(persistent=True, computes_here=False)

    @checked_options
    def __init__(
        self,
        of: Annotated[str | Mapping[str, Any], Field(description="a sampler's name, or {name, options}"), Nested()] = "gibbs",
        workers: Annotated[int, Field(ge=1, le=10_000)] | None = None,
        address: Annotated[str, Address()] | None = None,
        executor: Any = None,
        seed: Seed = None,
    ) -> None:
        super().__init__(seed)
        self.spec, self.number, self.address, self.executor = nested_spec("of", of), workers, address, executor
        if address is not None and executor is not None:
            raise ValueError("address and executor are both given; leave one of them out")
        if executor is not None and not callable(getattr(executor, "submit", None)):
            raise ValueError(f"executor is a {type(executor).__name__}, which has no submit; give one of concurrent.futures")
        if self.spec.options.get("seed") is not None:
            raise ValueError("of has a seed, which all workers would have; set that of the pool")
        one = make_sampler(self.spec, 0)
        one.close()
        if isinstance(one, PoolSampler) or one.capabilities.remote:
            raise ValueError(f"of is {self.spec.name}, which works elsewhere by itself; name it without the pool")
        try:
            pickle.dumps(self.spec)
        except Exception as error:
            raise ValueError(f"of can't be sent to a worker ({in_a_line(error)}); give options that pickle") from None
        self.capabilities = replace(one.capabilities, computes_here=False)
        self._workers: Workers | None = None
        self._shares: list[_Share] = []
        self._remarks: list[Advice] = []

    # What is asked for ------------------------------------------------------------------------------------------------

    def check(self, hamiltonian: IsingHamiltonian) -> None:
        """As every sampler's; that workers can be reached is seen here, before a training begins.

        Raises:
            CapabilityError: as every sampler's.
            SamplerError: there are no workers, or they can't do the work.
        """
        super().check(hamiltonian)
        try:
            self._ready()
        except WorkersError as error:
            raise SamplerError(f"sampler {self.label!r} failed: {in_a_line(error)}.") from error

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Samples of all workers, one worker's after the other's.

        ``info`` holds ``wall_seconds`` of the whole, ``workers``, ``shares`` (what each worker measured), and what they share.
        """
        started = time.perf_counter()
        numbers, answers = self._drawn(hamiltonian, num_samples, moments=False)
        weights = _weights(numbers, answers)
        rows = [
            weight * (torch.full((number,), 1 / number) if answer.found[1] is None else answer.found[1])
            for weight, number, answer in zip(weights.tolist(), numbers, answers, strict=True)
        ]
        is_weighted = _estimate_z(answers) or any(answer.found[1] is not None for answer in answers)
        spins = torch.cat([answer.found[0] for answer in answers])
        return Samples(spins, torch.cat(rows) if is_weighted else None, self._info(started, numbers, answers), _advice)

    def _moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """Averages over the workers' moments; ``info`` is that of :meth:`sample`."""
        started = time.perf_counter()
        numbers, answers = self._drawn(hamiltonian, num_samples, moments=True)
        weights = _weights(numbers, answers)
        spins, pairs = (
            torch.stack([part for answer in answers if (part := answer.found[k]) is not None]) for k in (0, 1)
        )
        spins, pairs = ((weights.to(parts) @ parts).to(hamiltonian.h.device) for parts in (spins, pairs))
        return Moments(spins, pairs, self._info(started, numbers, answers), _advice)

    def _drawn(self, hamiltonian: IsingHamiltonian, num_samples: int, moments: bool) -> tuple[list[int], list[Answer]]:
        """How many each worker that took part was asked for, and its answer."""
        workers = self._ready()
        parts = torch.arange(num_samples).tensor_split(len(workers))
        numbers = {place: len(part) for place, part in enumerate(parts) if len(part)}
        here, graph = hamiltonian.detach().to("cpu"), hamiltonian.graph
        found: dict[int, Answer] = {}
        for _ in range(_TRIES):
            missing = [place for place in numbers if place not in found]
            if not missing:
                return list(numbers.values()), [found[place] for place in numbers]
            orders = {place: self._order(place, here, graph, numbers[place], moments) for place in missing}
            try:
                pending = {workers.submit(place, draw, pickle.dumps(order)): place for place, order in orders.items()}
                found |= self._answers(workers.outcomes(pending))
            except WorkersError:
                self._abandon()
                raise
        raise SamplerError(f"workers of {self.label!r} died {_TRIES} times in one call; look whether they have enough memory.")

    def _order(self, place: int, here: IsingHamiltonian, graph: Graph, number: int, moments: bool) -> Order:
        """What a share is asked: to begin, if it hasn't, and on a graph, if it is another one."""
        share, remembers = self._shares[place], self._ready().remembers
        if not remembers and share.graph not in (None, graph):
            share.origin = self._fresh()  # else chains of the graph before would go on
        begins = not (remembers and share.calls)
        whole = here if begins or share.graph is not graph else None
        share.graph = graph
        values = (here.h, here.J, here.gamma)
        origin = share.origin if begins else None
        return Order(share.key, share.calls, values, number, moments, origin, whole, not remembers)

    def _answers(self, outcomes: Mapping[int, Any]) -> dict[int, Answer]:
        """The answers among what came back; shares whose worker died, or no longer knows them, are replaced.

        Raises:
            Exception: the first of those that samplers raised.
        """
        found = {}
        for place, outcome in outcomes.items():
            share = self._shares[place]
            if outcome is None or isinstance(outcome, Lost):
                self._replace(place, outcome)
            elif not isinstance(outcome, Exception):
                found[place] = answer = pickle.loads(outcome)
                share.calls += 1
                if answer.state is not None:
                    share.origin = replace(share.origin, state=answer.state)
        for outcome in outcomes.values():
            if isinstance(outcome, Exception) and not isinstance(outcome, Lost):
                raise outcome
        return found

    # Workers and their shares -----------------------------------------------------------------------------------------

    def _ready(self) -> Workers:
        """The workers, which are found when they are first needed, and a share for each."""
        if self._workers is None:
            self._workers = self._found()
            if self._workers is not self.executor:
                weakref.finalize(self, self._workers.close, True)  # where nobody closes the pool
        if len(self._shares) != len(self._workers):
            if self._shares:
                text = f"the state is of {len(self._shares)} workers, but there are {len(self._workers)}: all chains begin anew"
                self._remarks.append(Advice("workers", text))
            self._shares = [_Share(self._fresh()) for _ in range(len(self._workers))]
        return self._workers

    def _found(self) -> Workers:
        if isinstance(self.executor, Workers):
            return self.executor
        is_client = hasattr(self.executor, "scheduler_info")
        if self.address is None and not is_client:
            number = self.number or processors()
            return Processes(number) if self.executor is None else Lent(self.executor, number)
        from qvae.cluster import Cluster, connect

        return Cluster(self.executor if is_client else connect(str(self.address)), self.number, owned=not is_client)

    def _fresh(self) -> Origin:
        return Origin(self.spec, self.fresh_seed())

    def _replace(self, place: int, outcome: Lost | None) -> None:
        """Have a share begin anew, at another worker if its own died."""
        workers = self._ready()
        if outcome is not None:
            workers.renew(place)
        if workers.remembers:
            self._shares[place] = _Share(self._fresh())
            who = outcome or workers.describe(place)
            self._remarks.append(Advice("lost worker", f"{who} was lost, and its chains: fresh ones stand in for them"))

    def _abandon(self) -> None:
        """Leave workers that can't be reached any more, and all chains; the next call looks for workers again."""
        workers, self._workers = self._workers, None
        if workers is not None and workers is not self.executor:
            workers.close(now=True)
        self._shares = [_Share(self._fresh()) for _ in self._shares]
        self._remarks.append(Advice("lost worker", "the workers couldn't be reached any more, so that all chains begin anew"))

    def state_dict(self) -> dict[str, Any]:
        """The generator, and of each worker's sampler its seed and its state, which is fetched, if it can be."""
        try:
            self._fetch()
        except WorkersError:  # else a training whose cluster is gone couldn't be saved
            self._abandon()
        shares = [{"seed": share.origin.seed, "state": share.origin.state} for share in self._shares]
        return super().state_dict() | ({"shares": shares} if shares else {})

    def _fetch(self) -> None:
        workers = self._workers
        if workers is None or not workers.remembers:
            return
        begun = {place: share for place, share in enumerate(self._shares) if share.calls}
        pending = {workers.submit(place, state, share.key, share.calls): place for place, share in begun.items()}
        for place, outcome in workers.outcomes(pending).items():
            if outcome is None or isinstance(outcome, Lost):
                self._replace(place, outcome)
            elif isinstance(outcome, Exception):
                raise outcome
            else:
                share = self._shares[place]
                share.origin = replace(share.origin, state=pickle.loads(outcome))

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these; as many workers as they are of are seen to at the first call, and else all chains begin anew.

        Raises:
            SamplerError: the state is of another sampler. Later, from the first call: it is of another system.
        """
        super().load_state_dict({key: value for key, value in state.items() if key != "shares"})
        self._let_go()
        self._shares = [_Share(Origin(self.spec, part["seed"], part["state"])) for part in state.get("shares", [])]

    def close(self) -> None:
        """End the processes, or leave the cluster."""
        self._let_go()
        if self._workers is not None and self._workers is not self.executor:
            self._workers.close(now=True)
        self._workers = None

    def _let_go(self) -> None:
        """Have workers forget the shares."""
        workers = self._workers
        if workers is not None and workers.remembers:
            begun = {place: share for place, share in enumerate(self._shares) if share.calls}
            with contextlib.suppress(WorkersError):
                workers.outcomes({workers.submit(place, forget, share.key): place for place, share in begun.items()})
        self._shares = []

    def __getstate__(self) -> dict[str, Any]:
        """Workers aren't pickled; the shares travel as in :meth:`state_dict`."""
        self.state_dict()
        shares = [_Share(share.origin) for share in self._shares]
        mine = {"_workers": None, "executor": None, "number": len(shares) or self.number, "_shares": shares, "_remarks": []}
        return super().__getstate__() | mine

    def _info(self, started: float, numbers: Sequence[int], answers: Sequence[Answer]) -> dict[str, Any]:
        first, *others = shares = [answer.info for answer in answers]
        alike = {name: value for name, value in first.items() if all(_same(value, other.get(name)) for other in others)}
        advice = {said.kind: said for answer in reversed(answers) for said in answer.advice}
        told = [Advice(said.kind, said.text.replace(_OPTIONS, f"{_OPTIONS}of.options.")) for said in advice.values()]
        remarks, self._remarks = self._remarks, []
        info = alike | {"workers": len(answers), "shares": shares, "advice": [*remarks, *told]}
        return info | _log_z(numbers, answers) | {"wall_seconds": time.perf_counter() - started}


def _advice(info: Mapping[str, Any]) -> list[Advice]:
    return list(info["advice"])


def _same(value: Any, other: Any) -> bool:
    return type(value) is type(other) and not isinstance(value, Tensor) and bool(value == other)


# Independent estimates of Z -----------------------------------------------------------------------------------------------


def _estimate_z(answers: Sequence[Answer]) -> bool:
    return all("log_z_stderr" in answer.info for answer in answers)


def _weights(numbers: Sequence[int], answers: Sequence[Answer]) -> Tensor:
    """What each worker's average counts in that of all, (workers,): its number of samples, times its estimate of Z."""
    logs = torch.tensor(numbers, dtype=torch.float64).log()
    if _estimate_z(answers):
        logs += torch.tensor([float(answer.info["log_z"]) for answer in answers], dtype=torch.float64)
    return logs.softmax(0)


def _log_z(numbers: Sequence[int], answers: Sequence[Answer]) -> dict[str, float]:
    """log Z of the mean of the workers' Z, with its standard error; nothing where they don't estimate it."""
    if not _estimate_z(answers):
        return {}
    logs = torch.tensor([float(answer.info["log_z"]) for answer in answers], dtype=torch.float64)
    shares = torch.tensor(numbers, dtype=torch.float64) / sum(numbers)
    errors = torch.tensor([float(answer.info["log_z_stderr"]) for answer in answers], dtype=torch.float64)
    return {
        "log_z": float((logs + shares.log()).logsumexp(0)),
        "log_z_stderr": float((_weights(numbers, answers) * errors).square().sum().sqrt()),
    }
