"""Block Gibbs sampling on any graph, on CPU or CUDA, with persistent chains and optional parallel tempering."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from qvae.errors import SamplerError
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.graphs import Graph
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.sampler import Capabilities, Moments, Samples, SeededSampler, pair_moments, whole_number


class GibbsSampler(SeededSampler):
    """Heat-bath updates of all spins of one colour at once, one chain for each sample.

    Persistent chains (PCD, Tieleman 2008) go on from one call to the next on the same
    :class:`~qvae.ising.graphs.Graph` object, so a prior in training, which moves a little in every step, needs few sweeps.
    Hamiltonians on another graph, be it an equal one, start fresh chains. A call for fewer samples continues the first
    chains and forgets the others; one for more adds fresh chains.

    Args:
        sweeps: updates of every spin in a call, 1 or more.
        burn_in: updates of a fresh chain, which starts from random spins, before the sweeps of its first call; 0 or more.
        persistent: keep the chains; if not, all of them are fresh in every call.
        tempering: number of temperatures of parallel tempering (Hukushima and Nemoto 1996), for priors in whose modes
            chains get stuck; 0 or 1 is none. A call then costs so many times as much.
        beta_min: the lowest inverse temperature, above 0 and below 1; the others are spaced evenly from there to 1.
        seed: of the chains.

    Raises:
        ValueError: an option is out of its range.
    """

    capabilities = Capabilities(persistent=True)

    def __init__(
        self,
        sweeps: int = 10,
        burn_in: int = 200,
        persistent: bool = True,
        tempering: int = 0,
        beta_min: float = 0.2,
        seed: int | None = None,
    ) -> None:
        super().__init__(seed)
        self.sweeps = whole_number("sweeps", sweeps, least=1)
        self.burn_in = whole_number("burn_in", burn_in, least=0)
        self.temperatures = max(1, whole_number("tempering", tempering, least=0))
        if not isinstance(persistent, bool):
            raise ValueError(f"persistent is {persistent!r}; it must be true or false")
        if isinstance(beta_min, bool) or not isinstance(beta_min, int | float) or not 0 < beta_min < 1:
            raise ValueError(f"beta_min is {beta_min!r}; it must be a number above 0 and below 1")
        self.beta_min = float(beta_min)
        self.capabilities = replace(type(self).capabilities, persistent=persistent)
        self._graph: Graph | None = None
        self._kernel: BlockGibbs | None = None
        self._chains: Tensor | None = None  # bits, (n, temperatures, chains), the coldest temperature first
        self._saved: Tensor | None = None

    def sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """The spins of ``num_samples`` chains after their sweeps.

        ``info`` holds ``wall_seconds``, ``sweeps`` (burn-in included) and, with tempering, ``swap_acceptance``: the rate
        for each pair of neighbouring temperatures, the coldest first.
        """
        kernel, state, info = self._advance(hamiltonian, num_samples)
        return Samples(kernel.to_spins(state), info=info)

    def moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """Moments of less variance than the samples': spins are replaced by their means given the other colours.

        <s_i> is the average over chains of m_i = E[s_i | other colours], and <s_i s_j> that of (m_i s_j + s_i m_j) / 2: the
        ends of an edge differ in colour, so s_j is among what m_i is conditioned on (Rao-Blackwell).
        """
        kernel, state, info = self._advance(hamiltonian, num_samples)
        means, spins = (_by_spin(kernel, rows).T for rows in kernel.means(state))
        pairs = pair_moments(means, spins, hamiltonian) + pair_moments(spins, means, hamiltonian)
        return Moments(means.mean(0).to(hamiltonian.h), (pairs / (2 * num_samples)).to(hamiltonian.h), info)

    # Chains -----------------------------------------------------------------------------------------------------------

    def _advance(self, hamiltonian: IsingHamiltonian, num_samples: int) -> tuple[BlockGibbs, Tensor, dict[str, Any]]:
        """The sweeps of one call: the kernel, the state (n, num_samples) at beta = 1, and the info."""
        started = time.perf_counter()
        hamiltonian = hamiltonian.detach()
        kernel = self._kernel_for(hamiltonian)
        generator = self.generator(hamiltonian.h.device)
        kept = 0 if self._chains is None else self._chains.shape[2]
        chains = None if self._chains is None else self._chains[:, :, :num_samples].contiguous()
        info: dict[str, Any] = {"sweeps": self.sweeps}
        if kept < num_samples:
            shape = (hamiltonian.num_spins, self.temperatures, num_samples - kept)
            fresh = kernel.random_state(shape[1] * shape[2], generator).view(shape)
            fresh, _ = self._sweep(kernel, hamiltonian, fresh, self.burn_in, generator)
            chains = fresh if chains is None else torch.cat([chains, fresh], dim=2)
            info["sweeps"] += self.burn_in
        assert chains is not None
        chains, rates = self._sweep(kernel, hamiltonian, chains, self.sweeps, generator)
        if rates is not None:
            info["swap_acceptance"] = rates.tolist()
        self._chains = chains if self.capabilities.persistent else None
        info["wall_seconds"] = time.perf_counter() - started
        return kernel, chains[:, 0], info

    def _kernel_for(self, hamiltonian: IsingHamiltonian) -> BlockGibbs:
        # Identity, not equality: comparing edges would cost time and, on CUDA, synchronise the device in every step.
        if self._kernel is not None and self._graph is hamiltonian.graph:
            self._kernel.update(hamiltonian)
            return self._kernel
        chains = None if self._saved is None else self._unpacked(self._saved, hamiltonian)
        self._kernel, self._graph = BlockGibbs(hamiltonian), hamiltonian.graph
        self._chains = self._saved = None
        if chains is not None:
            self._chains = self._kernel.from_spins(chains).view(hamiltonian.num_spins, self.temperatures, -1)
        return self._kernel

    def _sweep(
        self, kernel: BlockGibbs, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        """Update ``chains`` (n, temperatures, chains) ``sweeps`` times; returns them and the rates of accepted swaps."""
        if self.temperatures == 1:
            kernel.sweep(chains.flatten(1), sweeps, generator)
            return chains, None
        return self._temper(kernel, hamiltonian.to(dtype=torch.float32), chains, sweeps, generator)

    def _temper(
        self, kernel: BlockGibbs, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Sweeps at every temperature, each followed by swaps of neighbouring temperatures.

        Chains at beta_a and beta_b are swapped with probability min(1, exp[(beta_a - beta_b)(E_a - E_b)]).
        """
        state = chains.flatten(1)
        beta = torch.linspace(1.0, self.beta_min, self.temperatures, device=state.device).unsqueeze(1)
        # Temperatures move, states stay: column[r, c] is where chain c is at temperature r.
        column = torch.arange(state.shape[1], device=state.device).view(chains.shape[1:])
        beta_of_column = torch.empty_like(state[0])
        accepted = torch.zeros(self.temperatures - 1, device=state.device)
        for _ in range(sweeps):
            beta_of_column[column] = beta.expand_as(column)
            kernel.sweep(state, 1, generator, beta=beta_of_column)
            energies = hamiltonian.energy(kernel.to_spins(state))
            for first in (0, 1):
                cold, hot = slice(first, -1, 2), slice(first + 1, None, 2)
                a, b = column[cold], column[hot]
                gain = (beta[cold] - beta[hot]) * (energies[a] - energies[b])
                swap = torch.rand(gain.shape, generator=generator, device=gain.device).log() < gain
                column[cold], column[hot] = b.where(swap, a), a.where(swap, b)
                accepted[first::2] += swap.float().mean(1)
        return state[:, column.flatten()].view_as(chains), accepted / max(1, sweeps)

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The generator, and the chains' spins (temperatures, chains, n) as int8."""
        state = super().state_dict()
        if self._saved is not None:
            return state | {"chains": self._saved}
        if self._chains is None or self._kernel is None:
            return state
        spins = self._kernel.to_spins(self._chains.flatten(1))
        return state | {"chains": spins.view(self.temperatures, -1, spins.shape[1])}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with these chains; that they fit the system is seen at the first call, which knows it.

        Raises:
            SamplerError: the state is of another sampler. Later, from the first call: it is of another system.
        """
        super().load_state_dict({key: value for key, value in state.items() if key != "chains"})
        self._kernel, self._graph, self._chains, self._saved = None, None, None, state.get("chains")

    def __getstate__(self) -> dict[str, Any]:
        """The kernel isn't pickled but made again; the chains travel as in :meth:`state_dict`."""
        forgotten = dict.fromkeys(("_kernel", "_graph", "_chains"))
        return super().__getstate__() | forgotten | {"_saved": self.state_dict().get("chains")}

    def _unpacked(self, saved: Tensor, hamiltonian: IsingHamiltonian) -> Tensor:
        """Saved chains as spins (temperatures * chains, n) on the Hamiltonian's device."""
        if saved.ndim != 3 or saved.shape[0] != self.temperatures or saved.shape[2] != hamiltonian.num_spins:
            raise SamplerError(
                f"the saved chains of sampler {self.name or 'gibbs'!r} have shape {tuple(saved.shape)}, but this system needs "
                f"({self.temperatures} temperatures, any number, {hamiltonian.num_spins} spins); start without them."
            )
        return saved.flatten(0, 1).to(hamiltonian.h.device)


def _by_spin(kernel: BlockGibbs, rows: Tensor) -> Tensor:
    """Rows (n, chains) from the kernel's order to that of the spins, which is the same for an RBM."""
    if kernel.graph.bipartite_sizes is not None:
        return rows
    return torch.empty_like(rows).index_copy_(0, kernel.order, rows)
