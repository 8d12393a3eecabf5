"""Calls of persistent chains for moments on a GPU, which are the same in every step of a training: one CUDA graph."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.recorded import Graphs, Recorder, record

Found = tuple[Tensor, Tensor]
"""Means of spins (n,) and of pairs (m,)."""


class RecordedCalls:
    """Plays such calls again once there were a few that differ in the values of fields and couplings alone.

    Args:
        call: moves chains (n, 1, number) in place by so many sweeps of a Hamiltonian, and gives moments.
    """

    def __init__(self, call: Callable[[IsingHamiltonian, Tensor, int, torch.Generator], Found]) -> None:
        self._call, self._recorder = call, Recorder[Graphs]()

    def play(self, hamiltonian: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator) -> Found | None:
        """Moments, with the chains moved; None where the call is to be made by Python."""
        h, J = hamiltonian.h, hamiltonian.J
        values = (id(hamiltonian.graph), h.dtype, torch.is_inference_mode_enabled())
        what = (*values, chains.data_ptr(), chains.shape, sweeps, generator)
        graphs = self._recorder.recorded(
            what, lambda: self._record(hamiltonian.replace(h.clone(), J.clone()), chains, sweeps, generator)
        )
        if graphs is None:
            return None
        torch._foreach_copy_([self._own.h, self._own.J], [h, J])
        graphs[0].replay()
        spins, pairs = self._found
        return spins.clone(), pairs.clone()

    def _record(self, own: IsingHamiltonian, chains: Tensor, sweeps: int, generator: torch.Generator) -> Graphs | None:
        self._own, found = own, list[Found]()
        graphs = record([lambda: found.append(self._call(own, chains, sweeps, generator))], generator)
        if graphs is not None:
            (self._found,) = found
        return graphs
