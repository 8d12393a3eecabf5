"""Pictures of a plateau hold the numbers they were given, and the lines that were fitted: by hand, at a few sizes."""

import numpy as np
import pytest

from qvae.circuits.gradients.variance import Decay, GradientVariance
from qvae.diagnosis.figures import _MOST_NAMED, norm_curves, variance_curves
from qvae.diagnosis.layers import Layer
from qvae.diagnosis.plateau import Curve, Plateau


def curve(against, cost, sizes, variances, errors, rate=None, law=""):
    given = tuple(GradientVariance(*pair, 1.0, 100) for pair in zip(variances, errors, strict=True))
    fixed = "3 layers" if against == "qubits" else "4 qubits"
    return Curve(against, fixed, cost, sizes, given, None if rate is None else Decay(rate, 0.1, 1.0), law)


# Logarithms 0, -1, -4 with weights 4, 4, 1: their mean is -8/9, where the mean of 2, 4, 6 is 30/9, and that of 1, 2, 3 is 15/9.
UNEVEN = ((1.0, 0.5, 1 / 16), (0.1, 0.05, 0.2 / 16))
CURVES = (
    curve("qubits", "global", (2, 4, 6), *UNEVEN, 1.0, "exponential"),
    curve("qubits", "local", (2, 4, 8), *UNEVEN, 2.0, "power"),
    curve("layers", "global", (1, 5), (0.3, 0.2), (0.03, 0.01)),
)


@pytest.fixture(scope="module")
def panels():
    return variance_curves(Plateau(6, 3, 100, CURVES, ())).axes


def test_points_have_their_variances_and_errors(panels):
    assert [panel.get_xlabel() for panel in panels] == ["qubits", "layers"]
    assert [panel.get_title() for panel in panels] == ["3 layers", "4 qubits"]
    assert [panel.get_yscale() for panel in panels] == ["log", "log"]
    assert [list(panel.get_xticks()) for panel in panels] == [[2, 4, 6, 8], [1, 5]]
    shown = [(panel, points) for panel in panels for points in panel.containers]
    for (panel, points), given in zip(shown, CURVES, strict=True):
        line, _, (bars,) = points.lines
        assert panel.get_xlabel() == given.against
        assert points.get_label() == f"{given.cost} cost"
        assert tuple(line.get_xdata()) == given.sizes
        assert tuple(line.get_ydata()) == tuple(found.variance for found in given.variances)
        for (low, high), found in zip(bars.get_segments(), given.variances, strict=True):
            assert (low[1], high[1]) == pytest.approx((found.variance - found.stderr, found.variance + found.stderr))


def test_lines_go_through_the_weighted_mean_with_the_rate(panels):
    fits = [line for line in panels[0].get_lines() if len(line.get_xdata()) > 3]
    assert not [line for line in panels[1].get_lines() if len(line.get_xdata()) > 2]
    for line, (first, last) in zip(fits, ((2, 6), (2, 8)), strict=True):
        assert (line.get_xdata()[0], line.get_xdata()[-1]) == (first, last)
    exponential, power = ((line.get_xdata(), line.get_ydata()) for line in fits)
    assert np.allclose(exponential[1], 2.0 ** (-8 / 9 - (exponential[0] - 30 / 9)))
    assert np.allclose(power[1], 2.0 ** (-8 / 9 - 2 * (np.log2(power[0]) - 15 / 9)))


def test_a_legend_names_so_many_layers_and_no_more():
    figure = norm_curves((1,), [Layer(f"layer {place}", 1, (1.0,)) for place in range(_MOST_NAMED + 6)])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [f"layer {place}" for place in range(_MOST_NAMED)]
    assert len(figure.axes[0].get_lines()) == _MOST_NAMED + 6
