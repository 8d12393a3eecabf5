"""Block Gibbs sampling on any graph, on CPU or CUDA: persistent chains, tempering, population annealing."""

from __future__ import annotations

import time
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.ising import recorded
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.population import anneal_population
from qvae.options import checked_options
from qvae.sampling.chains import ChainSampler, mixing_advice
from qvae.sampling.sampler import Capabilities, Moments, Samples, pair_moments
from qvae.seeding import Seed
from qvae_backends.gibbs_recorded import RecordedCalls


class GibbsSampler(ChainSampler[BlockGibbs]):
    """Heat-bath updates of all spins of one colour at once, one chain for each sample.

    Persistent chains (PCD, Tieleman 2008) go on from one call to the next on the same
    :class:`~qvae.ising.graphs.Graph` object, so a prior in training, which moves a little in every step, needs few sweeps.
    Hamiltonians on another graph, be it an equal one, start fresh chains. A call for fewer samples continues the first
    chains and forgets the others; one for more adds fresh chains.

    Args:
        sweeps: updates of every spin in a call, 1 or more.
        burn_in: updates of a fresh chain, which starts from random spins, before the sweeps of its first call; 0 or more.
        persistent: keep the chains; if not, all of them are fresh in every call.
        annealing: sweeps at each temperature of the population annealing from which fresh chains start, instead of
            ``burn_in``: for priors in whose modes chains get stuck, so that their weights come out wrong; 0 is none, 5 to
            20 are usual. As chains that go on can't mend the weights when parameters move, training on such a prior
            needs ``persistent=False``, too.
        tempering: number of temperatures of parallel tempering (Hukushima and Nemoto 1996), for such priors, too, where very
            long runs are wanted; 0 or 1 is none. A call then costs so many times as much.
        beta_min: the lowest inverse temperature, above 0 and below 1; the others are spaced evenly from there to 1.
        seed: of the chains.

    Raises:
        ValueError: an option is out of its range, or both annealing and tempering are wanted.
    """

    capabilities = Capabilities(persistent=True)
    _copy_name = "temperatures"

    @checked_options
    def __init__(
        self,
        sweeps: Annotated[int, Field(ge=1)] = 10,
        burn_in: Annotated[int, Field(ge=0)] = 200,
        persistent: bool = True,
        annealing: Annotated[int, Field(ge=0)] = 0,
        tempering: Annotated[int, Field(ge=0, le=10_000)] = 0,
        beta_min: Annotated[float, Field(gt=0, lt=1)] = 0.2,
        seed: Seed = None,
    ) -> None:
        super().__init__(sweeps, burn_in, persistent, seed)
        self.temperatures, self.beta_min, self.annealing = max(1, tempering), beta_min, annealing
        if self.annealing and self.temperatures > 1:
            raise ValueError("annealing and tempering are two remedies for the same trouble; set one of them to 0")
        self._copies = self.temperatures
        self._recorded = RecordedCalls(self._call)

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """The spins of ``num_samples`` chains after their sweeps.

        ``info`` holds ``wall_seconds``, ``sweeps`` (burn-in included) and, of fresh chains, ``burn_in_memory``: their
        correlation with themselves over half of the burn-in. With annealing that is replaced by what
        :class:`~qvae.ising.population.Population` tells: ``temperatures``, ``population``, ``families``, ``log_z`` and
        ``log_z_stderr``. With tempering there is ``swap_acceptance``, a tensor on the device: the rate for each pair of
        neighbouring temperatures, the coldest first. ``advice`` puts into words what they say.
        """
        kernel, chains, info = self._advance(hamiltonian, num_samples)
        return Samples(kernel.to_spins(chains[:, 0]), info=info, advise=mixing_advice)

    def _moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """Moments of less variance than the samples': spins are replaced by their means given the other colours.

        <s_i> is the average over chains of m_i = E[s_i | other colours], and <s_i s_j> that of (m_i s_j + s_i m_j) / 2: the
        ends of an edge differ in colour, so s_j is among what m_i is conditioned on (Rao-Blackwell).
        """
        started = time.perf_counter()
        if (found := self._replayed(hamiltonian, num_samples)) is not None:
            info = self._info(hamiltonian.h.device) | {"wall_seconds": time.perf_counter() - started}
        else:
            kernel, chains, info = self._advance(hamiltonian, num_samples)
            found = _moments_of(kernel, chains, hamiltonian)
        return Moments(*found, info, mixing_advice)

    def _replayed(self, hamiltonian: IsingHamiltonian, num_samples: int) -> tuple[Tensor, Tensor] | None:
        """Where chains go on by the same kernel as before, and nothing is to be said about them."""
        kernel, chains, device = self._kernel, self._chains, hamiltonian.h.device
        if not recorded.records(device) or kernel is None or chains is None:
            return None
        if self._graph is not hamiltonian.graph or self.temperatures > 1 or chains.shape[2] != num_samples:
            return None
        if kernel.quickest != torch.int8 or not chains.is_contiguous():
            return None
        return self._recorded.play(hamiltonian, chains, self.sweeps, self.generator(device))

    def _call(
        self, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """The device's work of a call: chains are moved in place."""
        kernel = self._kernel_for(hamiltonian)
        kernel.sweep(chains.flatten(1), sweeps, generator)
        return _moments_of(kernel, chains, hamiltonian)

    # Chains: their copies are at the temperatures, the coldest first --------------------------------------------------

    def __getstate__(self) -> dict[str, Any]:
        """What is recorded isn't pickled."""
        return {key: value for key, value in super().__getstate__().items() if key != "_recorded"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._recorded = RecordedCalls(self._call)

    def _fit(self, kernel: BlockGibbs | None, hamiltonian: IsingHamiltonian, copies: int | None) -> BlockGibbs:
        if kernel is None:
            return BlockGibbs(hamiltonian)
        kernel.update(hamiltonian)
        return kernel

    def _gibbs(self, kernel: BlockGibbs) -> BlockGibbs:
        return kernel

    def _fresh(self, kernel: BlockGibbs, number: int, generator: torch.Generator) -> Tensor:
        bits = kernel.random_state(self.temperatures * number, generator).to(kernel.quickest)
        return bits.view(-1, self.temperatures, number)

    def _start(
        self, kernel: BlockGibbs, hamiltonian: IsingHamiltonian, number: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        if not self.annealing:
            return super()._start(kernel, hamiltonian, number, generator)
        found = anneal_population(kernel, number, self.annealing, generator)
        info = {
            "sweeps": self.annealing * found.temperatures,
            "temperatures": found.temperatures,
            "population": found.size,
            "families": found.families,
            "log_z": found.log_z,
            "log_z_stderr": found.log_z_stderr,
        }
        return found.state.to(kernel.quickest).unsqueeze(1), info

    def _sweep(
        self, kernel: BlockGibbs, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        bits = chains.flatten(1)
        if self.temperatures == 1:
            return kernel.sweep(bits.to(kernel.quickest), sweeps, generator).view_as(chains), {}
        # Rounded products are for one temperature: their mean error is that of all chains.
        dtype = torch.int8 if kernel.quickest == torch.int8 else torch.float32
        state, rates = self._temper(kernel, bits.to(dtype, copy=True).view_as(chains), sweeps, generator)
        return state.to(torch.int8), {"swap_acceptance": rates}

    def _temper(self, kernel: BlockGibbs, chains: Tensor, sweeps: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Sweeps at every temperature, each followed by swaps of neighbours: of pairs (0, 1), (2, 3), ..., then of (1, 2), ....

        Chains at beta_a and beta_b are swapped with probability min(1, exp[(beta_a - beta_b)(E_a - E_b)]). In this order
        replicas go on in their direction where swaps succeed, and so pass from one end to the other in fewer sweeps than with
        pairs drawn at random (Okabe et al. 2001; Syed et al. 2022, arXiv:1905.02939).
        """
        state = chains.flatten(1)
        beta = torch.linspace(1.0, self.beta_min, self.temperatures, dtype=torch.float32, device=state.device).unsqueeze(1)
        # Temperatures move, states stay: column[r, c] is where chain c is at temperature r.
        column = torch.arange(state.shape[1], device=state.device).view(chains.shape[1:])
        beta_of_column = torch.empty_like(state[0], dtype=torch.float32)
        accepted = torch.zeros(self.temperatures - 1, dtype=torch.float32, device=state.device)
        for _ in range(sweeps):
            beta_of_column[column] = beta.expand_as(column)
            kernel.sweep(state, 1, generator, beta=beta_of_column)
            energies = kernel.energies(state)
            for first in (0, 1):
                cold, hot = slice(first, -1, 2), slice(first + 1, None, 2)
                a, b = column[cold], column[hot]
                gain = (beta[cold] - beta[hot]) * (energies[a] - energies[b])
                swap = torch.rand(gain.shape, generator=generator, dtype=gain.dtype, device=gain.device).log() < gain
                column[cold], column[hot] = b.where(swap, a), a.where(swap, b)
                accepted[first::2] += swap.float().mean(1)
        return state[:, column.flatten()].view_as(chains), accepted / max(1, sweeps)


def _moments_of(kernel: BlockGibbs, chains: Tensor, hamiltonian: IsingHamiltonian) -> tuple[Tensor, Tensor]:
    """Means of spins and pairs over chains (n, 1, number), or over the first of their copies."""
    means, spins = (kernel.by_spin(rows).T for rows in kernel.means(chains[:, 0].float()))
    pairs = pair_moments(means, spins, hamiltonian) + pair_moments(spins, means, hamiltonian)
    return means.mean(0).to(hamiltonian.h), (pairs / (2 * chains.shape[2])).to(hamiltonian.h)
