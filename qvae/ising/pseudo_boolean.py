"""Polynomials of bits, and quadratic ones in their place, whose minima an Ising machine can look for."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian

Monomial = frozenset[int]
"""Numbers of the bits that are multiplied; none of them for the constant."""

_NOTHING = 1e-12  # part of the largest coefficient below which one is a rounding error


class PseudoBoolean:
    """sum_T c_T prod_(i in T) z_i of bits z of 0 or 1; sums and products are such polynomials, since z z = z.

    Args:
        terms: coefficients by monomial: numbers, or tensors of one shape for as many polynomials at once.

    >>> a, b = PseudoBoolean.bit(0), PseudoBoolean.bit(1)
    >>> parity = a + b - 2 * a * b
    >>> parity.values(torch.tensor([[0, 0], [1, 0], [1, 1]])).tolist()
    [0.0, 1.0, 0.0]
    """

    def __init__(self, terms: Mapping[Monomial, Any]) -> None:
        self.terms = dict(terms)

    @classmethod
    def bit(cls, number: int) -> PseudoBoolean:
        """z_i alone."""
        return cls({frozenset([number]): 1.0})

    @property
    def num_bits(self) -> int:
        """One more than the highest number of a bit."""
        return max((max(monomial, default=-1) + 1 for monomial in self.terms), default=0)

    @property
    def degree(self) -> int:
        """Bits in the longest monomial."""
        return max(map(len, self.terms), default=0)

    def __add__(self, other: Any) -> PseudoBoolean:
        terms = dict(self.terms)
        for monomial, coefficient in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0.0) + coefficient
        return PseudoBoolean(terms)

    def __mul__(self, other: Any) -> PseudoBoolean:
        terms: dict[Monomial, Any] = {}
        for left, first in self.terms.items():
            for right, second in _terms(other).items():
                terms[left | right] = terms.get(left | right, 0.0) + first * second
        return PseudoBoolean(terms)

    __radd__, __rmul__ = __add__, __mul__

    def __neg__(self) -> PseudoBoolean:
        return self * -1.0

    def __sub__(self, other: Any) -> PseudoBoolean:
        return self + PseudoBoolean(_terms(other)) * -1.0

    def __rsub__(self, other: Any) -> PseudoBoolean:
        return -self + other

    def mean(self) -> PseudoBoolean:
        """Of the polynomials at once, one with numbers for coefficients, those that are only rounding errors left out."""
        means = {monomial: float(torch.as_tensor(coefficient).mean()) for monomial, coefficient in self.terms.items()}
        largest = max(map(abs, means.values()), default=0.0)
        return PseudoBoolean({monomial: mean for monomial, mean in means.items() if abs(mean) > _NOTHING * largest})

    def values(self, bits: Tensor) -> Tensor:
        """At bits (..., n) of 0 or 1, where coefficients are numbers: (...,), float64."""
        z = bits.double()
        total = z.new_zeros(z.shape[:-1])
        for monomial, coefficient in self.terms.items():
            total = total + coefficient * z[..., sorted(monomial)].prod(-1)
        return total

    def spin_terms(self) -> dict[Monomial, float]:
        """The same of spins s = 2 z - 1, where coefficients are numbers: c_T by the spins that are multiplied.

        >>> PseudoBoolean({frozenset([0, 1]): 4.0}).spin_terms()[frozenset([0, 1])]
        1.0
        """
        found: dict[Monomial, float] = {}
        for monomial, coefficient in self.terms.items():
            share = coefficient / 2 ** len(monomial)
            for size in range(len(monomial) + 1):
                for part in combinations(sorted(monomial), size):
                    found[frozenset(part)] = found.get(frozenset(part), 0.0) + share
        return found

    def quadratised(self, strength: float = 1.25) -> Quadratised:
        """A Hamiltonian of pairs that has the same minima, where coefficients are numbers: see :func:`with_products`.

        Args:
            strength: above 1, of the penalties.
        """
        (terms,), products = with_products([self], degree=2)
        return penalised(terms, products, self.num_bits, strength)


class MeanSquare(PseudoBoolean):
    """The mean of the squares of some polynomials, each with as many coefficients as there are rows.

    Args:
        errors: one or more.
    """

    def __init__(self, errors: Sequence[PseudoBoolean]) -> None:
        # Bits without effect are kept, so that those of a minimum are all there.
        nothing = {frozenset([bit]): 0.0 for bit in range(max(error.num_bits for error in errors))}
        super().__init__(nothing | _mean_square(errors).terms)
        self.errors = list(errors)

    def quadratised(self, strength: float = 1.25) -> Quadratised:
        """As of the class above: linear errors or quadratic squares, whichever needs fewer products."""
        linear, products = with_products(self.errors, degree=1)
        squares = penalised(_mean_square(linear), products, self.num_bits, strength)
        return min(squares, super().quadratised(strength), key=lambda found: len(found.products))


def _mean_square(errors: Sequence[PseudoBoolean]) -> PseudoBoolean:
    return (sum((error * error for error in errors), PseudoBoolean({})) * (1 / len(errors))).mean()


@dataclass(frozen=True)
class Quadratised:
    """An Ising Hamiltonian in the place of a polynomial.

    Attributes:
        hamiltonian: of bits and products as spins s = 2 z - 1, float64; spin i is bit i, and products follow.
        offset: the polynomial's value less the energy.
        num_bits: n, of the polynomial.
        products: pairs of bits, or of bits and earlier products; that of number k is spin n + k.
    """

    hamiltonian: IsingHamiltonian
    offset: float
    num_bits: int
    products: list[tuple[int, int]]


def with_products(polynomials: Sequence[PseudoBoolean], degree: int) -> tuple[list[PseudoBoolean], list[tuple[int, int]]]:
    """Polynomials of this degree, 1 or 2, in more bits: the most frequent pair in longer monomials becomes a bit of its own.

    Returns:
        The polynomials, and the pairs: number k is the product that bit n + k stands for.
    """
    number = max(polynomial.num_bits for polynomial in polynomials)
    found = [dict(polynomial.terms) for polynomial in polynomials]
    products: list[tuple[int, int]] = []
    while too_long := sorted({tuple(sorted(long)) for terms in found for long in terms if len(long) > degree}):
        pairs = Counter(pair for long in too_long for pair in combinations(long, 2))
        (first, second), _ = pairs.most_common(1)[0]
        product = number + len(products)
        products.append((first, second))
        for terms in found:
            for long in [long for long in terms if len(long) > degree and {first, second} <= long]:
                short = long - {first, second} | {product}
                terms[short] = terms.get(short, 0.0) + terms.pop(long)
    return [PseudoBoolean(terms) for terms in found], products


def penalised(polynomial: PseudoBoolean, products: Sequence[tuple[int, int]], num_bits: int, strength: float) -> Quadratised:
    """A quadratic polynomial, and penalties M (a b - 2 a p - 2 b p + 3 p) where bit p isn't the product a b it stands for.

    Rosenberg 1975; Boros and Hammer 2002, section 4.4. M is ``strength`` times the most that a wrong p can gain elsewhere, so
    that for any bits the energy is lowest where all products are right, and no minimum is lost or moved. The price are spins,
    and couplings much larger than those of the polynomial.
    """
    terms = defaultdict(float, polynomial.terms)
    # From the last product on, so that what a wrong one gains in the penalties of later ones is counted.
    for product, (first, second) in reversed(list(enumerate(products, num_bits))):
        with_it = [coefficient for monomial, coefficient in terms.items() if product in monomial]
        penalty = strength * max(sum(max(0.0, sign * coefficient) for coefficient in with_it) for sign in (1, -1))
        terms[frozenset([first, second])] += penalty
        terms[frozenset([first, product])] -= 2 * penalty
        terms[frozenset([second, product])] -= 2 * penalty
        terms[frozenset([product])] += 3 * penalty
    spins = PseudoBoolean(terms).spin_terms()
    fields = torch.zeros(num_bits + len(products), dtype=torch.float64)
    for monomial, coefficient in spins.items():
        if len(monomial) == 1:
            fields[next(iter(monomial))] = coefficient
    pairs = {tuple(sorted(monomial)): coefficient for monomial, coefficient in spins.items() if len(monomial) == 2}
    hamiltonian = IsingHamiltonian(fields, [*pairs], torch.tensor([*pairs.values()], dtype=torch.float64))
    return Quadratised(hamiltonian, spins.get(frozenset(), 0.0), num_bits, list(products))


def _terms(value: Any) -> Mapping[Monomial, Any]:
    return value.terms if isinstance(value, PseudoBoolean) else {frozenset(): value}
