"""Markov chains that go on from one call to the next, and from a checkpoint: what samplers that keep them share."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import torch
from pydantic import Field
from torch import Tensor

from qvae.errors import SamplerError
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.compiled import kernels, name_of_kernels
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.sampling.info import Advice
from qvae.sampling.sampler import SeededSampler
from qvae.seeding import Seed

Kernel = TypeVar("Kernel")

_REMEMBERED = 0.1  # correlation of fresh chains with themselves over half their burn-in from which on a user is told
_SIGMAS = 3  # standard errors by which it must be above that
_ACCEPTED = 0.05  # rate of swaps of two temperatures below which replicas hardly pass
_FAMILIES = 10  # of a population, below which modes may be missing; lower than it might be, since sweeps part relatives again


def mixing_advice(info: Mapping[str, Any]) -> list[Advice]:
    """What a sampler's info says about chains that are stuck: the plainest sign, with the remedy; nothing if they look well.

    And that they go on with other random numbers than they were saved with, where that is so.

    Args:
        info: of samples or moments. It is read for ``saved_kernels``, ``burn_in_memory``, ``families`` and
            ``swap_acceptance``, for which the device has to be waited for.

    >>> print(mixing_advice({"swap_acceptance": torch.tensor([0.4, 0.01])})[0].text)  # doctest: +ELLIPSIS
    two neighbouring temperatures of the tempering swap in only 1 % of the tries...; raise sampler.options.tempering
    """
    text = _slow_swaps(info) or _stuck_chains(info) or _few_families(info)
    return [*([Advice("mixing", text)] if text else []), *_other_numbers(info)]


def _other_numbers(info: Mapping[str, Any]) -> list[Advice]:
    saved = info.get("saved_kernels")
    if saved is None:
        return []
    text = (
        f"these chains were saved with {saved}'s kernels and go on with {info['kernels']}'s: with other random numbers of the "
        "same distribution, so that this run doesn't repeat what it would have done with those"
    )
    return [Advice("kernels", text)]


def _slow_swaps(info: Mapping[str, Any]) -> str:
    rates = torch.as_tensor(info.get("swap_acceptance", 1.0))
    if not rates.numel() or float(rates.min()) >= _ACCEPTED:
        return ""
    return (
        f"two neighbouring temperatures of the tempering swap in only {100 * float(rates.min()):.2g} % of the tries, so "
        "that chains can't leave their modes; raise sampler.options.tempering"
    )


def _stuck_chains(info: Mapping[str, Any]) -> str:
    memory = info.get("burn_in_memory", 0.0)
    if memory - _SIGMAS * info.get("burn_in_memory_stderr", 0.0) <= _REMEMBERED:
        return ""
    return (
        f"fresh chains are stuck near where they started (correlation {memory:.2f} with themselves over the second half of "
        "their burn-in), so that modes have wrong weights; raise sampler.options.burn_in, or, with gibbs, set "
        "sampler.options.annealing=10 and sampler.options.persistent=false"
    )


def _few_families(info: Mapping[str, Any]) -> str:
    families = info.get("families", math.inf)
    if families >= _FAMILIES or families >= 0.5 * info["population"]:
        return ""
    return (
        f"the {info['population']} chains of the population annealing descend from {families:.0f} of its first chains in "
        "effect, so that their moments are as uncertain as those of so few samples may be; raise "
        "sampler.options.annealing, or the number of samples"
    )


def _memory(before: Tensor, after: Tensor) -> tuple[float, float]:
    """Correlation of chains of bits (n, chains) with themselves, 0 forgets and 1 is stuck, and its standard error."""
    past, now = before.float(), after.float()
    past, now = past - past.mean(1, keepdim=True), now - now.mean(1, keepdim=True)
    variance = 0.5 * (past.square().sum() + now.square().sum()).clamp_min(1e-12)
    # Chains are independent, spins of one chain are not.
    shares = (past * now).sum(0) / variance
    return float(shares.sum()), float(shares.square().sum().sqrt())


class ChainSampler(SeededSampler, Generic[Kernel]):
    """A sampler of chains, one for each sample, each made of as many copies of the spins as its kernel needs.

    Chains go on on the same :class:`~qvae.ising.graphs.Graph` object. Hamiltonians on another graph, be it an equal one,
    start fresh chains. A call for fewer samples continues the first chains and forgets the others; one for more adds fresh
    chains. Between calls they are bits z = (1+s)/2 in the type that the kernel takes, (n, copies, chains), in the order of
    rows of :class:`BlockGibbs`.

    Args:
        sweeps: updates of every spin in a call, 1 or more.
        burn_in: updates of a fresh chain, which starts from random spins, before the sweeps of its first call; 0 or more.
        persistent: keep the chains; if not, all of them are fresh in every call.
        seed: of the chains.

    Raises:
        ValueError: an option is out of its range.
    """

    _copy_name: ClassVar[str]  # the plural
    _kernel_module: ClassVar[str] = "ising.fused"  # of compiled kernels
    _copies: int | None = None  # how many of them a chain must have; None for any number

    @checked_options
    def __init__(
        self,
        sweeps: Annotated[int, Field(ge=1)],
        burn_in: Annotated[int, Field(ge=0)],
        persistent: bool,
        seed: Seed,
    ) -> None:
        super().__init__(seed)
        self.sweeps, self.burn_in = sweeps, burn_in
        self.capabilities = replace(type(self).capabilities, persistent=persistent)
        self._graph: Graph | None = None
        self._kernel: Kernel | None = None
        self._chains: Tensor | None = None
        self._saved: Tensor | None = None
        self._saved_kernels: str | None = None

    def check(self, hamiltonian: IsingHamiltonian) -> None:
        """As every sampler's; compiled kernels are loaded here, before the clock of a training runs."""
        super().check(hamiltonian)
        kernels(hamiltonian.h.device, self._kernel_module)

    @abstractmethod
    def _fit(self, kernel: Kernel | None, hamiltonian: IsingHamiltonian, copies: int | None) -> Kernel:
        """A kernel of the Hamiltonian's values: ``kernel``, of the same graph, or a new one; ``copies`` the chains have."""

    @abstractmethod
    def _gibbs(self, kernel: Kernel) -> BlockGibbs:
        """What knows the order of the kernel's rows."""

    @abstractmethod
    def _fresh(self, kernel: Kernel, number: int, generator: torch.Generator) -> Tensor:
        """Random chains (n, copies, number)."""

    @abstractmethod
    def _sweep(
        self, kernel: Kernel, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        """The chains after ``sweeps`` updates of every spin, and what there is to say about them in ``info``."""

    def _advance(self, hamiltonian: IsingHamiltonian, num_samples: int) -> tuple[Kernel, Tensor, dict[str, Any]]:
        """The sweeps of one call: the kernel, the chains (n, copies, num_samples), and the info."""
        started = time.perf_counter()
        hamiltonian = hamiltonian.detach()
        kernel = self._kernel_for(hamiltonian)
        generator = self.generator(hamiltonian.h.device)
        chains = None if self._chains is None else self._chains[:, :, :num_samples]
        missing = num_samples - (0 if chains is None else chains.shape[2])
        info = self._info(hamiltonian.h.device)
        if missing:
            fresh, found = self._start(kernel, hamiltonian, missing, generator)
            info |= found | {"sweeps": self.sweeps + found["sweeps"]}
            chains = fresh if chains is None else torch.cat([chains, fresh], dim=2)
        assert chains is not None
        chains, told = self._sweep(kernel, hamiltonian, chains.contiguous(), self.sweeps, generator)
        self._chains = chains if self.capabilities.persistent else None
        return kernel, chains, info | told | {"wall_seconds": time.perf_counter() - started}

    def _info(self, device: torch.device) -> dict[str, Any]:
        """What there is to say about chains that go on."""
        info: dict[str, Any] = {"sweeps": self.sweeps, "kernels": name_of_kernels(device)}
        if self._saved_kernels not in (None, info["kernels"]):
            info["saved_kernels"] = self._saved_kernels
        return info

    def _start(
        self, kernel: Kernel, hamiltonian: IsingHamiltonian, number: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        """Fresh chains after their burn-in, and what there is to say about it: its ``sweeps`` at least."""
        chains = self._fresh(kernel, number, generator)
        half = self.burn_in // 2
        chains, _ = self._sweep(kernel, hamiltonian, chains, self.burn_in - half, generator)
        if not half:
            return chains, {"sweeps": self.burn_in}
        before = chains[:, 0].clone()
        chains, _ = self._sweep(kernel, hamiltonian, chains, half, generator)
        memory, stderr = _memory(before, chains[:, 0])
        return chains, {"sweeps": self.burn_in, "burn_in_memory": memory, "burn_in_memory_stderr": stderr}

    def _kernel_for(self, hamiltonian: IsingHamiltonian) -> Kernel:
        # Identity, not equality: comparing edges would cost time and, on CUDA, synchronise the device in every step.
        if self._kernel is not None and self._graph is hamiltonian.graph:
            copies = None if self._chains is None else self._chains.shape[1]
            self._kernel = self._fit(self._kernel, hamiltonian, copies)
            return self._kernel
        saved = self._saved
        if saved is not None:
            self._check(saved, hamiltonian.num_spins)
        self._kernel, self._graph = self._fit(None, hamiltonian, None if saved is None else saved.shape[0]), hamiltonian.graph
        self._chains = self._saved = None
        if saved is not None:
            bits = self._gibbs(self._kernel).from_spins(saved.flatten(0, 1).to(hamiltonian.h.device))
            self._chains = bits.to(torch.int8).view(hamiltonian.num_spins, saved.shape[0], -1)
        return self._kernel

    def _check(self, saved: Tensor, num_spins: int) -> None:
        fits = saved.ndim == 3 and saved.shape[2] == num_spins
        if not fits or saved.shape[0] != (self._copies or saved.shape[0]):
            raise SamplerError(
                f"the saved chains of sampler {self.name or type(self).__name__!r} have shape {tuple(saved.shape)}, but this "
                f"system needs ({self._copies or 'any number of'} {self._copy_name}, any number, {num_spins} spins); start "
                "without them."
            )

    def state_dict(self) -> dict[str, Any]:
        """The generator, the chains' spins (copies, chains, n) as int8, and whose kernels made them."""
        state = super().state_dict()
        if self._saved is not None:
            state["chains"] = self._saved
        name = self._saved_kernels if self._kernel is None else name_of_kernels(self._gibbs(self._kernel).order.device)
        if name is not None:
            state["kernels"] = name
        if self._chains is None or self._kernel is None:
            return state
        spins = self._gibbs(self._kernel).to_spins(self._chains.flatten(1))
        return state | {"chains": spins.view(self._chains.shape[1], -1, spins.shape[1])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these chains; that they fit the system is seen at the first call, which knows it.

        Raises:
            SamplerError: the state is of another sampler. Later, from the first call: it is of another system.
        """
        super().load_state_dict({key: value for key, value in state.items() if key not in ("chains", "kernels")})
        self._kernel, self._graph, self._chains, self._saved = None, None, None, state.get("chains")
        # States from before there was a choice don't name them.
        self._saved_kernels = state.get("kernels", "torch") if state else None

    def __getstate__(self) -> dict[str, Any]:
        """The kernel isn't pickled but made again; the chains travel as in :meth:`state_dict`."""
        forgotten = dict.fromkeys(("_kernel", "_graph", "_chains"))
        state = self.state_dict()
        return super().__getstate__() | forgotten | {"_saved": state.get("chains"), "_saved_kernels": state.get("kernels")}
