"""Exact sampling of small systems: independent samples, and moments without sampling error."""

from __future__ import annotations

import time

from qvae.ising.exact import MAX_DIAGONALIZATION_SPINS, MAX_ENUMERATION_SPINS, exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.sampler import Capabilities, Moments, Samples, SeededSampler


class ExactSampler(SeededSampler):
    """Enumerates all states or, with a transverse field, diagonalizes the Hamiltonian; the measure of all other samplers.

    The distribution is computed anew in every call, on the Hamiltonian's device.

    Args:
        seed: of the samples; moments need none.
    """

    capabilities = Capabilities(
        transverse_field=True,
        max_spins=MAX_ENUMERATION_SPINS,
        max_quantum_spins=MAX_DIAGONALIZATION_SPINS,
        exact=True,
    )

    def sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Independent samples; ``info`` holds ``method``, ``log_z`` (nats) and ``wall_seconds``."""
        started = time.perf_counter()
        distribution = exact_distribution(hamiltonian)
        spins = distribution.sample(num_samples, self.generator(hamiltonian.h.device))
        info = {"method": distribution.method, "log_z": distribution.log_z, "wall_seconds": time.perf_counter() - started}
        return Samples(spins, info=info)

    def moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """The exact moments, whatever ``num_samples`` is."""
        started = time.perf_counter()
        distribution = exact_distribution(hamiltonian)
        spins, pairs = distribution.moments()
        info = {"method": distribution.method, "log_z": distribution.log_z, "wall_seconds": time.perf_counter() - started}
        return Moments(spins.to(hamiltonian.h), pairs.to(hamiltonian.h), info)
