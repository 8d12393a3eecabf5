"""The QAOA ansatz against exponentials of dense matrices."""

import pytest
import torch

from qvae.circuits.gates import pauli_matrix
from qvae.circuits.library import qaoa
from qvae.errors import CircuitError
from qvae.testing.dense import dense_state

COST = [("ZZI", 0.7), ("IIZ", -0.4), ("ZZZ", 1.1), ("ZZI", 0.2), ("III", 5.0)]


def test_the_state_is_that_of_its_exponentials():
    weights = torch.tensor([0.3, 0.8, 0.5, 0.2]).double()
    cost = sum(coefficient * pauli_matrix(label) for label, coefficient in COST)
    mixer = sum(pauli_matrix(label) for label in ("XII", "IXI", "IIX"))
    state = torch.full((8,), 8**-0.5, dtype=torch.complex128)
    for gamma, beta in weights.view(2, 2).tolist():
        state = torch.matrix_exp(1j * beta * mixer) @ torch.matrix_exp(-1j * gamma * cost) @ state
    found = torch.from_numpy(dense_state(qaoa(COST, 2), weights))
    assert abs(torch.vdot(found, state)) == pytest.approx(1)  # up to the constant's phase


@pytest.mark.parametrize(
    ("cost", "words"), [([], "the cost has no terms"), ([("", 1.0)], "none with letters"), ([("ZX", 1.0)], "of Z and I alone")]
)
def test_what_is_no_cost(cost, words):
    with pytest.raises(CircuitError, match=words):
        qaoa(cost, 1)
