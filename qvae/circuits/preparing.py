"""What a sampler can say that measures a state which a circuit prepares."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from qvae.circuits.circuit import Circuit
from qvae.ising.hamiltonian import IsingHamiltonian


@runtime_checkable
class PreparesByCircuit(Protocol):
    """Has a circuit to show, before it is transpiled and measured."""

    def circuit(self, hamiltonian: IsingHamiltonian) -> Circuit:
        """The one for a Hamiltonian on this graph, with parameters for angles that are trained; nothing is run."""
        ...
