"""log Z without a transverse field, exactly: in closed form, or by enumerating the smaller layer of an RBM."""

from __future__ import annotations

import torch

from qvae.ising.estimate import LogPartition
from qvae.ising.exact import MAX_QUANTUM_SPINS, spin_states
from qvae.ising.free_spin import log_2cosh
from qvae.ising.hamiltonian import IsingHamiltonian

MAX_LAYER_SPINS = 25
"""Largest smaller layer that :func:`enumerate_rbm` takes."""


def product_log_partition(hamiltonian: IsingHamiltonian) -> LogPartition:
    """log Z = sum_i log 2 cosh h_i of spins without couplings.

    Raises:
        ValueError: there are couplings or a transverse field.
    """
    refuse_transverse_field(hamiltonian)
    if hamiltonian.graph.num_edges:
        raise ValueError(f"the closed form is for spins without couplings, but there are {hamiltonian.graph.num_edges}")
    return LogPartition(float(log_2cosh(hamiltonian.h.detach().double()).sum()), 0.0, "closed form without couplings")


def enumerate_rbm(hamiltonian: IsingHamiltonian) -> LogPartition:
    """log Z of an RBM: a sum over the states of its smaller layer, the other summed out in closed form.

    log Z = log sum_v exp(-h.v) prod_j 2 cosh(h_j + sum_i v_i J_ij).

    Raises:
        ValueError: the graph isn't an RBM, its smaller layer has more than ``MAX_LAYER_SPINS`` spins, or there is a
            transverse field.
    """
    refuse_transverse_field(hamiltonian)
    layers = hamiltonian.graph.bipartite_sizes
    if layers is None:
        raise ValueError(f"{hamiltonian.graph} isn't an RBM; use log_partition")
    if min(layers) > MAX_LAYER_SPINS:
        raise ValueError(
            f"the smaller layer has {min(layers)} spins; at most {MAX_LAYER_SPINS} are enumerated: use log_partition"
        )
    h = hamiltonian.h.detach().double()
    J = hamiltonian.J.detach().double().view(layers)
    small, large = h[: layers[0]], h[layers[0] :]
    if layers[0] > layers[1]:
        small, large, J = large, small, J.T
    # The low spins take all their states within a chunk, and the high spins one state per chunk.
    low = min(len(small), max(1, (2**22 // len(large)).bit_length() - 1))
    low_states = spin_states(low, h.device).double()
    low_energy, low_field = low_states @ small[:low], low_states @ J[:low] + large
    sums = []
    for high in spin_states(len(small) - low, h.device).double():
        log_weights = log_2cosh(low_field + high @ J[low:]).sum(1) - low_energy - high @ small[low:]
        sums.append(torch.logsumexp(log_weights, 0))
    value = float(torch.logsumexp(torch.stack(sums), 0))
    return LogPartition(value, 0.0, f"enumeration of a layer's 2^{len(small)} states")


def refuse_transverse_field(hamiltonian: IsingHamiltonian) -> None:
    """Raise a ValueError that names the methods for a transverse field, if there is one."""
    if hamiltonian.is_quantum:
        raise ValueError(
            "this log Z is of Hamiltonians without transverse field; with one, use exact_distribution(hamiltonian).log_z, for "
            f"at most {MAX_QUANTUM_SPINS} spins, or path_integral_log_partition"
        )
