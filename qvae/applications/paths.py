"""Ways from one latent code to another: the straight one, and one through the prior's own landscape."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.ising.hamiltonian import IsingHamiltonian

_FLAT = 1e-6  # radians between two real codes, below which a great circle is a point


def straight_order(start: Tensor, end: Tensor) -> Tensor:
    """The order in which bits flip on the straight line between two codes' logits (n,), of those that do, (d,).

    Bit i flips where (1 - t) start_i + t end_i crosses 0.
    """
    crossing = start / (start - end)
    flipping = ((start > 0) != (end > 0)).nonzero().squeeze(1)
    return flipping[crossing[flipping].argsort(stable=True)]


def lowest_order(hamiltonian: IsingHamiltonian, start: Tensor, end: Tensor, width: int) -> Tensor:
    """An order of flips from spins ``start`` to ``end`` (n,), of those that differ, (d,), whose highest energy is low.

    A beam search, from either end: of all sets of flips that are one flip longer, the ``width`` with the lowest barrier go on,
    and among equal barriers those with the lowest sum of energies. It is exact once ``width`` is the number of sets of one
    size; with a width of 1 it is the greedy descent.

    Args:
        hamiltonian: without a transverse field, or its diagonal part.
        start: -1 or +1.
        end: the same.
        width: 1 or more.
    """
    forward, backward = _beam(hamiltonian, start, end, width), _beam(hamiltonian, end, start, width).flip(0)
    peaks = [float(energies_along(hamiltonian, start, order).max()) for order in (forward, backward)]
    return forward if peaks[0] <= peaks[1] else backward


def _beam(hamiltonian: IsingHamiltonian, start: Tensor, end: Tensor, width: int) -> Tensor:
    differing = (start != end).nonzero().squeeze(1)
    # A set of flips is known by the sum of its members' numbers.
    numbers = torch.randint(2**62, (len(differing),), generator=torch.Generator().manual_seed(0)).to(start.device)
    spins = start.to(hamiltonian.h).unsqueeze(0)
    energy = hamiltonian.energy(spins)
    peak, total = energy, torch.zeros_like(energy)
    orders, keys = differing.new_empty(1, 0), numbers.new_zeros(1)
    for _ in range(len(differing)):
        after = energy.unsqueeze(1) - 2 * (spins * hamiltonian.local_fields(spins))[:, differing]
        is_free = (spins == start)[:, differing]
        parent, flip = is_free.nonzero().T
        after = after[parent, flip]
        peaks, totals = torch.maximum(peak[parent], after), total[parent] + after
        best = totals.argsort(stable=True)
        best = best[peaks[best].argsort(stable=True)]
        found = (keys[parent] + numbers[flip])[best]
        best = best[_firsts(found)][:width]
        parent, flip = parent[best], flip[best]
        spins = spins[parent].clone()
        spins[torch.arange(len(best), device=spins.device), differing[flip]] *= -1
        energy, peak, total = after[best], peaks[best], totals[best]
        keys = keys[parent] + numbers[flip]
        orders = torch.cat([orders[parent], differing[flip].unsqueeze(1)], 1)
    return orders[0]


def _firsts(values: Tensor) -> Tensor:
    """Places of values (N,) that have not stood there before, in their order."""
    order = values.argsort(stable=True)
    found = values[order]
    is_first = torch.ones_like(found, dtype=torch.bool)
    is_first[1:] = found[1:] != found[:-1]
    return order[is_first].sort().values


def states_along(start: Tensor, order: Tensor) -> Tensor:
    """Spins after each of the flips, the ``start`` (n,) first, (d + 1, n)."""
    steps = torch.arange(len(order) + 1, device=start.device).unsqueeze(1)
    when = torch.full_like(start, len(order) + 1, dtype=torch.int64)
    when[order] = steps[1:, 0]
    return torch.where(steps >= when, -start, start)


def energies_along(hamiltonian: IsingHamiltonian, start: Tensor, order: Tensor) -> Tensor:
    """Energies of :func:`states_along`, (d + 1,)."""
    return hamiltonian.energy(states_along(start, order).to(hamiltonian.h))


def great_circle(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Real codes between two (n,), (steps, n): their direction turns evenly, and their length changes evenly.

    A normal prior's mass lies in a shell that a straight line leaves (White 2016, arXiv:1609.04468).
    """
    t = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype).unsqueeze(1)
    lengths = torch.lerp(start.norm(), end.norm(), t)
    a, b = start / start.norm().clamp_min(1e-12), end / end.norm().clamp_min(1e-12)
    angle = torch.arccos((a @ b).clamp(-1, 1))
    if not _FLAT < float(angle) < torch.pi - _FLAT:
        return torch.lerp(start, end, t)
    return lengths * ((torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle))
