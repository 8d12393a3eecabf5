"""Circuits of Pauli rotations on batches of state vectors, in torch: no matrices, and gradients without stored states."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

PauliString = tuple[str, tuple[int, ...]]
"""Letters X, Y, Z and the qubits they act on, as in Qiskit's ``SparsePauliOp.from_sparse_list``: ("YX", (0, 4))."""
_CACHED = 2**18  # amplitudes that stay in a CPU's cache from gate to gate: five times as fast as ten times as many


class PauliRotations:
    """U(theta) = exp(-i theta_T P_T / 2) ... exp(-i theta_1 P_1 / 2): the first string acts first.

    Amplitude b of a state is that of the basis state in which qubit q is bit q of b (little-endian, as in Qiskit).
    Consecutive strings that flip the same qubits and commute are applied in one pass: they differ by strings of Z alone, so
    their angles add up to one angle for each value of the bits under those Z. Where every string has an odd number of Y,
    all the rotations are real matrices and real states stay real.

    Args:
        num_qubits: N.
        strings: one for each angle.
        dtype: float32 or float64, of angles and real states.
        device: of the tables, hence of angles and states.

    Raises:
        ValueError: a string has other letters, or names a qubit twice or outside 0..N-1.

    >>> bell = PauliRotations(2, [("XY", (0, 1))])
    >>> bell(torch.tensor([0.5 * torch.pi]).double(), bell.zero_state()).round(decimals=3).tolist()
    [0.707, 0.0, 0.0, 0.707]
    """

    def __init__(
        self,
        num_qubits: int,
        strings: Sequence[PauliString],
        dtype: torch.dtype = torch.float64,
        device: torch.device | str | None = None,
    ) -> None:
        masks = [_masks(letters, qubits, num_qubits) for letters, qubits in strings]
        self.num_qubits = num_qubits
        self.num_angles = len(masks)
        self.device = torch.device(device or "cpu")
        self.is_real = all((x & z).bit_count() % 2 == 1 for x, z in masks)
        self.dtype = dtype if self.is_real else dtype.to_complex()
        self._groups = []
        start = 0
        for stop in range(1, len(masks) + 1):
            if stop == len(masks) or not _merge(masks[start], masks[stop]):
                self._groups.append(_Group.of(num_qubits, masks[start:stop], start, dtype, self.dtype, self.device))
                start = stop

    def zero_state(self) -> Tensor:
        """|0...0>, (2**N,)."""
        state = torch.zeros(2**self.num_qubits, dtype=self.dtype, device=self.device)
        state[0] = 1
        return state

    def __call__(self, angles: Tensor, state: Tensor) -> Tensor:
        """U(angles) |state>, for angles (..., T) and states (..., 2**N), whose leading dimensions broadcast.

        Differentiable once in both. The gradient runs the circuit backwards from its final state instead of keeping those
        between the gates (the adjoint method, Jones and Gacon 2020, arXiv:2009.02823).
        """
        lead = torch.broadcast_shapes(angles.shape[:-1], state.shape[:-1])
        rows = angles.expand(*lead, -1).reshape(lead.numel(), self.num_angles)
        states = state.to(self.dtype).expand(*lead, -1).reshape(lead.numel(), -1)
        return _Apply.apply(rows, states, self).view(*lead, -1)

    @torch.no_grad()
    def jacobian(self, angles: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
        """U |state>, (2**N,), and its derivatives by every angle, (T, 2**N), for angles (T,) and one state (2**N,)."""
        turns = [group.turn(angles.unsqueeze(0)) for group in self._groups]
        reached, derivatives = state.to(self.dtype).unsqueeze(0), []
        for index, (group, turn) in enumerate(zip(self._groups, turns, strict=True)):
            reached = group.rotate(reached, group.generate(reached), *turn)
            for rows in group.derivatives(reached[0]).split(max(1, _CACHED // len(state))):
                for later, its_turn in zip(self._groups[index + 1 :], turns[index + 1 :], strict=True):
                    rows = later.rotate(rows, later.generate(rows), *its_turn)
                derivatives.append(rows)
        return reached[0], torch.cat(derivatives)


@dataclass(frozen=True)
class _Group:
    """Rotations P_k = P_0 D_k, D_k diagonal, applied as exp(A M / 2), with A = sum_k theta_k D_k and M = -i P_0.

    Attributes:
        start, stop: their angles.
        shape, flipped: a view of one state in which ``flipped`` are the dimensions that P_0 flips.
        phases: M |b> = phases |b flipped>, read at the result, as a function of the lowest bits, (1, 2**k).
        signs: D_k as a function of the lowest bits, (stop - start, 2**k).
    """

    start: int
    stop: int
    shape: tuple[int, ...]
    flipped: tuple[int, ...]
    phases: Tensor
    signs: Tensor

    @staticmethod
    def of(
        num_qubits: int,
        masks: list[tuple[int, int]],
        start: int,
        real: torch.dtype,
        dtype: torch.dtype,
        device: torch.device,
    ) -> _Group:
        """The group of strings with these masks (flips, Z or Y); its first angle is number ``start``."""
        flips, first = masks[0]
        number_y = (flips & first).bit_count()
        # P|c> = i^y (-1)^(z.c) |c ^ flips>, read at b = c ^ flips; and y = |z & flips|.
        scale = (-1j) * (1j) ** number_y * (-1) ** number_y
        phases = parity_signs([first], first.bit_length()).to(device) * (scale.real if dtype == real else scale)
        # D_k = i^(y_k - y_0) Z-string; y_k - y_0 is even where P_0 and P_k commute.
        turns = torch.tensor([1 - ((flips & z).bit_count() - number_y) % 4 for _, z in masks], device=device)
        differences = [z ^ first for _, z in masks]
        signs = parity_signs(differences, max(map(int.bit_length, differences))).to(device) * turns.unsqueeze(1)
        shape, dims, high = [-1], [], num_qubits
        for qubit in reversed(range(num_qubits)):
            if flips >> qubit & 1:
                shape += [2 ** (high - qubit - 1), 2]
                dims.append(len(shape) - 1)
                high = qubit
        return _Group(start, start + len(masks), (*shape, 2**high), tuple(dims), phases.to(dtype), signs.to(real))

    def turn(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """cos(A/2) and sin(A/2), (rows, 1, 2**k)."""
        half = (0.5 * angles[:, self.start : self.stop] @ self.signs).unsqueeze(1)
        return half.cos(), half.sin()

    def generate(self, states: Tensor) -> Tensor:
        """M |states>, (rows, 2**N)."""
        flipped = states.view(self.shape).flip(self.flipped).view(len(states), -1, self.phases.shape[1])
        return flipped.mul_(self.phases).view_as(states)

    def rotate(self, states: Tensor, generated: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """exp(A M / 2) |states>, given M |states>."""
        lowest = (len(states), -1, self.signs.shape[1])
        return torch.addcmul(states.view(lowest) * cos, generated.view(lowest), sin).view_as(states)

    def derivatives(self, state: Tensor) -> Tensor:
        """d|state> / d theta_k = D_k M |state> / 2 of the state (2**N,) after the rotation, (stop - start, 2**N)."""
        generated = self.generate(state.unsqueeze(0)).view(1, -1, self.signs.shape[1])
        return (0.5 * generated * self.signs.unsqueeze(1)).flatten(1)

    def gradients(self, dual: Tensor, generated: Tensor) -> Tensor:
        """Re <dual| D_k M |states> / 2 after the rotation, given M |states>, (rows, stop - start)."""
        overlap = (dual.conj() * generated).real.view(len(dual), -1, self.signs.shape[1]).sum(1)
        return 0.5 * overlap @ self.signs.T


class _Apply(torch.autograd.Function):
    """All groups in a row; backwards, states and their duals are rotated back together."""

    @staticmethod
    def forward(ctx: Any, angles: Tensor, states: Tensor, circuit: PauliRotations) -> Tensor:
        for group in circuit._groups:
            states = group.rotate(states, group.generate(states), *group.turn(angles))
        ctx.circuit = circuit
        ctx.save_for_backward(angles, states)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor, Tensor, None]:
        angles, states = ctx.saved_tensors
        gradient = torch.empty_like(angles)
        dual = dual.contiguous()
        for group in reversed(ctx.circuit._groups):
            cos, sin = group.turn(angles)
            generated = group.generate(states)
            gradient[:, group.start : group.stop] = group.gradients(dual, generated)
            states = group.rotate(states, generated, cos, -sin)
            dual = group.rotate(dual, group.generate(dual), cos, -sin)
        return gradient, dual, None


def _masks(letters: str, qubits: Sequence[int], num_qubits: int) -> tuple[int, int]:
    """Bits of the qubits a string flips (X or Y), and of those it gives a sign (Z or Y)."""
    if len(letters) != len(qubits) or set(letters) - set("XYZ"):
        raise ValueError(f"the Pauli string {letters!r} on qubits {tuple(qubits)} needs one letter X, Y or Z for each qubit")
    if len(set(qubits)) < len(qubits) or any(not 0 <= qubit < num_qubits for qubit in qubits):
        named = f"the Pauli string {letters!r} names qubits {tuple(qubits)}"
        raise ValueError(f"{named}; they must differ and be in 0..{num_qubits - 1}")
    return pauli_masks(zip(qubits, letters, strict=True))


def pauli_masks(string: Iterable[tuple[int, str]]) -> tuple[int, int]:
    """Of bits with their letters: those that a Pauli string flips (X or Y), and those to which it gives signs (Z or Y)."""
    pairs = list(string)
    return sum(1 << bit for bit, letter in pairs if letter != "Z"), sum(1 << bit for bit, letter in pairs if letter != "X")


def _merge(first: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether two strings flip the same qubits and commute."""
    return first[0] == other[0] and ((first[1] ^ other[1]) & first[0]).bit_count() % 2 == 0


def parity_signs(masks: Sequence[int], num_bits: int) -> Tensor:
    """(-1)^(mask . b) for all values b of so many bits, (len(masks), 2**num_bits), int64."""
    parity = torch.tensor(masks).unsqueeze(1) & torch.arange(1 << num_bits)
    for shift in (32, 16, 8, 4, 2, 1):
        parity = parity ^ parity >> shift
    return 1 - 2 * (parity & 1)
