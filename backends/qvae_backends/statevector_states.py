"""Batches of state vectors in torch: a plan's steps, and what is measured at their end.

The states of W rows are (2**n, W), rows last: a step on any bits is then a product of matrices with wide columns, and a
permutation moves whole rows of memory. W is 1 as long as nothing differs from row to row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from qvae_backends.statevector_fusion import (
    INDEX_BYTES,
    GatherStep,
    MatrixStep,
    PhaseStep,
    Plan,
    Stage,
    inverse_of,
    linear_index,
    read_bits,
)
from qvae_backends.statevector_items import Term
from qvae_backends.statevector_matrices import Angles, Matrices


class Program:
    """A plan with its tables, on a device and in a precision.

    Args:
        plan: of a circuit.
        num_by_row: parameters that differ from row to row; the others are weights.
        like: gives device and real dtype.
    """

    def __init__(self, plan: Plan, num_by_row: int, like: Tensor) -> None:
        self.plan, self.num_qubits, self._device = plan, plan.num_qubits, like.device
        runs = [run for stage in plan.stages for run in stage.gates]
        self._matrices = Matrices(runs, [step for step in plan.steps if isinstance(step, MatrixStep)], num_by_row, like)
        self._stages = [self._stage(stage, like) for stage in plan.stages]
        self._down = like.new_tensor([1.0, 0.0]).to(like.dtype.to_complex())
        self.table_bytes = INDEX_BYTES * sum(isinstance(step, GatherStep) for step in plan.steps) << plan.num_qubits
        self._steps: list[Step] = [_made(step, plan.num_qubits, num_by_row, like) for step in plan.steps]

    def _stage(self, stage: Stage, like: Tensor) -> tuple[Tensor | None, _QubitPhases | None]:
        """Numbers of the qubits' matrices, and the phases after them."""
        numbers = torch.tensor([self._matrices.run(run) for run in stage.gates], device=like.device)
        phases = _QubitPhases(self.num_qubits, stage.terms, like) if stage.terms else None
        return numbers if any(stage.gates) else None, phases

    @cached_property
    @torch.inference_mode(False)  # what is kept serves training, too
    def order(self) -> Tensor | None:
        """Where amplitudes stand whose qubit q is to be bit q; None where they are in order."""
        place = self.plan.place
        return None if place == sorted(place) else linear_index([1 << bit for bit in place]).to(self._device)

    def matrices(self, weights: Tensor) -> tuple[Tensor, list[Tensor]]:
        """What :meth:`__call__` needs of the weights (W,), the same for all rows."""
        return self._matrices(weights)

    def __call__(
        self, values: Tensor, weights: Tensor, matrices: tuple[Tensor, list[Tensor]], last: int, stores: bool
    ) -> Tensor:
        """States before step ``last``, (2**n, W) for values (W, P), complex.

        Args:
            values: of the parameters that differ from row to row.
            weights: of the others.
            matrices: from :meth:`matrices`.
            last: a step, or the number of steps for the state at the end.
            stores: the state of every step for the gradients, or run backwards from the last one.
        """
        by_row = values.T
        runs, own = matrices[0], iter(matrices[1])
        steps = self._steps[:last]
        operands = [next(own) if isinstance(step, _MatrixStep) else step.operand(by_row, weights) for step in steps]
        qubits = self._qubits(runs, by_row)
        if stores or not torch.is_grad_enabled():
            return run(steps, qubits, operands)
        return Adjoint.apply(steps, qubits, *operands)

    def _qubits(self, runs: Tensor, by_row: Tensor) -> Tensor:
        """The product state's factors, (n, 2, W)."""
        qubits = self._down.expand(self.num_qubits, 2).unsqueeze(2)
        for numbers, phases in self._stages:
            if numbers is not None:
                qubits = runs.index_select(0, numbers) @ qubits
            if phases is not None:
                qubits = qubits * phases(by_row)
        return qubits


def run(steps: Sequence[Step], qubits: Tensor, operands: Sequence[Tensor]) -> Tensor:
    """The product state of qubits (n, 2, W) after the steps, (2**n, W)."""
    states = product_state(qubits)
    for step, operand in zip(steps, operands, strict=True):
        states = step(states, operand)
    return states


class _QubitPhases:
    """Phases of single qubits, (n, 2, W)."""

    def __init__(self, num_qubits: int, terms: Sequence[Term], like: Tensor) -> None:
        self._angles = Angles([term.angle for term in terms], 0, like)
        table = like.new_zeros(num_qubits, 2, len(terms))
        for column, term in enumerate(terms):
            table[term.qubits[0], :, column] = like.new_tensor(term.exponents)
        self._table = table.flatten(0, 1)

    def __call__(self, by_row: Tensor) -> Tensor:
        return _phases(self._table @ self._angles(by_row)).unflatten(0, (-1, 2))


class Step(ABC):
    """A step with its tables; its operand is what depends on parameters."""

    def operand(self, by_row: Tensor, weights: Tensor) -> Tensor:
        return weights[:0]

    @abstractmethod
    def __call__(self, states: Tensor, operand: Tensor) -> Tensor:
        """States (2**n, W) after it."""

    @abstractmethod
    def undone(self, states: Tensor, operand: Tensor) -> Tensor:
        """States before it."""


class _MatrixStep(Step):
    def __init__(self, low: int, size: int) -> None:
        self.low, self.size = low, size

    def __call__(self, states: Tensor, operand: Tensor) -> Tensor:
        width = states.shape[1]
        bits, columns = 2**self.size, 2**self.low * width
        if columns == 1:  # many products of a matrix and a vector are one product
            return (states.reshape(-1, bits) @ operand.T).view(-1, 1)
        if states.numel() == bits * columns:  # one product, whose gradients copy no conjugates
            return (operand @ states.reshape(bits, columns)).view(-1, width)
        rows = states.reshape(-1, bits, columns)
        return _multiply(operand, rows).view(-1, width)

    def undone(self, states: Tensor, operand: Tensor) -> Tensor:
        return self(states, operand.mH.resolve_conj())


def _multiply(operand: Tensor, rows: Tensor) -> Tensor:
    """One matrix times each of several, (R, bits, columns)."""
    if rows.is_cuda:
        return Product.apply(operand, rows)
    return torch.bmm(operand.expand(len(rows), -1, -1), rows)


class _GatherStep(Step):
    def __init__(self, index: Tensor, device: torch.device) -> None:
        self.index = index.to(device)
        self.inverse = inverse_of(self.index)

    def __call__(self, states: Tensor, operand: Tensor) -> Tensor:
        return Gather.apply(states, self.index, self.inverse)

    def undone(self, states: Tensor, operand: Tensor) -> Tensor:
        return states.index_select(0, self.inverse)


class _PhaseStep(Step):
    """Phases of the upper and of the lower half of the bits, which are few, and of terms across both."""

    def __init__(self, terms: Sequence[Term], num_qubits: int, by_row: bool, first: int, like: Tensor) -> None:
        self.by_row = by_row
        lower = num_qubits // 2
        self.shape = (2 ** (num_qubits - lower), 2**lower)
        kinds: dict[str, list[Term]] = {"low": [], "high": [], "all": []}
        for term in terms:
            kind = "low" if max(term.qubits) < lower else "high" if min(term.qubits) >= lower else "all"
            shifted = tuple(qubit - lower for qubit in term.qubits) if kind == "high" else term.qubits
            kinds[kind].append(term._replace(qubits=shifted))
        bits = {"low": lower, "high": num_qubits - lower, "all": num_qubits}
        self._tables = {kind: _exponent_table(own, bits[kind], like) for kind, own in kinds.items() if own}
        self._angles = Angles([term.angle for own in kinds.values() for term in own], 0 if by_row else first, like)
        self._sizes = [len(own) for own in kinds.values() if own]

    def operand(self, by_row: Tensor, weights: Tensor) -> Tensor:
        return self._angles(by_row if self.by_row else weights.unsqueeze(1))

    def __call__(self, states: Tensor, operand: Tensor) -> Tensor:
        split = states.view(*self.shape, -1)
        for (kind, table), angles in zip(self._tables.items(), operand.split(self._sizes), strict=True):
            form = {"low": (1, self.shape[1]), "high": (self.shape[0], 1), "all": self.shape}[kind]
            split = split * _phases(table @ angles).view(*form, -1)
        return split.flatten(0, 1)

    def undone(self, states: Tensor, operand: Tensor) -> Tensor:
        return self(states, -operand)


def _made(step: MatrixStep | PhaseStep | GatherStep, num_qubits: int, first: int, like: Tensor) -> Step:
    if isinstance(step, MatrixStep):
        return _MatrixStep(step.low, step.size)
    if isinstance(step, GatherStep):
        return _GatherStep(step.index, like.device)
    return _PhaseStep(step.terms, num_qubits, step.by_row, first, like)


def _exponent_table(terms: Sequence[Term], num_bits: int, like: Tensor) -> Tensor:
    """Exponents per radian of each term's angle, (2**bits, terms)."""
    indices = torch.arange(2**num_bits)
    columns = []
    for term in terms:
        local = read_bits(indices, term.qubits)
        columns.append(torch.tensor(term.exponents, dtype=torch.float64)[local])
    return torch.stack(columns, 1).to(like)


def _phases(exponents: Tensor) -> Tensor:
    return torch.complex(exponents.cos(), exponents.sin())


def product_state(qubits: Tensor) -> Tensor:
    """The product state of qubits (n, 2, W), (2**n, W), qubit 0 the lowest bit."""
    parts = list(qubits.unbind(0))
    while len(parts) > 1:
        pairs = zip(parts[::2], parts[1::2], strict=False)
        joined = [(high.unsqueeze(1) * low).flatten(0, 1) for low, high in pairs]
        parts = [*joined, parts[-1]] if len(parts) % 2 else joined
    return parts[0]


class Product(torch.autograd.Function):
    """A matrix (bits, bits) times each of several (R, bits, columns), for CUDA.

    Its gradient in the matrix is one product of two wide matrices. As autograd would make it, by a product for each of the
    several and their sum, most of a GPU would stand idle, since cuBLAS gives a small product to one multiprocessor, however
    long its sums are: 20 times as long.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(operand: Tensor, rows: Tensor) -> Tensor:
        return torch.bmm(operand.expand(len(rows), -1, -1), rows)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)
        ctx.save_for_forward(*inputs)

    @staticmethod
    def jvp(ctx: Any, by_operand: Tensor | None, by_rows: Tensor | None) -> Tensor:
        """Along tangents of both."""
        operand, rows = ctx.saved_tensors
        parts = [Product.apply(by_operand, rows)] if by_operand is not None else []
        parts += [Product.apply(operand, by_rows)] if by_rows is not None else []
        return sum(parts[1:], parts[0])

    @staticmethod
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor | None, Tensor | None]:
        operand, rows = ctx.saved_tensors
        wide, other = (matrix.transpose(0, 1).reshape(len(operand), -1) for matrix in (dual, rows))
        of_operand = wide @ other.mH if ctx.needs_input_grad[0] else None
        return of_operand, Product.apply(operand.mH, dual) if ctx.needs_input_grad[1] else None


class Gather(torch.autograd.Function):
    """Rows in another order; backwards they are put back, which needs no sums."""

    generate_vmap_rule = True

    @staticmethod
    def forward(states: Tensor, index: Tensor, inverse: Tensor) -> Tensor:
        return states.index_select(0, index)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:])
        ctx.save_for_forward(*inputs[1:])

    @staticmethod
    def jvp(ctx: Any, by_states: Tensor, *of_indices: None) -> Tensor:
        """Along a tangent of the states."""
        return Gather.apply(by_states, *ctx.saved_tensors)

    @staticmethod
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor, None, None]:
        return dual.index_select(0, ctx.saved_tensors[1]), None, None


class Adjoint(torch.autograd.Function):
    """All steps in a row; backwards the states are undone step by step beside their duals, instead of being stored.

    After Jones and Gacon 2020, arXiv:2009.02823. Differentiable once.
    """

    @staticmethod
    def forward(ctx: Any, steps: Sequence[Step], qubits: Tensor, *operands: Tensor) -> Tensor:
        states = run(steps, qubits, operands)
        ctx.steps = steps
        ctx.save_for_backward(states, qubits, *operands)
        return states

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, dual: Tensor) -> tuple[Tensor | None, ...]:
        states, qubits, *operands = ctx.saved_tensors
        gradients: list[Tensor | None] = []
        for step, operand in zip(reversed(ctx.steps), reversed(operands), strict=True):
            states = step.undone(states, operand)
            dual, gradient = _pulled_back(step, (states, operand), dual)
            gradients.append(gradient)
        # States are as wide as what followed them: a state that all rows shared has the sum of their duals.
        of_qubits = _pulled_back(product_state, (qubits,), dual if qubits.shape[2] > 1 else dual.sum(1, keepdim=True))[0]
        return None, of_qubits, *reversed(gradients)


def _pulled_back(step: Callable[..., Tensor], arguments: tuple[Tensor, ...], dual: Tensor) -> tuple[Any, ...]:
    """Gradients of <dual, step(arguments)> in the arguments."""
    with torch.enable_grad():
        leaves = [argument.detach().requires_grad_() for argument in arguments]
        return torch.autograd.grad(step(*leaves), leaves, dual, allow_unused=True)
