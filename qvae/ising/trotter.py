"""How many slices of imaginary time: the Trotter error of P slices, and the fewest that keep it small."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from qvae.ising.exact import MAX_QUANTUM_SPINS
from qvae.ising.free_spin import FreeSpin
from qvae.ising.hamiltonian import IsingHamiltonian

_SLICES = (2, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
_COLLECTIVE = 3.0  # couplings raised the error of one spin by up to 2.9 on rings, complete and bipartite graphs of 8
_WORST_FIELD = 1.2  # plus gamma: there the error of one spin is largest, to a tenth of it
_FEWEST_TO_EXTRAPOLATE = 8  # what P/2 slices would give is told by the kinks that samples have
_LARGEST_ANGLE = 2.0  # gamma / P: beyond it neighbouring slices know nothing of each other, and errors don't fall as P^-2 yet
_REMEDY = f"take weaker fields, the exact method for up to {MAX_QUANTUM_SPINS} spins, or set slices yourself"


def estimate_trotter_error(hamiltonian: IsingHamiltonian, slices: int) -> float:
    """About the largest error that so many slices P make in <s_i> and <s_i s_j>; it falls as P^-2.

    Three times that of one spin alone, which has a closed form, in a field as large as that of its neighbours, the root of
    h_i^2 + sum_j J_ij^2, or where that is more, in the field where the error is largest: neighbours may cancel. Couplings
    multiplied the error of one spin by at most 2.9 in all systems of 2 to 9 spins that were diagonalized; close to a phase
    transition of a large one it may be more.

    >>> H = IsingHamiltonian([0.5, 0.0], [(0, 1)], [-1.0], gamma=1.0)
    >>> [round(estimate_trotter_error(H, slices), 4) for slices in (4, 8, 16)]
    [0.0333, 0.0084, 0.0021]
    """
    return float(_trotter_errors(hamiltonian, torch.tensor([slices])))


def choose_slices(hamiltonian: IsingHamiltonian, error: float = 0.005) -> int:
    """The fewest slices of 2, 4, 6, 8, 12, 16, 24, ... 1024 whose estimated Trotter error is at most ``error``.

    1 without a transverse field.

    Raises:
        ValueError: 1024 slices aren't enough.

    >>> [choose_slices(IsingHamiltonian([1.0], [], [], gamma)) for gamma in (0.0, 0.1, 1.0, 3.0)]
    [1, 2, 12, 24]
    """
    if not hamiltonian.is_quantum:
        return 1
    enough = (_trotter_errors(hamiltonian, torch.tensor(_SLICES)) <= error).tolist()
    if True not in enough:
        field, left = float(hamiltonian.gamma.max()), estimate_trotter_error(hamiltonian, _SLICES[-1])
        raise ValueError(
            f"a transverse field of {field:g} needs more than {_SLICES[-1]} slices of imaginary time for a Trotter error of "
            f"{error:g}, where {_SLICES[-1]} leave {left:.1g}; {_REMEDY}"
        )
    return _SLICES[enough.index(True)]


def slices_to_extrapolate(hamiltonian: IsingHamiltonian, slices: int | None = None) -> int:
    """``slices`` if what they give can be extrapolated to infinitely many, and if None as many as that takes.

    Those are of :func:`choose_slices`, but no fewer than 8, so that samples tell what half as many would give, and no fewer
    than half the transverse field, where the error begins to fall as P^-2.

    Raises:
        ValueError: it isn't an even whole number, 2 or more, it is less than half the field, or 1024 slices aren't enough.
    """
    least = float(hamiltonian.gamma.max()) / _LARGEST_ANGLE if hamiltonian.is_quantum else 0.0
    if slices is not None:
        if checked_slices(slices, hamiltonian.is_quantum) < least:
            raise ValueError(
                f"slices is {slices}, but a transverse field of {_LARGEST_ANGLE * least:g} takes {math.ceil(least)} or more: "
                "with fewer, an extrapolation to infinitely many is wrong"
            )
        return slices
    if least > _SLICES[-1]:
        raise ValueError(
            f"a transverse field of {_LARGEST_ANGLE * least:g} needs {math.ceil(least)} slices of imaginary time, but no more "
            f"than {_SLICES[-1]} are taken; {_REMEDY}"
        )
    enough = max(_FEWEST_TO_EXTRAPOLATE, choose_slices(hamiltonian), least)
    return next(slices for slices in _SLICES if slices >= enough)


def checked_slices(slices: int, quantum: bool) -> int:
    """``slices`` if a transverse field is split into so many, 1 if there is none.

    Raises:
        ValueError: it isn't an even whole number, 2 or more.
    """
    if not quantum:
        return 1
    if isinstance(slices, bool) or not isinstance(slices, int) or slices < 2 or slices % 2:
        raise ValueError(f"slices is {slices!r}; it must be an even whole number, 2 or more")
    return slices


def _trotter_errors(hamiltonian: IsingHamiltonian, slices: Tensor) -> Tensor:
    """The estimate for each number of slices."""
    hamiltonian = hamiltonian.detach().to(dtype=torch.float64)
    if not hamiltonian.is_quantum:
        return torch.zeros(len(slices))
    i, j = hamiltonian.edges.T
    squares = hamiltonian.J.square()
    field = hamiltonian.h.square().index_add(0, i, squares).index_add(0, j, squares).sqrt()
    field = field.minimum(_WORST_FIELD + hamiltonian.gamma)
    spin = FreeSpin(field, hamiltonian.gamma, slices.to(field).unsqueeze(1))
    return _COLLECTIVE * (spin.mean() - FreeSpin(field, hamiltonian.gamma).mean()).abs().amax(1)
