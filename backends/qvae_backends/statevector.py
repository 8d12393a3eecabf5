"""Exact execution of circuits on state vectors in torch: batched, on CPU and CUDA, and differentiable in the values."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.paulis import PauliSum
from qvae.errors import ExecutorError
from qvae.memory import expect_large_blocks, memory_of, require_memory
from qvae_backends.statevector_fusion import plan
from qvae_backends.statevector_measured import Measurement
from qvae_backends.statevector_states import Program

_KEPT = 16  # circuits whose tables are kept: of 20 qubits they take some hundred MB
_CPU_AMPLITUDES = 2**20  # that stay in a cache from step to step; four times as many take three times as long each
_GPU_AMPLITUDES = 2**25  # that keep it busy
_STORED = 0.25  # part of the memory that the states of all steps may take, before gradients are found without them


class StatevectorExecutor(SeededExecutor):
    """Runs the states of many rows at once, in few passes to which the circuit's gates are fused.

    States are complex64 or complex128 as values are float32 or float64, on their device. Expectations and probabilities are
    exact, and differentiable by autograd; where the states of all steps would take too much memory, gradients run the circuit
    backwards instead (once differentiable then). Bits are drawn from the exact probabilities.

    Args:
        seed: of the generator that draws bits, on the device of the values.
    """

    capabilities = ExecutorCapabilities(max_qubits=24, exact=True, differentiable=True)

    def _weighted_expectations(
        self, circuit: Circuit, values: Tensor, weights: Tensor | None, observables: list[PauliSum]
    ) -> Tensor:
        num_rows = len(values)
        values, weights = _parted(values, weights)
        _require_states(circuit.num_qubits, values)
        program = _program(circuit, values.shape[1], values.dtype, values.device)
        measurement = _measurement(program, tuple(map(tuple, observables)), values.dtype, values.device)
        found = _of_rows(program, values, weights, measurement.last, measurement)
        return found if len(found) == num_rows else found.repeat(num_rows, 1)  # rows of their own, to be changed in place

    def _amplitudes(self, circuit: Circuit, values: Tensor, weights: Tensor | None) -> Tensor:
        num_rows = len(values)
        values, weights = _parted(values, weights)
        _require_states(circuit.num_qubits, values)
        program = _program(circuit, values.shape[1], values.dtype, values.device)
        found = _of_rows(program, values, weights, len(program.plan.steps), lambda states: _in_order(program, states).T)
        return found.expand(num_rows, -1)

    @torch.no_grad()
    def _sample(self, circuit: Circuit, values: Tensor, shots: int) -> Tensor:
        probabilities = self._amplitudes(circuit, values, None).abs().double().square()
        drawn = torch.multinomial(probabilities, shots, replacement=True, generator=self.generator(values.device))
        return (drawn.unsqueeze(-1) >> torch.arange(circuit.num_qubits, device=values.device) & 1).to(torch.int8)


def _parted(values: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor]:
    """What differs from row to row, (B, I), and what doesn't: nothing does in a single row, or where there is nothing."""
    weights = values.new_zeros(0) if weights is None else weights.to(values)
    if len(values) == 1 or values.shape[1] == 0:
        return values[:1, :0], torch.cat([values[0], weights])
    return values, weights


def _of_rows(
    program: Program, values: Tensor, weights: Tensor, last: int, measured: Callable[[Tensor], Tensor]
) -> Tensor:
    """What is measured of the states before step ``last``, for all rows, a few at a time."""
    stored = len(values) * (last + 3) * (2 * values.element_size() << program.num_qubits)
    _require_states(program.num_qubits, values, program.table_bytes)
    matrices = program.matrices(weights)
    stores = stored < _STORED * memory_of(values.device)
    rows_at_once = values.split(_at_once(program.num_qubits, values))
    parts = [measured(program(rows, weights, matrices, last, stores)) for rows in rows_at_once]
    return torch.cat(parts) if len(parts) > 1 else parts[0]


def _at_once(num_qubits: int, values: Tensor) -> int:
    """How many rows of values are run together."""
    return max(1, (_CPU_AMPLITUDES if values.device.type == "cpu" else _GPU_AMPLITUDES) >> num_qubits)


def _require_states(num_qubits: int, values: Tensor, more: int = 0) -> None:
    """Raise an ExecutorError unless there is memory for the states that are run at once, and for more bytes."""
    rows = min(_at_once(num_qubits, values), len(values))
    needed = 6 * rows * (2 * values.element_size() << num_qubits) + more
    require_memory(needed, f"a circuit of {num_qubits} qubits", "take fewer qubits", ExecutorError, values.device)


def _in_order(program: Program, states: Tensor) -> Tensor:
    """States (2**n, W) whose qubit q is bit q."""
    return states if program.order is None else states.index_select(0, program.order)


@lru_cache(_KEPT)
@torch.inference_mode(False)  # what is kept serves training, too
def _program(circuit: Circuit, num_by_row: int, dtype: torch.dtype, device: torch.device) -> Program:
    expect_large_blocks()
    return Program(plan(circuit, num_by_row), num_by_row, torch.zeros((), dtype=dtype, device=device))


@lru_cache(_KEPT)
@torch.inference_mode(False)
def _measurement(
    program: Program, observables: tuple[tuple[tuple[str, float], ...], ...], dtype: torch.dtype, device: torch.device
) -> Measurement:
    return Measurement([list(terms) for terms in observables], program.plan, torch.zeros((), dtype=dtype, device=device))
