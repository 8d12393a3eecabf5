"""Curves of a benchmark: every sampler's numbers at its seconds, in its colour, with the errors beside them."""

import numpy as np
import pytest
from matplotlib import colormaps

from qvae.measuring.figures import error_curves, time_split, training_curves


def points(*rows):
    """Points of a curve: CPU seconds, the error of means, its floor and error bar."""
    return [
        {"cpu_seconds": seconds, "wall_seconds": 10 * seconds, "means": means, "means_floor": floor, "means_stderr": error}
        for seconds, means, floor, error in rows
    ]


CURVES = {
    "slow": points((1.0, 0.5, 0.4, 0.05), (2.0, 0.25, 0.2, 0.9), (4.0, 0.0, 0.1, None)),
    "quick": points((0.5, 0.3, 0.2, 0.01)),
}


def drawn(axes):
    """Seconds, errors and error bars (below, above) of each sampler by its name."""
    found = {}
    for container in axes.containers:
        line, _, (segments,) = container.lines
        bars = [(y - low, high - y) for y, ((_, low), (_, high)) in zip(line.get_ydata(), segments.get_segments(), strict=True)]
        found[container.get_label()] = (line.get_xdata().tolist(), line.get_ydata().tolist(), bars)
    return found


def test_errors_stand_at_the_seconds_of_each_sampler_s_clock():
    clocks = {"slow": "cpu", "quick": "wall"}
    figure = error_curves(CURVES, clocks, ["other", "slow", "quick"], {"means": 0.02}, {"means": 0.03})
    (axes,) = figure.axes
    found = drawn(axes)
    # The last point's error is nothing: it is drawn at an eighth of the smallest floor, and has no bar.
    assert found["slow"][:2] == ([1.0, 2.0, 4.0], [0.5, 0.25, 0.0125])
    # Below, a bar is at most seven tenths of the value.
    assert [tuple(bar) for bar in found["slow"][2]] == [pytest.approx(bar) for bar in ((0.05, 0.05), (0.175, 0.9), (0, 0))]
    assert found["quick"][:2] == ([5.0], [0.3])
    colours = [colormaps["tab10"](place) for place in (1, 2)]  # in the order of all names
    assert [container.lines[0].get_color() for container in axes.containers] == colours
    floors = [line for line in axes.lines if line.get_linestyle() == ":"]
    assert [line.get_ydata().tolist() for line in floors] == [[0.4, 0.2, 0.1], [0.2]]
    assert [line.get_color() for line in floors] == colours
    assert [0.03, 0.03] in [list(line.get_ydata()) for line in axes.lines]
    band = axes.patches[0].get_extents().transformed(axes.transData.inverted()).y1 if axes.patches else None
    assert band == pytest.approx(0.02)
    assert axes.get_ylim()[0] <= 0.7 * 0.02
    assert (axes.get_title(), axes.get_xscale(), axes.get_yscale()) == ("error of means", "log", "log")


def test_each_quantity_that_is_known_has_a_panel_and_an_exact_truth_no_band():
    curves = {"a": [row | {"total_variation": 0.5, "energy": None} for row in CURVES["slow"]]}
    figure = error_curves(curves, {"a": "cpu"}, ["a"], {"means": 0.0}, {})
    assert [axes.get_title() for axes in figure.axes] == ["error of means", "total variation"]
    assert not any(axes.patches for axes in figure.axes)
    assert len(error_curves({}, {}, [], {}, {}).axes) == 1


def test_likelihoods_and_parts_of_a_step_stand_beside_their_samplers():
    curve = [{"seconds": 2.0, "log_likelihood": -90.0, "log_z_stderr": 0.5},
             {"seconds": 4.0, "log_likelihood": -80.0, "log_z_stderr": None}]  # fmt: skip
    (axes,) = training_curves({"mine": curve}).axes
    assert drawn(axes) == {"mine": ([2.0, 4.0], [-90.0, -80.0], [(0.5, 0.5), (0.0, 0.0)])}
    parts = {"a": {"forward": 1.0, "backward": 2.0}, "b": {"forward": 3.0, "optimizer": 0.5}}
    (axes,) = time_split(parts).axes
    bars = {group.get_label(): [(bar.get_x(), bar.get_width()) for bar in group] for group in axes.containers}
    assert bars == {
        "forward": [(0, 1.0), (0, 3.0)], "backward": [(1.0, 2.0), (3.0, 0.0)], "optimizer": [(3.0, 0.0), (3.0, 0.5)],
    }  # fmt: skip
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names == ["a", "b"]
    assert np.greater(*axes.get_ylim())  # the first at the top
