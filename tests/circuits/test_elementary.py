"""Products of simple gates against the gates they stand for."""

import numpy as np
import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.elementary import elementary
from qvae.circuits.gates import GATES
from qvae.testing.dense import dense_state


@pytest.mark.parametrize("name", GATES)
def test_the_product_is_the_gate(name):
    numbers = torch.Generator().manual_seed(5)
    kind = GATES[name]
    before = [Gate("u", (qubit,), tuple(torch.rand(3, generator=numbers).tolist())) for qubit in range(4)]
    before += [Gate("cx", (qubit, qubit + 1)) for qubit in range(3)]
    qubits = tuple(torch.randperm(4, generator=numbers)[: kind.num_qubits].tolist())
    gate = Gate(name, qubits, tuple(Affine(index, 1.5, 0.3) for index in range(kind.num_angles)))
    factors = list(elementary(gate))
    assert all(len(factor.angles) <= 1 for factor in factors)
    values = torch.randn(4, dtype=torch.float64, generator=numbers)
    states = [dense_state(Circuit(4, [*before, *gates], num_parameters=4), values) for gates in ([gate], factors)]
    assert abs(np.vdot(*states)) == pytest.approx(1, abs=1e-12)
