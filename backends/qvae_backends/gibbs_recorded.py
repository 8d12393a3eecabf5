"""Calls of persistent chains for moments on a GPU, which are the same in every step of a training: one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.recorded import CALLS_BEFORE, record, records

Found = tuple[Tensor, Tensor]
"""Means of spins (n,) and of pairs (m,)."""


class RecordedCalls:
    """Plays such calls again once there were a few that differ in the values of fields and couplings alone.

    Args:
        call: moves chains (n, 1, number) in place by a Hamiltonian, and gives moments.
    """

    def __init__(self, call: Callable[[IsingHamiltonian, Tensor, torch.Generator], Found]) -> None:
        self._call, self._calls_of, self._number = call, tuple[object, ...](), 0
        self._graphs: list[torch.cuda.CUDAGraph] | None = None

    def play(self, hamiltonian: IsingHamiltonian, chains: Tensor, generator: torch.Generator) -> Found | None:
        """Moments, with the chains moved; None where the call is to be made by Python."""
        if not records(chains.device):
            return None
        h, J = hamiltonian.h, hamiltonian.J
        values = (id(hamiltonian.graph), hamiltonian.is_quantum, h.dtype, torch.is_inference_mode_enabled())
        what = (*values, chains.data_ptr(), chains.shape, generator)
        if what != self._calls_of:
            self._calls_of, self._number, self._graphs = what, 0, None
        self._number += 1
        if self._number == CALLS_BEFORE + 1:
            self._record(hamiltonian.replace(h.clone(), J.clone()), chains, generator)
        if self._graphs is None:
            return None
        torch._foreach_copy_([self._own.h, self._own.J], [h, J])
        self._graphs[0].replay()
        spins, pairs = self._found
        return spins.clone(), pairs.clone()

    def _record(self, own: IsingHamiltonian, chains: Tensor, generator: torch.Generator) -> None:
        self._own, found = own, list[Found]()
        self._graphs = record([lambda: found.append(self._call(own, chains, generator))], generator)
        if self._graphs is not None:
            (self._found,) = found
