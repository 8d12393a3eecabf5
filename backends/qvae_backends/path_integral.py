"""Path-integral Monte Carlo with a transverse field, on any graph, on CPU or CUDA, with persistent world lines."""

from __future__ import annotations

import math
from typing import Annotated, Any

import torch
from pydantic import Field
from torch import Tensor

from qvae.errors import CapabilityError
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.trotter import choose_slices, estimate_trotter_error
from qvae.ising.world_lines import WorldLines
from qvae.options import checked_options
from qvae.sampling.chains import ChainSampler, mixing_advice
from qvae.sampling.sampler import Capabilities, Moments, Samples, pair_moments
from qvae.seeding import Seed

_GROUPS = 10  # of chains, whose spread tells the error of a Trotter error


class PathIntegralSampler(ChainSampler[WorldLines]):
    """Cluster updates of all world lines of one colour at once, one chain for each sample.

    The Gibbs state of n spins in a transverse field is sampled as that of n classical spins in each of many slices of
    imaginary time; see :class:`~qvae.ising.world_lines.WorldLines`. Without a transverse field there is one slice, and this
    is block Gibbs sampling. Each spin may have a transverse field of its own.

    Persistent chains go on from one call to the next on the same :class:`~qvae.ising.graphs.Graph` object, as those of the
    ``gibbs`` sampler do: others start fresh, fewer samples forget chains, more add some.

    Args:
        sweeps: updates of every world line in a call, 1 or more.
        burn_in: updates of a fresh chain, which starts from random spins, before the sweeps of its first call; 0 or more.
        slices: of imaginary time, even and 2 or more. None takes the fewest for which no mean or correlation should be off
            by more than 0.005 (:func:`~qvae.ising.trotter.choose_slices`), and fields so strong that 1024 aren't enough are
            refused; as couplings grow, chains that go on may get more of them, but never fewer.
        persistent: keep the chains; if not, all of them are fresh in every call.
        seed: of the chains.

    Raises:
        ValueError: an option is out of its range.
    """

    capabilities = Capabilities(transverse_field=True, persistent=True)
    _copy_name = "slices"
    _kernel_module = "ising.fused_lines"

    @checked_options
    def __init__(
        self,
        sweeps: Annotated[int, Field(ge=1)] = 10,
        burn_in: Annotated[int, Field(ge=0)] = 200,
        slices: Annotated[int, Field(ge=2, le=2**16)] | None = None,
        persistent: bool = True,
        seed: Seed = None,
    ) -> None:
        super().__init__(sweeps, burn_in, persistent, seed)
        self.slices = slices
        if slices is not None and slices % 2:
            raise ValueError(f"slices is {slices!r}; it must be an even whole number, 2 or more")

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """The spins of slice 0 of ``num_samples`` chains after their sweeps; every slice has the same distribution.

        ``info`` holds ``wall_seconds``, ``sweeps`` (burn-in included), ``slices``, and ``error_estimate``: about how far off
        means and correlations are because slices aren't infinitely many
        (:func:`~qvae.ising.trotter.estimate_trotter_error`; :meth:`trotter_error` measures it).
        """
        kernel, chains, info = self._advance(hamiltonian, num_samples)
        return Samples(kernel.to_spins(chains), info=info, advise=mixing_advice)

    def _moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """Moments of less variance than the samples': of all slices, and spins replaced by their conditional means.

        <s_i> is the average over chains and slices of m_i = E[s_i | segments of its world line, other colours], and <s_i s_j>
        that of (m_i s_j + s_i m_j) / 2: the ends of an edge differ in colour, so s_j is among what m_i is conditioned on
        (Rao-Blackwell). ``info`` is that of :meth:`sample`.
        """
        kernel, chains, info = self._advance(hamiltonian, num_samples)
        spins = torch.zeros_like(hamiltonian.h, dtype=torch.float32)
        pairs = torch.zeros_like(hamiltonian.J, dtype=torch.float32)
        number = chains.shape[1] * num_samples
        for rows in kernel.means(chains, self.generator(hamiltonian.h.device)):
            means, values = (kernel.gibbs.by_spin(part).T for part in rows)
            spins += means.sum(0) / number
            pairs += (pair_moments(means, values, hamiltonian) + pair_moments(values, means, hamiltonian)) / (2 * number)
        return Moments(spins.to(hamiltonian.h), pairs.to(hamiltonian.h), info, mixing_advice)

    def transverse_moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Tensor:
        """<sigma^x_i>, (n,), from the kinks of ``num_samples`` world lines after a call's sweeps.

        Its own Trotter error is larger than that of means where fields are strong: take more slices than for them.
        """
        self._require_sense(hamiltonian, num_samples)
        kernel, chains, _ = self._advance(hamiltonian, num_samples)
        return kernel.gibbs.by_spin(kernel.transverse_means(chains)).to(hamiltonian.h)

    def trotter_error(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """How far the moments are from those of infinitely many slices, measured by a comparison with half as many.

        The error falls as P^-2, so it is a third of the difference between P/2 and P slices. Both are averages over the same
        ``num_samples`` chains of P, reweighted for P/2: their difference has far less noise than two runs. ``info`` has
        ``standard_error``, the root of the mean square over all moments, besides what :meth:`sample` gives.
        """
        self._require_sense(hamiltonian, num_samples)
        kernel, chains, info = self._advance(hamiltonian, num_samples)
        groups = chains.split(math.ceil(num_samples / _GROUPS), 2)
        found = torch.stack([_halving_error(kernel, part.contiguous(), hamiltonian) for part in groups])
        info["standard_error"] = float(found.std(0).square().mean().sqrt() / math.sqrt(len(groups)))
        spins, pairs = found.mean(0).split([hamiltonian.num_spins, hamiltonian.graph.num_edges])
        return Moments(spins.to(hamiltonian.h), pairs.to(hamiltonian.h), info)

    # Chains: their copies are the slices of imaginary time ------------------------------------------------------------

    def _fit(self, kernel: WorldLines | None, hamiltonian: IsingHamiltonian, copies: int | None) -> WorldLines:
        slices = self._slices_for(hamiltonian, copies or 1)
        if kernel is None or slices != kernel.slices:
            return WorldLines(hamiltonian, slices)
        kernel.update(hamiltonian)
        return kernel

    def _gibbs(self, kernel: WorldLines) -> BlockGibbs:
        return kernel.gibbs

    def _fresh(self, kernel: WorldLines, number: int, generator: torch.Generator) -> Tensor:
        return kernel.random_state(number, generator)

    def _sweep(
        self, kernel: WorldLines, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator
    ) -> tuple[Tensor, dict[str, Any]]:
        error = estimate_trotter_error(hamiltonian, kernel.slices)
        return kernel.sweep(chains, sweeps, generator), {"slices": kernel.slices, "error_estimate": error}

    def _kernel_for(self, hamiltonian: IsingHamiltonian) -> WorldLines:
        kernel = super()._kernel_for(hamiltonian)
        if self._chains is not None:
            self._chains = kernel.resliced(self._chains)
        return kernel

    def _slices_for(self, hamiltonian: IsingHamiltonian, before: int) -> int:
        if not hamiltonian.is_quantum:
            return 1
        if self.slices is not None:
            return self.slices
        try:
            return max(before, choose_slices(hamiltonian))
        except ValueError as error:
            raise CapabilityError(f"{error}.") from None


def _halving_error(kernel: WorldLines, chains: Tensor, hamiltonian: IsingHamiltonian) -> Tensor:
    """A third of the moments at P/2 slices less those at P, spins before pairs, (n + m,), from chains of P slices.

    P/2 slices are either the even or the odd ones of P, with weights exp(+-D), D = sum_odd E(s^k)/P - sum_even E(s^k)/P.
    """
    energies = kernel.energies(chains)
    slices, number = energies.shape
    if slices == 1:
        return energies.new_zeros(hamiltonian.num_spins + hamiltonian.graph.num_edges)
    exponents = torch.stack([energies[1::2].sum(0) - energies[::2].sum(0), energies[::2].sum(0) - energies[1::2].sum(0)])
    half = exponents.flatten().softmax(0).view(2, number) * (2 / slices)
    change = (half.repeat(slices // 2, 1) - 1 / (slices * number)).flatten()
    spins = kernel.gibbs.by_spin(2 * chains.flatten(1).float() - 1).T
    weighted = spins * change.unsqueeze(1)
    return torch.cat([weighted.sum(0), pair_moments(weighted, spins, hamiltonian)]) / 3
