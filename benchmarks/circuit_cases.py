"""The circuits that are timed, as plain lists of gates, and what they are checked against and compared with.

A gate is ``[name, qubits, parameter]``, with None where it has no angle; qubit 0 is the lowest bit. The first parameters are
the inputs, one a qubit. All <Z_q> are measured, and gradients are those of sum(dual * values) with a fixed dual.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

import qvae

GateEntry = tuple[str, tuple[int, ...], int | None]
Found = tuple[Tensor, Tensor, Tensor]
"""Values (B, n), and gradients in inputs (B, n) and weights (W,)."""


@dataclass(frozen=True)
class Case:
    """A circuit of ``qubits`` inputs, as many qubits, and ``weights`` weights, with the words that tables call it by."""

    title: str
    qubits: int
    weights: int
    gates: list[GateEntry]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    def numbers(self, batch: int) -> Found:
        """Inputs (B, n), weights (W,) and dual (B, n), float32, the same in every run."""
        generator = torch.Generator().manual_seed(0)
        x, w = (2 * math.pi * torch.rand(*shape, generator=generator) for shape in ((batch, self.qubits), (self.weights,)))
        return x, w, torch.randn(batch, self.qubits, generator=generator)


def ring(n: int, layers: int = 3) -> Case:
    """RY(x), then layers of RX, RY and RZ on every qubit and a ring of CNOTs."""
    gates: list[GateEntry] = [("ry", (q,), q) for q in range(n)]
    for layer in range(layers):
        for number, name in enumerate(("rx", "ry", "rz")):
            gates += [(name, (q,), n + (3 * layer + number) * n + q) for q in range(n)]
        gates += [("cx", (q, (q + 1) % n), None) for q in range(n)]
    return Case(f"ring, {n} qubits", n, 3 * layers * n, gates)


def scattered(n: int, num_gates: int = 150) -> Case:
    """RY(x), then gates drawn one by one, each on random qubits: nothing for a planner to recognise."""
    drawn = random.Random(n)
    gates: list[GateEntry] = [("ry", (q,), q) for q in range(n)]
    parameter = n
    for _ in range(num_gates):
        name = drawn.choice(("h", "rx", "ry", "rz", "cx", "cz", "cry"))
        on = tuple(drawn.sample(range(n), 2 if name in ("cx", "cz", "cry") else 1))
        has_angle = name.startswith("r") or name == "cry"
        gates.append((name, on, parameter if has_angle else None))
        parameter += has_angle
    return Case(f"random, {n} qubits", n, parameter - n, gates)


# Ours -----------------------------------------------------------------------------------------------------------------


def ours(case: Case, weights: Tensor) -> qvae.CircuitLayer:
    """The layer, by way of Qiskit."""
    from qiskit import QuantumCircuit
    from qiskit.circuit import ParameterVector

    x, w = ParameterVector("x", case.qubits), ParameterVector("w", case.weights)
    angles = [*x, *w]
    circuit = QuantumCircuit(case.qubits)
    for name, qubits, parameter in case.gates:
        getattr(circuit, name)(*([] if parameter is None else [angles[parameter]]), *qubits)
    layer = qvae.CircuitLayer.from_qiskit(circuit, inputs=x, weights=w)
    layer.weight.data = weights.clone()
    return layer


def step(run: Callable[[Tensor], Tensor], x: Tensor, w: Tensor, dual: Tensor) -> Callable[[], Found]:
    """Forward and backward of y = run(x), of which ``w`` is a leaf."""
    x = x.clone().requires_grad_()

    def once() -> Found:
        y = run(x)
        return (y.detach(), *torch.autograd.grad(y, (x, w), dual))

    return once


# By hand --------------------------------------------------------------------------------------------------------------


def kron(n: int) -> Callable[[Tensor, Tensor], Tensor]:
    """What one writes by hand for :func:`ring`: (x, w) to (B, n).

    The encoding is a product state; the rotations of half the qubits are one dense matrix, so that a layer is two matrix
    products; a ring of CNOTs is one index.
    """
    low = n // 2
    basis = torch.arange(2**n)
    index = basis
    for q in range(n):
        index = index[basis ^ ((basis >> q & 1) << (q + 1) % n)]
    signs = torch.stack([1.0 - 2 * (basis >> q & 1) for q in range(n)], 1)

    def run(x: Tensor, w: Tensor) -> Tensor:
        qubits = torch.stack([(x / 2).cos(), (x / 2).sin()], 2)
        states = qubits[:, 0]
        for q in range(1, n):
            states = (qubits[:, q, :, None] * states[:, None, :]).flatten(1)
        states = states + 0j
        for rx, ry, rz in w.view(-1, 3, n):
            gates = _rz(rz) @ _ry(ry) @ _rx(rx)
            lower, upper = _product(gates[:low]), _product(gates[low:])
            states = (upper @ states.view(len(x), len(upper), len(lower)) @ lower.T).flatten(1)
            states = states.index_select(1, index)
        return (states.real.square() + states.imag.square()) @ signs

    return run


def _product(gates: Tensor) -> Tensor:
    """The Kronecker product of matrices (k, 2, 2), the first of them on the lowest bit."""
    product = gates[0]
    for gate in gates[1:]:
        product = torch.kron(gate, product)
    return product


def _matrices(entries: list[Tensor]) -> Tensor:
    return torch.stack(entries, -1).unflatten(-1, (2, 2))


def _rx(angle: Tensor) -> Tensor:
    cos, sin = (angle / 2).cos() + 0j, -1j * (angle / 2).sin()
    return _matrices([cos, sin, sin, cos])


def _ry(angle: Tensor) -> Tensor:
    cos, sin = (angle / 2).cos() + 0j, (angle / 2).sin() + 0j
    return _matrices([cos, -sin, sin, cos])


def _rz(angle: Tensor) -> Tensor:
    phase = torch.polar(torch.ones_like(angle), angle / 2)
    return _matrices([phase.conj(), 0 * phase, 0 * phase, phase])


# Reference ------------------------------------------------------------------------------------------------------------


def reference(case: Case, x: Tensor, w: Tensor, dual: Tensor, at_once: int = 8) -> Found:
    """Values and gradients in float64, gate by gate in plain torch."""
    values, by_x, by_w = [], [], torch.zeros(case.weights, dtype=torch.float64)
    for rows, duals in zip(x.double().split(at_once), dual.double().split(at_once), strict=True):
        weights = w.detach().double().requires_grad_()
        y, grad_x, grad_w = step(lambda rows, weights=weights: _values(case, rows, weights), rows, weights, duals)()
        values.append(y)
        by_x.append(grad_x)
        by_w += grad_w
    return torch.cat(values), torch.cat(by_x), by_w


def _values(case: Case, x: Tensor, w: Tensor) -> Tensor:
    n, parameters = case.qubits, torch.cat([x, w.expand(len(x), -1)], 1)
    states = torch.zeros(len(x), *[2] * n, dtype=torch.complex128)
    states[(slice(None), *[0] * n)] = 1
    fixed = {"h": torch.tensor([[1, 1], [1, -1]]) / math.sqrt(2) + 0j, "x": torch.tensor([[0, 1], [1, 0]]) + 0j}
    fixed["z"] = torch.tensor([[1, 0], [0, -1]]) + 0j
    for name, qubits, parameter in case.gates:
        kind = name.removeprefix("c")
        if parameter is None:
            matrices = fixed[kind].to(states.dtype).expand(len(x), 2, 2)
        else:
            matrices = {"rx": _rx, "ry": _ry, "rz": _rz}[kind](parameters[:, parameter])
        axes = [n - q for q in qubits]  # qubit n - 1 comes first, after the rows
        if kind == name:
            states = _applied(matrices, states, axes[0])
        else:
            off, on = states.unbind(axes[0])
            target = axes[1] - (axes[1] > axes[0])
            states = torch.stack([off, _applied(matrices, on, target)], axes[0])
    probabilities = states.abs().square()
    other_axes = [[axis for axis in range(1, n + 1) if axis != n - q] for q in range(n)]
    marginals = [probabilities.sum(axes) if axes else probabilities for axes in other_axes]
    return torch.stack([marginal[:, 0] - marginal[:, 1] for marginal in marginals], 1)


def _applied(matrices: Tensor, states: Tensor, axis: int) -> Tensor:
    """Matrices (B, 2, 2) on an axis of states (B, 2, ...)."""
    moved = states.movedim(axis, 1)
    return (matrices @ moved.flatten(2)).view(moved.shape).movedim(1, axis)


def largest_error(found: Found, true: Found) -> float:
    """The largest difference in values and gradients, each relative to the largest entry of its kind, if above 1."""
    return max(float((a.double() - b).abs().max() / b.abs().max().clamp(min=1)) for a, b in zip(found, true, strict=True))
