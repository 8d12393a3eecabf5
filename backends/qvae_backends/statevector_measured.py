"""Expectations of Pauli sums on batches of state vectors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from qvae.circuits.paulis import PauliSum, support
from qvae.circuits.statevector import parity_signs, pauli_masks
from qvae_backends.statevector_fusion import GatherStep, Plan, inverse_of, linear_index


class Measurement:
    """<O_k> of states (2**n, W) at the end of a plan, real, (W, K).

    Strings of Z alone need the probabilities only, so that a permutation of basis states just before the measurement needn't
    be made: on most of them, as of CNOTs, it turns strings into strings.

    Args:
        observables: K Pauli sums.
        plan: of the circuit.
        like: gives device and real dtype.

    Attributes:
        last: number of the plan's steps that come before the measurement.
    """

    def __init__(self, observables: Sequence[PauliSum], plan: Plan, like: Tensor) -> None:
        labels = list(dict.fromkeys(label for terms in observables for label, _ in terms))
        masks = {label: pauli_masks((plan.place[qubit], letter) for qubit, letter in support(label)) for label in labels}
        self.last = len(plan.steps)
        if plan.steps and isinstance(plan.steps[-1], GatherStep) and not any(flips for flips, _ in masks.values()):
            before = _before({label: mask for label, (_, mask) in masks.items()}, plan.steps[-1].index)
            if before is not None:
                self.last -= 1
                masks = {label: (0, mask) for label, mask in before.items()}
        self._parts = []
        order = []
        for flips in dict.fromkeys(flips for flips, _ in masks.values()):
            own = [label for label in labels if masks[label][0] == flips]
            order += own
            self._parts.append(_Strings(flips, [masks[label][1] for label in own], plan, like))
        coefficients = like.new_zeros(len(observables), len(labels))
        for row, terms in zip(coefficients, observables, strict=True):
            for label, weight in terms:
                row[order.index(label)] += weight
        self._coefficients = coefficients

    def __call__(self, states: Tensor) -> Tensor:
        found = [part(states) for part in self._parts]
        return (self._coefficients @ (torch.cat(found) if len(found) > 1 else found[0])).T


class _Strings:
    """Pauli strings that flip the same bits, (T, W)."""

    def __init__(self, flips: int, masks: list[int], plan: Plan, like: Tensor) -> None:
        number, lower = plan.num_qubits, plan.num_qubits // 2
        indices = torch.arange(2**number)
        self._flipped = (indices ^ flips).to(like.device) if flips else None
        # P|c> = i^y (-1)^(mask . c) |c ^ flips>, with y letters Y: of conj(psi_b) psi_(b ^ flips) the real or imaginary part.
        turns = torch.tensor([(flips & mask).bit_count() % 4 for mask in masks])
        self._imaginary = (turns % 2 == 1).to(like.device)
        self._is_real = not bool((turns % 2 == 1).any())  # asked here, since the device would have to be waited for
        # i^y is 1, i, -1, -i, of which Re(i w) = -Im w; and (-1)^y comes of reading the mask at b in place of c.
        factors = like.new_tensor([1.0, 1.0, -1.0, -1.0])[turns]
        low = [mask % 2**lower for mask in masks]
        kinds = list(dict.fromkeys(low))
        self._low = parity_signs(kinds, lower).to(like)
        self._kind = torch.tensor([kinds.index(mask) for mask in low], device=like.device)
        self._high = (parity_signs([mask >> lower for mask in masks], number - lower).to(like).T * factors).unsqueeze(2)

    def __call__(self, states: Tensor) -> Tensor:
        if self._flipped is None:
            # Real and imaginary parts are added up after the sums over states, when little is left of them.
            parts = torch.view_as_real(states).flatten(1)
            return self._sums(parts * parts).unflatten(1, (-1, 2)).sum(2)
        product = states.conj() * states.index_select(0, self._flipped)
        if self._is_real:
            return self._sums(product.real)
        return torch.where(self._imaginary.unsqueeze(1), self._sums(product.imag), self._sums(product.real))

    def _sums(self, numbers: Tensor) -> Tensor:
        """Sums over all basis states with each string's signs, low bits first."""
        rows = numbers.reshape(self._high.shape[0], self._low.shape[1], -1)
        partial = torch.matmul(self._low, rows)
        return (partial.index_select(1, self._kind) * self._high).sum(0)


def _before(masks: dict[str, int], index: Tensor) -> dict[str, int] | None:
    """The strings of Z before a permutation that are ``masks`` after it; None where it turns them into no strings.

    A linear map of bits does: then (-1)^(mask . b) at the state b to which c came is (-1)^(found . c).
    """
    came_to = inverse_of(index)
    images = [int(came_to[1 << bit]) for bit in range(len(index).bit_length() - 1)]
    if not torch.equal(came_to, linear_index(images)):
        return None
    return {
        label: sum(((image & mask).bit_count() & 1) << bit for bit, image in enumerate(images)) for label, mask in masks.items()
    }
