"""Every picture shows the arrays that it was given, where its labels say that they are."""

import numpy as np
import pytest

from qvae.reporting import figures, table_figures

ROWS = [
    {"epoch": e, "surrogate": 50.0 - e, "minus_elbo": 40.0 - e, "held_out": 60.0 + e, "reconstruction": 30.0 - e, "kl": 5.0 + e,
     "energy": 0.0, "effective_beta": 1.0 + e / 10, "effective_beta_stderr": e / 100, "energy_beta": 2.0 + e / 10,
     "energy_beta_stderr": e / 50, "chain_memory": e / 8}
    for e in range(1, 4)
]  # fmt: skip


def lines(axes):
    """Points of the lines that have a label or marks, by their labels."""
    return {line.get_label(): (line.get_xdata(), line.get_ydata()) for line in axes.lines}


def bars(axes):
    """Values and error bars by their labels."""
    found = {}
    for container in axes.containers:
        line, _, (segments,) = container.lines
        errors = [(top - bottom) / 2 for (_, bottom), (_, top) in segments.get_segments()]
        found[container.get_label()] = (list(line.get_ydata()), pytest.approx(errors))
    return found


def picture(figure):
    return np.asarray(figure.axes[0].get_images()[0].get_array())


def tile(image, row, column, height=5, width=4):
    """One image of a grid, whose frames are a pixel wide."""
    return image[row * height : (row + 1) * height - 1, column * width : (column + 1) * width - 1]


def grey(number, *rest):
    """Images (number, 4, 3) of one shade each, all different."""
    return np.linspace(0.1, 0.9, number * int(np.prod(rest, initial=1))).reshape(number, *rest, 1, 1) * np.ones((4, 3))


def test_curves():
    drawn = figures.loss_curves(ROWS, elbo=-33.25, noun="row")
    losses, temperature, memory = drawn.axes
    shown = {label: y.tolist() for label, (x, y) in lines(losses).items() if len(x) == 3}
    assert shown == {
        "surrogate loss (not an ELBO)": [49.0, 48.0, 47.0],
        "-ELBO, one draw for each row": [39.0, 38.0, 37.0],
        "the same of held-out rows": [61.0, 62.0, 63.0],
        "reconstruction  -log p(x|z)": [29.0, 28.0, 27.0],
        "KL part": [6.0, 7.0, 8.0],
    }
    assert all(x.tolist() == [1, 2, 3] for x, _ in lines(losses).values() if len(x) == 3)
    assert lines(losses)["-ELBO at the end, test rows: 33.25"] == ([3], [33.25])
    assert losses.get_ylim()[1] > 63
    assert bars(temperature) == {
        "by pseudo-likelihood": ([1.1, 1.2, 1.3], [0.01, 0.02, 0.03]),
        "by matched energies": ([2.1, 2.2, 2.3], [0.02, 0.04, 0.06]),
    }
    assert memory.lines[0].get_ydata().tolist() == [0.125, 0.25, 0.375]
    device = [row | {"device_beta": 3.0, "device_beta_stderr": 0.25} for row in ROWS]
    assert list(bars(figures.loss_curves(device).axes[2]).values()) == [([3.0] * 3, [0.25] * 3)]


def test_a_grid_goes_from_left_to_right():
    images = grey(5)
    shown = picture(figures.image_grid(images, columns=2))
    assert [tile(shown, place // 2, place % 2).mean() for place in range(5)] == pytest.approx(images[:, 0, 0].tolist())
    colours = np.stack([np.zeros((4, 3)), np.full((4, 3), 0.5), np.ones((4, 3))])[None]
    assert picture(figures.image_grid(colours))[0, 0].tolist() == [0.0, 0.5, 1.0]  # red, green and blue in their order


def test_under_each_original_stands_its_reconstruction():
    originals = grey(18)
    shown = picture(figures.reconstruction_pairs(originals, originals / 2))
    for place in (0, 15, 16, 17):
        row, column = divmod(place, 16)
        assert tile(shown, 2 * row, column).mean() == pytest.approx(originals[place].mean())
        assert tile(shown, 2 * row + 1, column).mean() == pytest.approx(originals[place].mean() / 2)


def test_right_of_each_framed_sample_stand_its_neighbours():
    samples, neighbours = grey(3), grey(3, 2) / 2
    figure = figures.nearest_neighbours(samples, neighbours)
    shown = picture(figure)
    left, right = shown[:, :12], shown[:, 13:]  # a gap of a third of an image lies between
    for place, (block, row) in enumerate([(left, 0), (left, 1), (right, 0)]):
        assert tile(block, row, 0).mean() == pytest.approx(samples[place].mean())
        assert [tile(block, row, k).mean() for k in (1, 2)] == pytest.approx(neighbours[place].mean((1, 2)).tolist())
    assert [(patch.get_x() + 0.5, patch.get_width()) for patch in figure.axes[0].patches] == [(0, 4), (13, 4)]


def test_a_path_in_each_row_with_its_name():
    images = grey(2, 3)
    figure = figures.traversals(images, ["unit 7", "two images"])
    shown = [[tile(picture(figure), row, column).mean() for column in range(3)] for row in range(2)]
    assert np.allclose(shown, images[..., 0, 0])
    names = [(text.get_text(), text.get_position()[1]) for text in figure.axes[0].texts]
    assert names == [("unit 7", 2.5), ("two images", 7.5)]


def test_points_have_the_colour_of_their_class():
    points, labels = np.arange(12.0).reshape(6, 2), np.array([3, 1, 3, 1, 1, 7])
    axes = figures.code_map(points, labels).axes[0]
    shown = {group.get_label(): group.get_offsets().tolist() for group in axes.collections}
    assert shown == {str(label): points[labels == label].tolist() for label in (1, 3, 7)}


def test_units_are_sorted_and_counted():
    axes = figures.unit_use(np.array([0.005, 0.5, 0.0, 0.2]), 0.01).axes[0]
    assert axes.get_title() == "2 of 4 units carry more than 0.01 nats"
    outline = axes.collections[0].get_paths()[0].vertices
    assert [outline[outline[:, 0] == x, 1].max() for x in (1.0, 2.0, 3.0)] == [0.5, 0.2, 0.005]  # steps end there
    assert axes.lines[0].get_ydata()[0] == pytest.approx(np.log(2))


def test_couplings_stand_at_their_spins():
    edges, J, h = np.array([[0, 2], [0, 4], [1, 3]]), np.array([0.5, -0.25, 0.125]), np.linspace(-1, 1, 5)
    whole, layered = (figures.couplings(h, edges, J, layers).axes[0] for layers in (None, (2, 3)))
    matrix = np.ma.filled(np.ma.masked_invalid(whole.get_images()[0].get_array()), 0.0)
    expected = np.zeros((5, 5))
    for (i, j), value in zip(edges, J, strict=True):
        expected[i, j] = expected[j, i] = value
    assert np.array_equal(matrix, expected)
    shown = np.ma.filled(np.ma.masked_invalid(layered.get_images()[0].get_array()), 0.0)
    assert np.array_equal(shown, expected[:2, 2:])
    assert (layered.get_ylabel(), layered.get_xlabel()) == ("spin of the first layer", "spin of the second layer")
    counts = figures.couplings(h, edges, J).axes[1].patches
    assert sum(patch.get_height() for patch in counts) == 5


def test_energies_of_the_prior_and_of_rows_are_told_apart():
    axes = figures.energy_histogram(np.array([0.0, 0.0]), np.array([10.0])).axes[0]
    places = {bars[0].get_label(): next(bar.get_x() for bar in bars if bar.get_height()) for bars in axes.containers}
    assert places["samples of the prior"] == pytest.approx(0.0, abs=1e-9)
    assert places["encoded test images"] == pytest.approx(10.0, abs=0.2)


def test_runs_stand_in_columns():
    black, grey, white = (np.full((2, 3, 3), shade) for shade in (0.0, 0.5, 1.0))
    shown = figures.side_by_side([{"a": black, "b": white}, {"b": grey}], ["x", "y"])
    shades = [axes.get_images()[0].get_array().mean() if axes.get_images() else None for axes in shown.axes]
    assert shades == [0.0, None, 1.0, 0.5]
    assert [axes.get_title() for axes in shown.axes] == ["x", "y", "", ""]


def test_columns_of_a_table_are_drawn_under_their_names():
    data = np.stack([np.zeros(4), np.ones(4), np.arange(4)], 1)
    shown = table_figures.marginals({"data": data, "samples": data[::-1]}, ["a", "b", "c"])
    edges = {axes.get_title(): axes.patches[0].get_xy()[:, 0] for axes in shown.axes[:3]}
    assert (edges["a"].min(), edges["a"].max()) == (-0.5, 0.5)
    assert (edges["b"].min(), edges["b"].max()) == (0.5, 1.5)
    assert (edges["c"].min(), edges["c"].max()) == (-0.5, 3.5)
    shown = table_figures.correlations({"data": data + np.eye(4, 3), "samples": -data + np.eye(4, 3)}, ["a", "b", "c"])
    matrices = {axes.get_title(): np.asarray(axes.get_images()[0].get_array()) for axes in shown.axes[:2]}
    assert np.allclose(matrices["data"], np.corrcoef(data + np.eye(4, 3), rowvar=False))
    assert np.allclose(matrices["samples"], np.corrcoef(-data + np.eye(4, 3), rowvar=False))
    assert [text.get_text() for text in shown.axes[0].get_xticklabels()] == ["a", "b", "c"]
