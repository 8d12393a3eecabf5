"""log Z in closed form and of an RBM's smaller layer, against enumeration of all states."""

from __future__ import annotations

import math

import pytest
import torch

from qvae.ising.exact import exact_distribution
from qvae.ising.exact_partition import enumerate_rbm, product_log_partition
from qvae.ising.graphs import complete, rbm
from qvae.ising.hamiltonian import IsingHamiltonian


@pytest.mark.parametrize("sizes", [(6, 9), (9, 6), (1, 3), (3, 1)])
def test_enumeration_of_a_layer_is_enumeration(sizes: tuple[int, int], random_hamiltonian) -> None:
    hamiltonian = random_hamiltonian(rbm(*sizes), coupling=1.0)
    found = enumerate_rbm(hamiltonian)
    assert found.value == pytest.approx(exact_distribution(hamiltonian).log_z, abs=1e-10)
    assert found.stderr == 0.0
    assert found.method == f"enumeration of a layer's 2^{min(sizes)} states"


def test_enumeration_of_a_layer_in_chunks(random_hamiltonian) -> None:
    # 2^14 states against 2000 spins in the other layer: sixteen chunks.
    wide = random_hamiltonian(rbm(14, 2000), coupling=0.05)
    assert enumerate_rbm(wide).value == pytest.approx(plain_rbm_log_z(wide, 14), abs=1e-8)


def plain_rbm_log_z(hamiltonian: IsingHamiltonian, n1: int) -> float:
    h, J = hamiltonian.h.double(), hamiltonian.J.double().view(n1, -1)
    total = torch.tensor(-math.inf).double()
    states = torch.cartesian_prod(*[torch.tensor([-1.0, 1.0]).double()] * n1)
    for s in states.split(1000):
        field = s @ J + h[n1:]
        total = torch.logaddexp(total, torch.logsumexp(torch.logaddexp(field, -field).sum(1) - s @ h[:n1], 0))
    return float(total)


def test_closed_form() -> None:
    found = product_log_partition(IsingHamiltonian([0.3, -700.0], [], []))
    assert found.value == pytest.approx(math.log(2 * math.cosh(0.3)) + 700, abs=1e-4)
    assert (found.stderr, found.method) == (0.0, "closed form without couplings")
    assert product_log_partition(IsingHamiltonian([], [], [])).value == 0.0


def test_a_transverse_field_is_refused(random_hamiltonian) -> None:
    quantum = random_hamiltonian(rbm(2, 2), gamma=1.0)
    for function in (product_log_partition, enumerate_rbm):
        with pytest.raises(ValueError, match=r"use exact_distribution\(hamiltonian\).log_z, for at most 14 spins"):
            function(quantum)


def test_other_bad_input(random_hamiltonian) -> None:
    with pytest.raises(ValueError, match="there are 4"):
        product_log_partition(random_hamiltonian(rbm(2, 2)))
    with pytest.raises(ValueError, match="isn't an RBM"):
        enumerate_rbm(random_hamiltonian(complete(4)))
    with pytest.raises(ValueError, match="smaller layer has 26 spins"):
        enumerate_rbm(random_hamiltonian(rbm(26, 30)))
