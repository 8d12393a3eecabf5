"""The circuit of the Gibbs ansatz prepares its state."""

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.gibbs_ansatz import GibbsAnsatz
from qvae.circuits.gibbs_circuit import gibbs_circuit
from qvae.ising import graphs
from qvae.ising.graphs import Graph


@pytest.mark.parametrize("graph", [graphs.complete(3), Graph(3, [(2, 0), (1, 2)]), Graph(1, [])], ids=repr)
def test_the_circuit_is_the_ansatz(graph):
    ansatz = GibbsAnsatz(graph)
    angles = torch.randn(ansatz.num_angles, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    prepared = StatevectorExecutor().amplitudes(gibbs_circuit(ansatz), angles.unsqueeze(0)).flatten()
    overlap = torch.vdot(prepared, ansatz.state(angles).flatten().to(torch.complex128))
    assert abs(overlap) == pytest.approx(1, abs=1e-10)
    # Qubits 0..n-1, which are the spins, are the low bits of an index.
    measured = prepared.abs().square().view(-1, 2**graph.num_spins).sum(0)
    assert torch.allclose(measured, ansatz.probabilities(angles), atol=1e-10)


def test_couplings_cost_one_gate_each():
    ansatz = GibbsAnsatz(graphs.complete(4), layers=1)
    names = [gate.name for gate in gibbs_circuit(ansatz).gates]
    assert names.count("rzz") == 2 * 6
    assert names.count("cx") == 4 + 4 * 4
