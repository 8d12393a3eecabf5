"""Polynomials of bits against plain arithmetic on all bits, and their Hamiltonians against enumeration."""

from itertools import product

import pytest
import torch

from qvae.ising import pseudo_boolean as module
from qvae.ising.pseudo_boolean import MeanSquare, PseudoBoolean

A, B, C, D, E = (PseudoBoolean.bit(number) for number in range(5))


def states(number):
    return torch.tensor(list(product([0, 1], repeat=number)))


def test_arithmetic_is_that_of_numbers():
    polynomial = (1 - A) * (B + 2 * C - 3) * (A + C) * (B + 2 * C - 3) - 0.5 * D
    a, b, c, d = states(4).double().unbind(1)
    expected = (1 - a) * (b + 2 * c - 3) * (a + c) * (b + 2 * c - 3) - 0.5 * d
    assert torch.equal(polynomial.values(states(4)), expected)
    assert (polynomial.num_bits, polynomial.degree) == (4, 3)
    assert (PseudoBoolean({}).num_bits, (A * 0 + 3).values(states(1)).tolist()) == (0, [3, 3])


def test_spins_have_the_same_values():
    polynomial = 2 * A * B * C - B * D + 0.25
    spins = 2 * states(4) - 1
    found = sum(value * spins[:, sorted(monomial)].double().prod(1) for monomial, value in polynomial.spin_terms().items())
    assert torch.allclose(found, polynomial.values(states(4)))


def random_polynomial(seed, number=5):
    generator = torch.Generator().manual_seed(seed)
    terms = (torch.randn((), generator=generator) * (torch.rand((), generator=generator) < 0.6) for _ in range(2**number))
    return PseudoBoolean(
        {frozenset(i for i in range(number) if mask >> i & 1): float(value) for mask, value in enumerate(terms)}
    )


def random_squares(seed):
    """Squares of two rows and two polynomials of degree 3."""
    generator = torch.Generator().manual_seed(seed)
    coefficients = iter(torch.randn(20, 2, generator=generator, dtype=torch.float64))
    return MeanSquare([bit * B * C * next(coefficients) - bit * D * next(coefficients) + next(coefficients) for bit in (A, E)])


def lowest_energies(quadratised):
    """Of all states of the products, for each state of the bits."""
    energies = quadratised.hamiltonian.energy(2.0 * states(quadratised.hamiltonian.num_spins) - 1) + quadratised.offset
    return energies.view(2**quadratised.num_bits, -1).min(1).values


@pytest.mark.parametrize("make", [random_polynomial, random_squares])
@pytest.mark.parametrize("seed", range(4))
def test_the_lowest_energy_of_the_products_is_the_value(make, seed):
    polynomial = make(seed)
    quadratised = polynomial.quadratised()
    assert len(quadratised.products) > 0
    assert torch.allclose(lowest_energies(quadratised), polynomial.values(states(5)), atol=1e-6)


def test_weak_penalties_lose_the_minimum():
    polynomial = random_polynomial(0)
    weak = lowest_energies(polynomial.quadratised(strength=0.3))
    assert (weak < polynomial.values(states(5)) - 1e-3).any()


@pytest.mark.parametrize("make", [random_polynomial, random_squares])
def test_penalties_have_the_strength_that_is_asked_for_in_whatever_way_products_are_found(make, monkeypatch):
    asked, penalised = [], module.penalised

    def recorded(polynomial, products, num_bits, strength):
        asked.append(strength)
        return penalised(polynomial, products, num_bits, strength)

    monkeypatch.setattr(module, "penalised", recorded)
    make(0).quadratised(2.5)
    make(0).quadratised()
    ways = 2 if make is random_squares else 1
    assert asked == ways * [2.5] + ways * [1.25]


def test_quadratic_polynomials_need_no_more_spins():
    quadratised = (A * B - 2 * B + C * A).quadratised()
    assert quadratised.products == []
    assert torch.allclose(lowest_energies(quadratised), (A * B - 2 * B + C * A).values(states(3)))


def test_what_is_left_out_of_a_mean_is_small_beside_the_largest_coefficient():
    pair = torch.tensor([1.0, -1.0], dtype=torch.float64)
    for unit in (1e-20, 1.0, 1e20):
        mean = ((3.0 * A - 1e-6 * B + C * (pair + 1e-16)) * unit).mean()
        assert mean.terms == {frozenset([0]): pytest.approx(3.0 * unit), frozenset([1]): pytest.approx(-1e-6 * unit)}
    assert (A * pair).mean().terms == {}


def test_squares_are_averaged_over_rows_and_polynomials():
    rows = torch.tensor([0.5, -2.0])
    squares = MeanSquare([A * B * rows - 1, C * rows])
    a, b, c = (bits.unsqueeze(1) for bits in states(3).unbind(1))
    expected = ((a * b * rows - 1).square().mean(1) + (c * rows).square().mean(1)) / 2
    assert torch.allclose(squares.values(states(3)), expected.double())
