"""The picture of a circuit."""

import io

import numpy as np
import pytest
from PIL import Image

from qvae.circuits.circuit import Circuit, Gate
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
