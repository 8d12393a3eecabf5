"""Exact sampling of small systems: independent samples, and moments without sampling error."""

from __future__ import annotations

import time
from typing import Any

from qvae.ising.exact import MAX_ENUMERATION_SPINS, MAX_QUANTUM_SPINS, ExactDistribution, exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.sampler import Capabilities, Moments, Samples, SeededSampler


class ExactSampler(SeededSampler):
    """Enumerates all states or, with a transverse field, computes the density matrix; the measure of all other samplers.

    With a transverse field, exp(-H) is taken of up to 10 spins and Trotter products of more, as
    :func:`~qvae.ising.exact.exact_distribution` says. The distribution is computed anew in every call, on the
    Hamiltonian's device: at 10 spins that is a second, at 12 seconds, at 14 more than a minute on a processor.

    Args:
        seed: of the samples; moments need none.
    """

    capabilities = Capabilities(
        transverse_field=True,
        max_spins=MAX_ENUMERATION_SPINS,
        max_quantum_spins=MAX_QUANTUM_SPINS,
        exact=True,
    )

    def _sample(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Samples:
        """Independent samples.

        ``info`` holds ``method``, ``log_z`` (nats), ``error_estimate`` (of the distribution in total variation and of
        ``log_z``, whichever is larger) and ``wall_seconds``.
        """
        started = time.perf_counter()
        distribution = exact_distribution(hamiltonian)
        spins = distribution.sample(num_samples, self.generator(hamiltonian.h.device))
        return Samples(spins, info=_info(distribution, started))

    def _moments(self, hamiltonian: IsingHamiltonian, num_samples: int) -> Moments:
        """The exact moments, whatever ``num_samples`` is."""
        started = time.perf_counter()
        distribution = exact_distribution(hamiltonian)
        spins, pairs = distribution.moments()
        return Moments(spins.to(hamiltonian.h), pairs.to(hamiltonian.h), _info(distribution, started))


def _info(distribution: ExactDistribution, started: float) -> dict[str, Any]:
    return {
        "method": distribution.method,
        "log_z": distribution.log_z,
        "error_estimate": distribution.error,
        "wall_seconds": time.perf_counter() - started,
    }
