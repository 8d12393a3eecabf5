"""Sliced evolutions against matrix exponentials."""

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.gates import pauli_matrix
from qvae.circuits.library import evolution
from qvae.errors import CircuitError


def test_the_error_falls_as_the_square_of_the_slices():
    strings, weights = ["XYZ", "ZIX", "IYI", "IZZ"], torch.tensor([[0.8, -1.1, 0.5, 1.7]], dtype=torch.float64)
    exponent = sum(weight * pauli_matrix(label) for weight, label in zip(weights[0], strings, strict=True))
    exact = torch.linalg.matrix_exp(-0.5j * exponent)[:, 0]
    infidelities = []
    for slices in (4, 8):
        found = StatevectorExecutor().amplitudes(evolution(strings, slices), weights)[0]
        infidelities.append(1 - float((exact.conj() @ found).abs()) ** 2)
    assert infidelities[0] / infidelities[1] == pytest.approx(16, rel=0.2)  # of probability, which goes by the error's square
    assert infidelities[1] < 1e-3


def test_strings_that_commute_need_one_slice():
    weights = torch.tensor([[0.8, -1.1]], dtype=torch.float64)
    exponent = weights[0, 0] * pauli_matrix("XX") + weights[0, 1] * pauli_matrix("YY")
    exact = torch.linalg.matrix_exp(-0.5j * exponent)[:, 0]
    found = StatevectorExecutor().amplitudes(evolution(["XX", "YY"], 1), weights)[0]
    assert float((exact.conj() @ found).abs()) == pytest.approx(1, abs=1e-12)


def test_the_identity_is_a_phase_that_nothing_sees():
    circuit = evolution(["II", "ZX"], 1)
    assert circuit.num_weights == 2
    assert {angle.index for gate in circuit.gates for angle in gate.angles} == {1}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [((["ZX", "Z"],), "must have 2 letters"), (([],), "no terms"), ((["ZX"], 0), "has 0 layers")],
)
def test_what_is_no_evolution_is_refused(arguments, problem):
    with pytest.raises(CircuitError, match=problem):
        evolution(*arguments)
