"""The contract of a sampler backend: one abstract method, the rest derived."""

from __future__ import annotations

import numbers
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, TypeVar

import torch
from torch import Tensor

from qvae.errors import CapabilityError, QvaeError, SamplerError, in_a_line, one_line
from qvae.ising.block_gibbs import sparse_matrix
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.info import Advice, SampleInfo
from qvae.sampling.registered import capable_samplers
from qvae.seeding import Seeded

T = TypeVar("T")
_ROUNDING = 1e-4  # by which a sum of weights, and so a moment, may be above 1
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Capabilities:
    """What a sampler can do; every field has the default of a plain classical sampler.

    Attributes:
        transverse_field: samples the z basis of a quantum Gibbs state (gamma > 0).
        max_spins: the largest system without a transverse field; None for no limit.
        max_quantum_spins: the largest system with one; None for no limit other than ``max_spins``.
        limited_by: why no more than ``max_spins``, as a clause, where an option sets the limit.
        exact: moments carry no sampling error.
        native_beta: samples at beta = 1 by construction; if not, the effective temperature must be estimated.
        persistent: chains go on from one call to the next, so that few updates a call suffice in training.
        remote: works elsewhere, and may cost money; its class is a :class:`~qvae.sampling.abilities.Remote`.
        computes_here: in this process, whose processor time is then what samples cost.
    """

    transverse_field: bool = False
    max_spins: int | None = None
    max_quantum_spins: int | None = None
    limited_by: str = ""
    exact: bool = False
    native_beta: bool = True
    persistent: bool = False
    remote: bool = False
    computes_here: bool = True

    def excludes(self, num_spins: int, quantum: bool) -> str | None:
        """Why such a system can't be sampled, as a clause; None if it can.

        >>> Capabilities(max_spins=20).excludes(30, quantum=False)
        'it takes at most 20 spins'
        """
        if quantum and not self.transverse_field:
            return "it has no transverse field"
        if self.max_spins is not None and num_spins > self.max_spins:
            reason = f" ({self.limited_by})" if self.limited_by else ""
            return f"it takes at most {self.max_spins} spins{reason}"
        if quantum and self.max_quantum_spins is not None and num_spins > self.max_quantum_spins:
            return f"it takes at most {self.max_quantum_spins} spins with a transverse field"
        return None


Advise = Callable[[SampleInfo], Sequence[Advice]]


class _Result:
    """What a backend tells beside its numbers."""

    def __init__(self, info: Mapping[str, Any], advise: Advise | None) -> None:
        self.info, self.advise = SampleInfo.of(info), advise

    @property
    def advice(self) -> Sequence[Advice]:
        """What the backend says about trouble; worked out when it is asked for, since it may have to wait for the device."""
        if self.advise is None:
            return ()
        try:
            return [Advice(one_line(part.kind), one_line(part.text)) for part in self.advise(self.info)]
        except (Exception, SystemExit) as error:  # a third party's words aren't worth a run
            return [Advice("advice", f"what the sampler says about trouble failed with {in_a_line(error)}")]


class Samples(_Result):
    """Spins drawn by a sampler.

    Attributes:
        spins: -1 or +1, int8, (num_samples, n).
        weights: not negative, summing to 1, (num_samples,); None for equal weights.
        info: what the backend measured; a plain mapping becomes a :class:`~qvae.sampling.info.SampleInfo`.
        advise: the backend's way to put into words what ``info`` says about trouble; None if it has nothing to say.
    """

    def __init__(
        self, spins: Tensor, weights: Tensor | None = None, info: Mapping[str, Any] = _NOTHING, advise: Advise | None = None
    ) -> None:
        super().__init__(info, advise)
        self.spins, self.weights = spins, weights

    def __len__(self) -> int:
        return len(self.spins)

    @property
    def effective_size(self) -> float:
        """How many samples of equal weight scatter as much: (sum w)^2 / sum w^2 (Kish 1965)."""
        if self.weights is None:
            return float(len(self))
        weights = self.weights.double()
        return float(weights.sum() ** 2 / (weights**2).sum())

    def equal_weights(self, generator: torch.Generator | None = None) -> Samples:
        """As many samples of equal weight, for whoever wants bare spins; these themselves where weights are equal already.

        Rows are drawn in proportion to their weights by systematic resampling (Kitagawa 1996): sample r stands
        num_samples w_r times among them, rounded up or down; then they are shuffled, so that a head is as fair as the whole.

        Args:
            generator: on the device of the spins; None takes torch's global one.
        """
        if self.weights is None:
            return self
        number, device = len(self), self.spins.device
        ends = self.weights.to(device).double().cumsum(0)
        offset = torch.rand((), dtype=torch.float64, generator=generator, device=device)
        places = (torch.arange(number, device=device) + offset) / number * ends[-1]
        rows = torch.searchsorted(ends, places, right=True).clamp(max=number - 1)
        shuffled = rows[torch.randperm(number, generator=generator, device=device)]
        return Samples(self.spins[shuffled], info=self.info, advise=self.advise)


class Moments(_Result):
    """Expectations of the z-basis distribution, which are minus the gradient of log Z.

    Attributes:
        spins: <s_i>, (n,).
        pairs: <s_i s_j> over the Hamiltonian's edges, (m,).
        info, advise: as in :class:`Samples`.
    """

    def __init__(self, spins: Tensor, pairs: Tensor, info: Mapping[str, Any] = _NOTHING, advise: Advise | None = None) -> None:
        super().__init__(info, advise)
        self.spins, self.pairs = spins, pairs

    @classmethod
    def from_samples(cls, samples: Samples, hamiltonian: IsingHamiltonian) -> Moments:
        """Weighted averages over samples, on the Hamiltonian's device and in its type."""
        s = samples.spins.to(hamiltonian.h)
        weighted = s / len(s) if samples.weights is None else s * samples.weights.to(s).unsqueeze(1)
        return cls(weighted.sum(0), pair_moments(weighted, s, hamiltonian), samples.info, samples.advise)

    @classmethod
    def conditional(cls, samples: Samples, hamiltonian: IsingHamiltonian) -> Moments:
        """As :meth:`from_samples`, of less variance: one spin at a time is replaced by its mean given the others.

        E[s_i | rest] = -tanh(dE/ds_i) at beta = 1, and s_i s_j becomes the mean of both replacements (Rao-Blackwell). In a
        transverse field the z basis has no such conditionals, and averages stay as they are.
        """
        if hamiltonian.is_quantum:
            return cls.from_samples(samples, hamiltonian)
        s = samples.spins.to(hamiltonian.h)
        weights = s.new_full((len(s), 1), 1 / len(s)) if samples.weights is None else samples.weights.to(s).unsqueeze(1)
        means = weights * -torch.tanh(hamiltonian.local_fields(s))
        pairs = (pair_moments(means, s, hamiltonian) + pair_moments(s, means, hamiltonian)) / 2
        return cls(means.sum(0), pairs, samples.info, samples.advise)


def pair_moments(left: Tensor, right: Tensor, hamiltonian: IsingHamiltonian) -> Tensor:
    """sum over rows of left_i right_j for every edge (i, j), (m,), from two arrays (rows, n)."""
    graph, n = hamiltonian.graph, hamiltonian.num_spins
    if graph.bipartite_sizes is not None:
        n1, _ = graph.bipartite_sizes
        return (left[:, :n1].T @ right[:, n1:]).reshape(-1)
    i, j = graph.edges.T
    if graph.num_edges * 64 >= n * n:
        return (left.T @ right)[i, j]
    # The products that a sparse matrix asks for, a hundred times as quick as gathering both factors.
    columns, starts = graph.forward_neighbours
    pattern = sparse_matrix(starts, columns, left.new_zeros(graph.num_edges))
    return torch.sparse.sampled_addmm(pattern, left.T, right, beta=0.0).values()


class LatentSampler(ABC):
    """Draws spins from the Gibbs state of an Ising Hamiltonian, measured in the z basis.

    A backend is one subclass: it says what it can do in ``capabilities``, takes its options as keyword arguments of
    ``__init__`` (``seed`` among them if it uses random numbers), and implements :meth:`_sample`, and :meth:`_moments` if it
    knows expectations better than samples do. A class whose abilities depend on its options sets ``capabilities`` on the
    instance, too. What few backends can is in :mod:`qvae.sampling.abilities`.

    Users call :meth:`sample` and :meth:`moments`. They refuse what the capabilities exclude, answer a system of no spins
    themselves, hand over a copy of fields and couplings, cut off from gradients, look at what comes back, and make a
    SamplerError of whatever is raised but an interrupt.
    """

    name: str = ""
    """The name under which the registry found it; set by :func:`qvae.load_sampler`."""
    capabilities: Capabilities = Capabilities()
    is_lent: bool = False
    """Whether its user made it and closes it."""

    @abstractmethod
    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Draw from p(s) = <s|exp(-H)|s> / Z: 1 or more samples of 1 or more spins, within the capabilities."""

    def _moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """<s_i> and <s_i s_j> in the type and on the device of ``hamiltonian.h``; here they are averages of samples."""
        return Moments.from_samples(self.sample(hamiltonian, num_samples), hamiltonian)

    def sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Draw ``num_samples`` spin configurations from p(s) = <s|exp(-H)|s> / Z, on the Hamiltonian's device.

        Raises:
            CapabilityError: the Hamiltonian is beyond the backend's capabilities; the message names those that can.
            SamplerError: ``num_samples`` is no whole number above 0, or the backend failed or returned no such samples.
        """
        self._require_sense(hamiltonian, num_samples)
        if hamiltonian.num_spins == 0:
            return _nothing(hamiltonian, num_samples)
        samples = self._asked(
            self._sample, hamiltonian, num_samples, "samples", lambda got: fault_of_samples(got, hamiltonian, num_samples)
        )
        device = hamiltonian.h.device
        samples.spins = samples.spins.to(device)
        if samples.weights is not None:
            samples.weights = samples.weights.to(device)
        return samples

    def moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """<s_i> and <s_i s_j>, from ``num_samples`` samples unless the backend knows them better.

        Raises:
            CapabilityError, SamplerError: as :meth:`sample`.
        """
        self._require_sense(hamiltonian, num_samples)
        if hamiltonian.num_spins == 0:
            return Moments.from_samples(_nothing(hamiltonian, num_samples), hamiltonian)
        return self._asked(self._moments, hamiltonian, num_samples, "moments", lambda got: fault_of_moments(got, hamiltonian))

    @property
    def label(self) -> str:
        """Its name, or that of the class, for messages."""
        return self.name or type(self).__name__

    def _require_sense(self, hamiltonian: IsingHamiltonian, num_samples: int) -> None:
        """Refuse what no sampler could take, and what this one can't."""
        if not isinstance(hamiltonian, IsingHamiltonian):
            given = type(hamiltonian).__name__
            raise SamplerError(f"sampler {self.label!r} was given a {given}; it takes a qvae.IsingHamiltonian(h, edges, J).")
        self.check(hamiltonian)
        if isinstance(num_samples, bool) or not isinstance(num_samples, numbers.Integral):
            raise SamplerError(f"num_samples is {num_samples!r}; it must be a whole number, 1 or more.")
        if num_samples < 1:
            raise SamplerError(f"num_samples is {num_samples}; it must be 1 or more.")

    def _asked(
        self,
        method: Callable[[IsingHamiltonian, int], T],
        hamiltonian: IsingHamiltonian,
        num_samples: int,
        noun: str,
        fault_of: Callable[[T], str | None],
    ) -> T:
        """What a backend's own method returns, if it is what it must be; its author may have written anything."""
        h, J, gamma = (part.detach().clone() for part in (hamiltonian.h, hamiltonian.J, hamiltonian.gamma))
        try:
            found = method(hamiltonian.replace(h, J, gamma), num_samples)
            fault = fault_of(found)
        except (SamplerError, KeyboardInterrupt):
            raise
        except BaseException as error:  # sys.exit() among them
            joined = ": " if isinstance(error, QvaeError) else " with "
            raise SamplerError(f"sampler {self.label!r} failed{joined}{in_a_line(error)}.") from error
        if fault is not None:
            raise SamplerError(f"sampler {self.label!r} returned no {noun}: {fault}.")
        return found

    def check(self, hamiltonian: IsingHamiltonian) -> None:
        """Raise :class:`~qvae.errors.CapabilityError` if this Hamiltonian is beyond the backend's capabilities."""
        reason = self.capabilities.excludes(hamiltonian.num_spins, hamiltonian.is_quantum)
        if reason is None:
            return
        able = capable_samplers(hamiltonian.num_spins, hamiltonian.is_quantum)
        remedy = f"these can: {', '.join(able)}" if able else "no installed sampler can"
        what = f"{hamiltonian.num_spins} spins{' with a transverse field' if hamiltonian.is_quantum else ''}"
        raise CapabilityError(f"sampler {self.label!r} can't sample {what}: {reason}; {remedy}.")

    def state_dict(self) -> dict[str, Any]:
        """Chains, random number generators and warm starts, as tensors and plain values that JSON can hold."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from where :meth:`state_dict` was taken.

        Raises:
            SamplerError: the state is of another backend or another system.
        """
        if state:
            raise SamplerError(f"sampler {self.label!r} keeps no state, but was given {sorted(state)}.")

    def close(self) -> None:  # noqa: B027
        """Release connections; the sampler isn't used afterwards."""


def _nothing(hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
    """Samples of no spins."""
    return Samples(torch.zeros(num_samples, 0, dtype=torch.int8, device=hamiltonian.h.device))


def fault_of_samples(samples: Any, hamiltonian: IsingHamiltonian, num_samples: int, wait: bool = False) -> str | None:
    """Why these can't be samples of the Hamiltonian, as a clause; None if they can.

    Args:
        wait: for a GPU, to look at values that are there; those in the processor's memory are always looked at.
    """
    if not isinstance(samples, Samples):
        return f"it is a {type(samples).__name__}, not a qvae.Samples"
    spins, weights, shape = samples.spins, samples.weights, (num_samples, hamiltonian.num_spins)
    if not isinstance(spins, Tensor):
        return f"spins are a {type(spins).__name__}, not a torch.Tensor"
    if tuple(spins.shape) != shape:
        return f"it holds spins of shape {tuple(spins.shape)}, not (num_samples, n) = {shape}"
    if (wait or spins.is_cpu) and spins.numel() and not spins.is_complex():
        low, high = spins.aminmax()
        if low < -1 or high > 1 or not bool(spins.all()):
            strange = sorted(set(spins.unique().tolist()) - {-1, 1})
            return f"spins hold {strange[:3]}; they must be -1 or +1 (from bits z: 2z - 1)"
    if spins.dtype != torch.int8:
        return f"spins are {spins.dtype}, not torch.int8"
    return (None if weights is None else _fault_of_weights(weights, num_samples, wait)) or samples.info.fault


def _fault_of_weights(weights: Any, num_samples: int, wait: bool) -> str | None:
    if not isinstance(weights, Tensor) or not weights.is_floating_point():
        kind = weights.dtype if isinstance(weights, Tensor) else f"a {type(weights).__name__}"
        return f"weights are {kind}, not a torch.Tensor of real numbers"
    if tuple(weights.shape) != (num_samples,):
        return f"it holds weights of shape {tuple(weights.shape)}, not (num_samples,) = {(num_samples,)}"
    if not (wait or weights.is_cpu):
        return None
    if bool((weights < 0).any()):
        return "a weight is negative"
    total = float(weights.double().sum())
    return None if abs(total - 1) < _ROUNDING else f"weights sum to {total:.6g}, not to 1"


def fault_of_moments(moments: Any, hamiltonian: IsingHamiltonian, wait: bool = False) -> str | None:
    """Why these can't be moments of the Hamiltonian, as a clause; None if they can. ``wait`` as in :func:`fault_of_samples`."""
    if not isinstance(moments, Moments):
        return f"it is a {type(moments).__name__}, not a qvae.Moments"
    h = hamiltonian.h
    for name, length in (("spins", hamiltonian.num_spins), ("pairs", hamiltonian.graph.num_edges)):
        tensor = getattr(moments, name)
        if not isinstance(tensor, Tensor) or tuple(tensor.shape) != (length,):
            found = f"have shape {tuple(tensor.shape)}" if isinstance(tensor, Tensor) else f"are a {type(tensor).__name__}"
            return f"moments' {name} {found}, not ({length},)"
        if (tensor.dtype, tensor.device) != (h.dtype, h.device):
            return f"moments' {name} are {tensor.dtype} on {tensor.device}, not {h.dtype} on {h.device} as h is"
        if (wait or tensor.is_cpu) and length:
            low, high = (float(end) for end in tensor.detach().aminmax())  # NaN if a moment is
            if not (low >= -1 - _ROUNDING and high <= 1 + _ROUNDING):
                return f"moments' {name} are not all between -1 and 1"
    return moments.info.fault


class SeededSampler(Seeded, LatentSampler):
    """A sampler that owns a torch generator made from ``seed``, on the device it is used on; its state is in the checkpoint."""

    error = SamplerError
