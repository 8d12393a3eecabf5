"""Circuits as text: which symbols stand for a gate, in which column they stand, and the lines that join them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fractions import Fraction
from math import pi
from typing import NamedTuple

_CONTROLLED = re.compile(r"(c\d|cc|c)(.+)")
_TARGETS = {"x": "⊕", "swap": "×"}
_SYMMETRIC = {"swap", "iswap", "rxx", "ryy", "rzz"}
_SUBSCRIPTS = "₀₁₂₃"


class Symbol(NamedTuple):
    """A gate as it is drawn: a label on each of its qubits, all joined by a line."""

    qubits: tuple[int, ...]
    labels: tuple[str, ...]


def gate_symbol(name: str, qubits: tuple[int, ...], angles: Sequence[str]) -> Symbol:
    """Of a gate of the table; where its qubits have different parts, they are numbered in the gate's own order.

    >>> gate_symbol("cry", (2, 0), ["w3"]).labels
    ('●', 'RY(w3)')
    >>> gate_symbol("ecr", (0, 1), []).labels
    ('ECR₀', 'ECR₁')
    """
    controlled = _CONTROLLED.fullmatch(name)  # all names with c, and they alone, are controlled gates
    prefix, base = controlled.groups() if controlled else ("", name)
    controls = int(prefix[1:]) if prefix[1:].isdecimal() else len(prefix)
    title = _TARGETS.get(base, base.upper().replace("DG", "†"))
    arguments = f"({', '.join(angles)})" if angles else ""
    targets = len(qubits) - controls
    if targets == 1:
        labels = [title + arguments]
    elif base in _SYMMETRIC:
        labels = [title + arguments] * targets
    else:
        labels = [title + _SUBSCRIPTS[index] + (arguments if index == 0 else "") for index in range(targets)]
    return Symbol(qubits, (*["●"] * controls, *labels))


def angle_text(number: float) -> str:
    """Radians, as a fraction of pi where it is one.

    >>> angle_text(-3 * pi / 4), angle_text(0.30000001)
    ('-3π/4', '0.3')
    """
    fraction = Fraction(number / pi).limit_denominator(16)
    if fraction == 0 or abs(float(fraction) * pi - number) > 1e-9:
        return f"{number:.3g}"
    numerator = {1: "", -1: "-"}.get(fraction.numerator, str(fraction.numerator))
    return f"{numerator}π" + (f"/{fraction.denominator}" if fraction.denominator > 1 else "")


def affine_text(parameter: str, scale: float, offset: float) -> str:
    """Of ``scale * parameter + offset``.

    >>> affine_text("x0", 2.0, -pi)
    '2x0-π'
    """
    factor = {1.0: "", -1.0: "-"}.get(scale, f"{scale:.3g}")
    shift = angle_text(offset) if offset else ""
    return factor + parameter + (f"+{shift}" if shift and not shift.startswith("-") else shift)


def in_columns(symbols: Iterable[Symbol]) -> list[list[Symbol]]:
    """Each as early as its wires are free, all of them from its first to its last; order on a wire is kept."""
    columns: list[list[Symbol]] = []
    free: dict[int, int] = {}
    for symbol in symbols:
        wires = range(min(symbol.qubits), max(symbol.qubits) + 1)
        column = max(free.get(wire, 0) for wire in wires)
        free.update(dict.fromkeys(wires, column + 1))
        if column == len(columns):
            columns.append([])
        columns[column].append(symbol)
    return columns


def column_widths(columns: Sequence[Sequence[Symbol]]) -> list[int]:
    """Letters that each column takes, with a bit of wire on both sides; odd, so that it has a middle."""
    return [(max(len(label) for symbol in column for label in symbol.labels) + 2) | 1 for column in columns]


def in_blocks(widths: Sequence[int], width: int) -> list[range]:
    """Columns that stand side by side in so many letters, one of them at least."""
    blocks, start, used = [], 0, 0
    for index, needed in enumerate(widths):
        if index > start and used + needed > width:
            blocks.append(range(start, index))
            start, used = index, 0
        used += needed
    return [*blocks, range(start, len(widths))]


def text_drawing(num_qubits: int, columns: Sequence[Sequence[Symbol]], width: int) -> str:
    """Wires from qubit 0 down, in as many blocks one under the other as lines of ``width`` letters need.

    >>> print(text_drawing(2, [[Symbol((0,), ("H",))], [Symbol((0, 1), ("●", "⊕"))]], width=80))
    q0: ──H──●─
             │
    q1: ─────⊕─
    """
    names = [f"q{qubit}: " for qubit in range(num_qubits)]
    margin = max(len(name) for name in names)
    drawn = [_drawn(column, size) for column, size in zip(columns, column_widths(columns), strict=True)]
    blocks = []
    for block in in_blocks(column_widths(columns), width - margin - 3):
        is_last = block.stop == len(columns)
        lines = []
        for qubit in range(num_qubits):
            wire = "".join(drawn[index][0].get(qubit, "─" * len(drawn[index][2])) for index in block)
            joints = "".join(drawn[index][1].get(qubit, drawn[index][2]) for index in block)
            lines += [f"{names[qubit]:{margin}}─{wire}" + ("" if is_last else "─»"), " " * (margin + 1) + joints]
        blocks.append("\n".join(line.rstrip() for line in lines[:-1]))
    return "\n\n".join(blocks)


def _drawn(column: Sequence[Symbol], size: int) -> tuple[dict[int, str], dict[int, str], str]:
    """What a column has on its wires, and between them and the next, by qubit; and what is there where it has nothing."""
    wires, joints = {}, {}
    for symbol in column:
        labels = dict(zip(symbol.qubits, symbol.labels, strict=True))
        for qubit in range(min(labels), max(labels) + 1):
            wires[qubit] = _centred(labels.get(qubit, "┼"), size, "─")
            if qubit < max(labels):
                joints[qubit] = _centred("│", size, " ")
    return wires, joints, " " * size


def _centred(text: str, size: int, fill: str) -> str:
    left = (size - len(text)) // 2
    return fill * left + text + fill * (size - left - len(text))
