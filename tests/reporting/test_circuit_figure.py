"""The picture of a circuit."""

import io

import numpy as np
import pytest
from PIL import Image

from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.drawing import column_widths
from qvae.circuits.library import angle_encoding, compose, strongly_entangling
from qvae.reporting.circuit_figure import circuit_figure


@pytest.mark.parametrize(
    "circuit",
    [
        Circuit(2, []),
        Circuit(3, [Gate("cswap", (0, 1, 2)), Gate("rzx", (2, 0), (0.5,))]),
        compose(angle_encoding(4), strongly_entangling(4, 3)),
    ],
)
def test_a_picture_has_every_label_inside(circuit):
    figure = circuit_figure(circuit, num_gates=100, width=60)
    texts = [text.get_text() for text in figure.axes[0].texts]
    labels = [label for column in circuit.columns() for symbol in column for label in symbol.labels]
    for label in set(labels) - set("●⊕×"):
        assert texts.count(label) == labels.count(label)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=50)
    assert np.asarray(Image.open(buffer).convert("L")).std() > 1
    width, height = figure.get_size_inches() * figure.dpi
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert box.x0 >= 0
        assert box.x1 <= width
        assert box.y0 >= 0
        assert box.y1 <= height


def test_symbols_stand_on_the_wires_of_their_qubits_column_after_column():
    gates = [Gate("h", (2,)), Gate("cx", (2, 0)), Gate("swap", (0, 1)), Gate("y", (0,))]
    circuit = Circuit(3, gates)
    widths = column_widths(circuit.columns())
    assert len(widths) == 4
    middles = [5 + sum(widths[:place]) + width / 2 for place, width in enumerate(widths)]

    def marks(axes, kind):
        return sorted((line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == kind)

    (axes,) = circuit_figure(circuit, num_gates=100).axes
    texts = {(text.get_text(), *text.get_position()) for text in axes.texts}
    assert texts == {("q0", 0.5, 0), ("q1", 0.5, 1), ("q2", 0.5, 2), ("H", middles[0], 2), ("Y", middles[3], 0)}
    assert marks(axes, "+") == [(middles[1], 0)]
    assert sorted(marks(axes, "o")) == [(middles[1], 0), (middles[1], 2)]  # the ring of the target, and the control
    assert marks(axes, "x") == [(middles[2], 0), (middles[2], 1)]
    wires = [line.get_ydata() for line in axes.lines if line.get_xdata()[0] == 4]
    assert [list(wire) for wire in wires] == [[0, 0], [1, 1], [2, 2]]
    across = {line.get_xdata()[0]: list(line.get_ydata()) for line in axes.lines if len(line.get_xdata()) > 1}
    assert across[middles[1]] == [0, 2]
    heights = {text.get_text(): text.get_window_extent().y0 for text in axes.texts}
    assert heights["q0"] > heights["q1"] > heights["q2"]  # the first qubit is at the top
    (first,) = circuit_figure(circuit, num_gates=1).axes
    assert [text.get_text() for text in first.texts] == ["q0", "q1", "q2", "H"]
    (narrow,) = circuit_figure(circuit, num_gates=100, width=max(widths)).axes  # a row of wires for each column
    assert [text.get_position()[1] for text in narrow.texts if text.get_text() == "q1"] == pytest.approx([1, 4.6, 8.2, 11.8])
    assert next(text.get_position() for text in narrow.texts if text.get_text() == "Y") == (5 + widths[3] / 2, 3 * 3.6)
