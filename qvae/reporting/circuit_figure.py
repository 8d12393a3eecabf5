"""A picture of a circuit: wires from qubit 0 down, boxes, controls, and the parameters they follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from qvae.circuits.circuit import Circuit
from qvae.circuits.drawing import Symbol, column_widths, in_blocks

_LETTER, _WIRE = 0.085, 0.36  # inches
_LINE: dict[str, Any] = {"color": "black", "linewidth": 0.8, "zorder": 1}


def circuit_figure(circuit: Circuit, num_gates: int, width: int = 120) -> Figure:
    """The first gates in as many rows of wires as they need, each of about ``width`` letters; x are inputs, w weights."""
    columns = replace(circuit, gates=circuit.gates[:num_gates]).columns()
    widths = column_widths(columns)
    blocks = in_blocks(widths, width)
    letters = max(sum(widths[index] for index in block) for block in blocks) + 5
    height = circuit.num_qubits + 0.6
    figure = Figure(figsize=(_LETTER * letters, _WIRE * height * len(blocks)))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, letters), ylim=(height * len(blocks) - 0.3, -0.8), frame_on=False, xticks=[], yticks=[])
    for number, block in enumerate(blocks):
        top, left = number * height, 5.0
        for qubit in range(circuit.num_qubits):
            axes.text(0.5, top + qubit, f"q{qubit}", va="center", fontsize=8, family="monospace")
            axes.plot([4, 5 + sum(widths[index] for index in block)], [top + qubit] * 2, **_LINE)
        for index in block:
            for symbol in columns[index]:
                _draw(axes, symbol, left + widths[index] / 2, top)
            left += widths[index]
    return figure


def _draw(axes: Axes, symbol: Symbol, x: float, top: float) -> None:
    axes.plot([x, x], [top + min(symbol.qubits), top + max(symbol.qubits)], **_LINE)
    for qubit, label in zip(symbol.qubits, symbol.labels, strict=True):
        y = top + qubit
        if label == "●":
            axes.plot(x, y, "o", color="black", markersize=4)
        elif label == "⊕":
            axes.plot(x, y, "o", markersize=10, markerfacecolor="white", markeredgecolor="black", markeredgewidth=0.8)
            axes.plot(x, y, "+", color="black", markersize=10, markeredgewidth=0.8)
        elif label == "×":
            axes.plot(x, y, "x", color="black", markersize=6)
        else:
            box = {"boxstyle": "square,pad=0.25", "facecolor": "#e8eef7", "edgecolor": "black", "linewidth": 0.6}
            axes.text(x, y, label, ha="center", va="center", fontsize=8, family="monospace", bbox=box)
