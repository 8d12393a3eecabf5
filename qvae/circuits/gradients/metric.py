"""The Fubini-Study metric of a circuit's weights, from amplitudes or from measured overlaps."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.func import jacfwd

from qvae.circuits.circuit import Affine, Circuit
from qvae.circuits.executor import Executor
from qvae.circuits.gradients.parameter_shift import FreedCircuit, free_angles
from qvae.circuits.inverse import inverse
from qvae.circuits.library.composition import joined


def fubini_study(
    executor: Executor,
    circuit: Circuit,
    values: Tensor,
    weights: Tensor,
    blocks: Tensor | None = None,
    measured: bool | None = None,
) -> Tensor:
    """F_ij = Re(<d_i psi|d_j psi> - <d_i psi|psi><psi|d_j psi>) of the weights, its mean over the rows of values, (W, W).

    An exact executor gives it from amplitudes and their derivatives; another one from overlaps, which it measures in its
    shots (4 to 16 circuits for each pair of angles, all of a row in one call).

    Args:
        executor: that runs the circuit.
        circuit: of I inputs and W weights.
        values: inputs, (B, I), B of 1 or more.
        weights: (W,).
        blocks: numbers (W,), where elements between weights of different numbers are left out, as 0; None keeps all.
        measured: whether from overlaps; None where the executor isn't exact.

    Raises:
        CircuitError, ExecutorError: as :meth:`Executor.expectations`.
    """
    values, weights = values.detach(), weights.detach()
    blocks = torch.zeros(len(weights), dtype=torch.int64) if blocks is None else blocks
    if measured is None:
        measured = not executor.capabilities.exact
    if not measured:
        across = tangents(executor, circuit, values, weights)
        found = across.T @ across
    else:
        found = torch.stack([_from_overlaps(executor, circuit, row, weights, blocks.tolist()) for row in values]).mean(0)
    return found * (blocks.unsqueeze(0) == blocks.unsqueeze(1)).to(found)


def tangents(executor: Executor, circuit: Circuit, values: Tensor, weights: Tensor) -> Tensor:
    """T (2 B 2**n, W), real, with T^T T the metric of :func:`fubini_study`: derivatives of the states across themselves.

    What only changes a state's phase is left out; rows are real and imaginary parts, over the square root of B.

    Raises:
        CircuitError, ExecutorError: as :meth:`Executor.amplitudes`.
    """
    values, weights = values.detach(), weights.detach()

    def amplitudes(weights: Tensor) -> tuple[Tensor, Tensor]:
        found = torch.view_as_real(executor.amplitudes(circuit, values, weights))
        return found, found

    slopes, states = jacfwd(amplitudes, has_aux=True)(weights)
    slopes = torch.view_as_complex(slopes.movedim(2, 3).contiguous())  # (B, 2**n, W)
    states = torch.view_as_complex(states).unsqueeze(2)
    across = slopes - states * (states.conj() * slopes).sum(1, keepdim=True)
    return torch.view_as_real(across).movedim(3, 0).flatten(0, 2) / len(values) ** 0.5


def overlaps(executor: Executor, circuit: Circuit, values: Tensor, weights: Tensor, others: Tensor) -> Tensor:
    """|<psi(x, w)|psi(x, v)>|^2 at weights w (W,) and each v of others (K, W), for every row x of values (B, I), (K, B).

    An exact executor gives them from amplitudes; another one measures how often v's circuit and the inverse of w's lead back
    to 0...0, in its shots, all in one call.

    Raises:
        CircuitError, ExecutorError: as :meth:`Executor.expectations`.
    """
    if executor.capabilities.exact:
        own = executor.amplitudes(circuit, values, weights).conj()
        return torch.stack([(own * executor.amplitudes(circuit, values, each)).sum(1).abs().square() for each in others])
    there_and_back = joined([circuit, inverse(circuit)], shares_inputs=True)
    rows = [torch.cat([values, each.expand(len(values), -1), weights.expand(len(values), -1)], dim=1) for each in others]
    return _return_probability(executor, there_and_back, torch.cat(rows)).view(len(others), len(values))


def num_overlaps(circuit: Circuit, blocks: Tensor | None = None) -> int:
    """How many circuits :func:`fubini_study` measures for each row of values, where it doesn't take amplitudes."""
    blocks = torch.zeros(circuit.num_weights, dtype=torch.int64) if blocks is None else blocks
    return len(_terms(free_angles(circuit), _blocks_of_angles(circuit, blocks.tolist())))


def levels(circuit: Circuit) -> Tensor:
    """Which layer of gates each weight first acts in, (W,): the blocks of Stokes et al. 2020 (arXiv:1909.02108)."""
    depth = [0] * circuit.num_qubits
    found = [0] * circuit.num_weights
    for gate in reversed(circuit.gates):
        level = 1 + max(depth[qubit] for qubit in gate.qubits)
        for qubit in gate.qubits:
            depth[qubit] = level
        for angle in gate.angles:
            if isinstance(angle, Affine) and angle.index >= circuit.num_inputs:
                found[angle.index - circuit.num_inputs] = level
    return torch.tensor(found)


def _from_overlaps(executor: Executor, circuit: Circuit, row: Tensor, weights: Tensor, blocks: list[int]) -> Tensor:
    """-1/2 of the second derivatives of |<psi(w)|psi(w + d)>|^2 by d at 0: Mari et al. 2021 (arXiv:2008.06517), section V.

    The overlap is the probability of 0...0 after the circuit at w + d and the inverse of the circuit at w; every angle of it
    has its shift rule, so that shifts of pairs of angles give the second derivatives.
    """
    freed, block = free_angles(circuit), _blocks_of_angles(circuit, blocks)
    parameters = torch.cat([row, weights])
    angles = freed.values(parameters.unsqueeze(0))[0]
    number = len(angles)
    there_and_back = joined([freed.circuit, inverse(freed.circuit)], shares_inputs=True)
    terms = _terms(freed, block)
    rows = angles.repeat(len(terms), 2)
    for index, (first, second, by_first, by_second, _) in enumerate(terms):
        rows[index, first] += by_first
        rows[index, second] += by_second
    found = _return_probability(executor, there_and_back, rows)
    curvature = weights.new_zeros(number, number)
    for (first, second, _, _, coefficient), probability in zip(terms, found, strict=True):
        curvature[first, second] -= coefficient * probability / 2
    curvature = curvature.tril() + curvature.tril(-1).T
    chain = weights.new_zeros(number, len(weights))
    for column in block:
        angle = freed.angles[column]
        chain[column, angle.index - circuit.num_inputs] = angle.scale
    return chain.T @ curvature @ chain


def _blocks_of_angles(circuit: Circuit, blocks: list[int]) -> dict[int, int]:
    """The block of each angle that follows a weight, by its column in the freed circuit."""
    return {
        column: blocks[angle.index - circuit.num_inputs]
        for column, angle in enumerate(free_angles(circuit).angles)
        if angle.index >= circuit.num_inputs
    }


def _terms(freed: FreedCircuit, block: dict[int, int]) -> list[tuple[int, int, float, float, float]]:
    """Two columns, the shifts of each, and a coefficient, for all pairs of angles in a block."""
    own = list(block)
    return [
        (first, second, a.shift, b.shift, a.coefficient * b.coefficient)
        for position, first in enumerate(own)
        for second in own[: position + 1]
        if block[first] == block[second]
        for a in freed.rules[first]
        for b in freed.rules[second]
    ]


def _return_probability(executor: Executor, circuit: Circuit, values: Tensor) -> Tensor:
    """Of all bits 0, in the executor's shots, (B,)."""
    return (executor.sample(circuit, values, executor.shots) == 0).all(2).to(values.dtype).mean(1)
