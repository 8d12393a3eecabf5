"""log Z without a transverse field, by the best method there is for a Hamiltonian."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from qvae.ising.annealing import bidirectional_annealing, check_lengths
from qvae.ising.estimate import LogPartition
from qvae.ising.exact import MAX_ENUMERATION_SPINS, exact_distribution
from qvae.ising.exact_partition import enumerate_rbm, product_log_partition, refuse_transverse_field
from qvae.ising.hamiltonian import IsingHamiltonian


def log_partition(
    hamiltonian: IsingHamiltonian,
    *,
    chains: int = 500,
    temperatures: int = 2000,
    seed: int = 0,
    parts: int = 1,
    spread: Callable[..., Iterable[Any]] = map,
) -> LogPartition:
    """log Z by the best method there is for ``hamiltonian``.

    In closed form without couplings; by enumeration up to ``MAX_ENUMERATION_SPINS`` spins, or of an RBM's smaller layer
    up to as many; else by :func:`~qvae.ising.annealing.bidirectional_annealing`, to which the options belong; ``parts`` and
    ``spread`` have it done on workers.

    Raises:
        ValueError: the Hamiltonian has a transverse field, or there are fewer than 2 chains, in a part, or temperatures.

    >>> log_partition(IsingHamiltonian([0.0, 0.0], [], [])).value  # 2 log 2
    1.3862943611198906
    """
    refuse_transverse_field(hamiltonian)
    check_lengths(chains // max(1, parts), temperatures)
    if not hamiltonian.graph.num_edges:
        return product_log_partition(hamiltonian)
    if hamiltonian.num_spins <= MAX_ENUMERATION_SPINS:
        exact = exact_distribution(hamiltonian)
        return LogPartition(exact.log_z, 0.0, exact.method)
    layers = hamiltonian.graph.bipartite_sizes
    if layers is not None and min(layers) <= MAX_ENUMERATION_SPINS:
        return enumerate_rbm(hamiltonian)
    return bidirectional_annealing(hamiltonian, chains=chains, temperatures=temperatures, seed=seed, parts=parts, spread=spread)
