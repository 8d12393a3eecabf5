"""Matrices of a plan from the weights: all gates of a kind, and all steps of a form, in one go."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Gate
from qvae.circuits.gates import GATES, gate_matrix, pauli_matrix
from qvae_backends.statevector_fusion import MatrixStep, linear_index
from qvae_backends.statevector_items import Item

Angle = float | Affine


class Angles:
    """Angles scale * parameter + offset, (A, W), of parameters (C, W).

    Args:
        angles: numbers, or following parameters from ``first`` on.
        first: number of the parameter in row 0.
        like: gives device and dtype.
    """

    def __init__(self, angles: Sequence[Angle], first: int, like: Tensor) -> None:
        following = [angle for angle in angles if isinstance(angle, Affine)]
        self.are_fixed = not following
        index = [angle.index - first if isinstance(angle, Affine) else 0 for angle in angles]
        scales = [angle.scale if isinstance(angle, Affine) else 0.0 for angle in angles]
        offsets = [angle.offset if isinstance(angle, Affine) else float(angle) for angle in angles]
        self._index = torch.tensor(index, dtype=torch.int64, device=like.device)
        self._scales, self._offsets = (like.new_tensor(numbers).unsqueeze(1) for numbers in (scales, offsets))

    def __call__(self, parameters: Tensor) -> Tensor:
        if self.are_fixed:
            return self._offsets
        return torch.addcmul(self._offsets, parameters.index_select(0, self._index), self._scales)


class GateTable:
    """Matrices of all gates on as many qubits, (N, 2**k, 2**k), the last of them the identity.

    Args:
        gates: on k qubits each; qubits don't matter, and equal gates have one matrix.
        first: number of the first weight among the circuit's parameters.
        like: gives device and real dtype.
    """

    def __init__(self, gates: Sequence[Gate], num_qubits: int, first: int, like: Tensor) -> None:
        following: dict[str, list[Gate]] = {}
        fixed: list[Gate] = []
        for gate in dict.fromkeys(gate._replace(qubits=()) for gate in gates):
            if any(isinstance(angle, Affine) for angle in gate.angles):
                following.setdefault("rotation" if GATES[gate.name].letters else gate.name, []).append(gate)
            else:
                fixed.append(gate)
        self.identity = len(fixed)
        own = [_fixed_matrix(gate) for gate in fixed] + [torch.eye(2**num_qubits, dtype=torch.complex128)]
        self._fixed = torch.stack(own).to(like.device, like.dtype.to_complex())
        self._kinds = [
            (kind, Angles([angle for gate in members for angle in gate.angles], first, like))
            for kind, members in following.items()
        ]
        ordered = [*fixed, None, *(gate for members in following.values() for gate in members)]
        self._places = {gate: place for place, gate in enumerate(ordered)}
        rotations = [-1j * pauli_matrix(GATES[gate.name].letters) for gate in following.get("rotation", [])]
        self._generators = torch.stack(rotations or own).to(self._fixed)
        self._identity = self._fixed[self.identity]

    def __len__(self) -> int:
        return len(self._places)

    def place(self, gate: Gate) -> int:
        """Which of the matrices is the gate's."""
        return self._places[gate._replace(qubits=())]

    def __call__(self, weights: Tensor) -> Tensor:
        """At the weights (W, 1)."""
        parts = [self._fixed]
        for kind, angles in self._kinds:
            found = angles(weights)
            if kind == "rotation":
                half = (0.5 * found).unsqueeze(2)
                parts.append(half.cos() * self._identity + half.sin() * self._generators)
            else:
                columns = found.view(-1, GATES[kind].num_angles).unbind(1)
                parts.append(gate_matrix(kind, list(columns), like=weights))
        return torch.cat(parts) if len(parts) > 1 else self._fixed


def _fixed_matrix(gate: Gate) -> Tensor:
    double = torch.zeros((), dtype=torch.float64)
    return gate_matrix(gate.name, [double.new_tensor(angle) for angle in gate.angles], like=double)


class Matrices:
    """The matrices of a plan's steps and product state.

    Args:
        runs: products of one-qubit gates outside of steps, as in the stages of a product state.
        steps: whose matrices are wanted.
        first: number of the first weight among the circuit's parameters.
        like: gives device and real dtype.
    """

    def __init__(self, runs: Sequence[tuple[Gate, ...]], steps: Sequence[MatrixStep], first: int, like: Tensor) -> None:
        items = [item for step in steps for item in step.items]
        single = [*runs, *(item.gates for item in items if len(item.qubits) == 1)]
        self._runs = {run: number for number, run in enumerate(dict.fromkeys([(), *map(_nameless, single)]))}
        by_size = {size: [item.gates[0] for item in items if len(item.qubits) == size] for size in (2, 3, 4)}
        by_size[1] = [gate for run in self._runs for gate in run]
        sizes = [size for size in (1, 2, 3, 4) if by_size[size] or size == 1]
        self._tables = {size: GateTable(by_size[size], size, first, like) for size in sizes}
        table, longest = self._tables[1], max(1, *map(len, self._runs))
        padded = [[table.place(gate) for gate in run] + [table.identity] * (longest - len(run)) for run in self._runs]
        self._factors = torch.tensor(padded, dtype=torch.int64, device=like.device).T.contiguous()
        bits = sorted({step.size for step in steps})
        self._products = [_Products([step for step in steps if step.size == size], self._numbered, like) for size in bits]
        order = [number for size in bits for number, step in enumerate(steps) if step.size == size]
        self._order = [order.index(number) for number in range(len(steps))]

    def run(self, gates: tuple[Gate, ...]) -> int:
        """The number of a run of one-qubit gates in what :meth:`__call__` returns."""
        return self._runs[_nameless(gates)]

    def __call__(self, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        """At the weights (W,): the runs, (R, 2, 2), and the matrix of each step."""
        tables = {size: table(weights.unsqueeze(1)) for size, table in self._tables.items()}
        runs = tables[1].index_select(0, self._factors[0])
        for factor in self._factors[1:]:
            runs = tables[1].index_select(0, factor) @ runs
        entries = torch.cat([(runs if size == 1 else table).flatten() for size, table in tables.items()])
        built = [matrix for products in self._products for matrix in products(entries)]
        return runs, [built[number] for number in self._order]

    def _numbered(self, item: Item) -> int:
        """Where the matrix of an item begins among the entries of all runs and gates."""
        size = len(item.qubits)
        lengths = {other: len(self._runs) if other == 1 else len(table) for other, table in self._tables.items()}
        before = sum(length * 4**other for other, length in lengths.items() if other < size)
        own = self.run(item.gates) if size == 1 else self._tables[size].place(item.gates[0])
        return before + own * 4**size


class _Products:
    """Matrices of all steps on k bits: the items of a step are widened to k bits, and multiplied pair by pair.

    A step's items are numbered from the last bit of their place on, so that the earlier ones of all pairs are in the first
    half, the later ones in the second, and their products are again in such an order.
    """

    def __init__(self, steps: Sequence[MatrixStep], begin: Callable[[Item], int], like: Tensor) -> None:
        numbers = [0]
        while len(numbers) < max(len(step.items) for step in steps):
            numbers = [number + later for number in numbers for later in (0, len(numbers))]
        self._num_steps, width = len(steps), 2 ** steps[0].size
        sources, targets = [], []
        spare = torch.ones(len(numbers), len(steps), dtype=torch.bool)
        for column, step in enumerate(steps):
            for number, item in zip(numbers, step.items, strict=False):
                spare[number, column] = False
                source, target = _widened(item.qubits, step.size)
                sources.append(begin(item) + source)
                targets.append((number * len(steps) + column) * width**2 + target)
        self._sources, self._targets = torch.cat(sources).to(like.device), torch.cat(targets).to(like.device)
        self._start = (torch.eye(width) * spare[:, :, None, None]).flatten(0, 1).to(like.device, like.dtype.to_complex())

    def __call__(self, entries: Tensor) -> tuple[Tensor, ...]:
        factors = self._start.flatten().scatter(0, self._targets, entries.index_select(0, self._sources)).view_as(self._start)
        while len(factors) > self._num_steps:
            earlier, later = factors.unflatten(0, (2, -1)).unbind(0)
            factors = torch.bmm(later, earlier)
        return factors.unbind(0)


def _widened(bits: Sequence[int], size: int) -> tuple[Tensor, Tensor]:
    """Which entry of a matrix on these bits goes where in the one on ``size`` bits: their flat numbers, in pairs."""
    inner = torch.arange(2 ** len(bits))
    spread = linear_index([1 << bit for bit in bits])
    others = torch.tensor([value for value in range(2**size) if not any(value >> bit & 1 for bit in bits)])
    rows = spread[:, None, None] + others
    columns = spread[None, :, None] + others
    source = (inner[:, None] * len(inner) + inner).unsqueeze(2).expand(-1, -1, len(others))
    return source.flatten(), (rows * 2**size + columns).flatten()


def _nameless(run: tuple[Gate, ...]) -> tuple[Gate, ...]:
    """A run wherever it acts."""
    return tuple(gate._replace(qubits=()) for gate in run)
