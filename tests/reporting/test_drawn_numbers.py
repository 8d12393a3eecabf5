"""Every picture shows the arrays that it was given, where its labels say that they are."""

from types import SimpleNamespace

import numpy as np
import pytest

from qvae.reporting import figures, table_figures
from qvae.reporting.game_figure import game_curves
from qvae.reporting.path_figure import paths_figure
from qvae.reporting.score_figure import score_histograms
from qvae.reporting.strings import strings_figure

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


def test_the_axis_of_losses_is_that_of_epochs_after_the_first_twentieth():
    rows = [{"epoch": e, "surrogate": 1000.0 if e < 3 else -20.0 if e == 3 else 30.0} for e in range(1, 41)]
    (losses,) = figures.loss_curves([row | {"kl": 40.0} for row in rows]).axes
    assert losses.get_ylim() == pytest.approx((-22.0, 44.0))
    assert figures.loss_curves(rows, elbo=-60.0).axes[0].get_ylim() == pytest.approx((-22.0, 66.0))
    assert figures.loss_curves(rows[:39]).axes[0].get_ylim()[1] == pytest.approx(1100.0)  # of 39 a twentieth is one
    _, temperature, memory = figures.loss_curves([row | {"energy": 0.0} for row in ROWS]).axes
    assert temperature.get_ylim()[0] == 0.8
    assert temperature.get_ylim()[1] > 2.3 + 0.06
    assert temperature.lines[-1].get_ydata() == [1, 1]
    assert memory.get_ylim() == (-0.1, 1.05)


def test_a_grid_is_about_as_high_as_it_is_wide():
    for count, columns in ((64, 8), (12, 3), (13, 4), (1, 1)):
        assert picture(figures.image_grid(grey(count))).shape[1] == 4 * columns


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
    assert picture(figures.reconstruction_pairs(grey(3), grey(3))).shape[:2] == (2 * 5, 3 * 4)  # as wide as three


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
    assert (axes.get_xlim(), axes.get_ylim()) == ((0, 4), (0, 0.75))
    reals = figures.unit_use(np.array([2.0, 5.0]), 2.0, are_bits=False).axes[0]
    assert (reals.get_ylim()[1], list(reals.lines)) == (pytest.approx(5.5), [])  # which may hold more than a bit
    assert reals.get_title() == "1 of 2 units carry more than 2 nats"


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
    assert whole.get_images()[0].get_clim() == pytest.approx((-0.4975, 0.4975))  # between 0.25 and 0.5, 0.99 of the way
    counts = figures.couplings(h, edges, J).axes[1].patches
    assert sum(patch.get_height() for patch in counts) == 5
    wide = figures.couplings(np.zeros(1025), edges, J).axes[0]  # whose matrix has more entries than the picture pixels
    assert not wide.get_images()
    assert sum(patch.get_height() for patch in wide.patches) == 3
    assert figures.couplings(np.zeros(1024), edges, J).axes[0].get_images()


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


def test_a_game_has_its_figures_under_their_names_after_the_autoencoder_s_epochs():
    scores = {"gap": 1.0, "slope": 0.25, "generator": -3.0}
    shares = {"precision": 0.1, "recall": 0.2, "density": 0.3, "coverage": 0.4, "spread": 0.5}
    before = [{"epoch": 1, "reconstruction": 9.0}, {"epoch": 2, "reconstruction": 8.0}]
    game = [{"epoch": 3} | scores | shares, {"epoch": 4} | {key: 2 * value for key, value in scores.items()}]
    autoencoder, critic, samples = game_curves([*before, *game]).axes
    assert [line.tolist() for line in autoencoder.lines[0].get_data()] == [[1, 2], [9.0, 8.0]]
    shown = {label: (list(x), list(y)) for label, (x, y) in lines(critic).items() if label[0] != "_"}
    assert shown == {
        "gap between data and samples": ([3, 4], [1.0, 2.0]),
        "slope where it is penalised": ([3, 4], [0.25, 0.5]),
        "the generator's loss": ([3, 4], [-3.0, -6.0]),
    }
    shown = {label: (list(x), list(y)) for label, (x, y) in lines(samples).items() if label[0] != "_"}
    assert shown == {
        "precision": ([3], [0.1]), "recall": ([3], [0.2]), "density": ([3], [0.3]), "coverage": ([3], [0.4]),
        "variance, that of data is 1": ([3], [0.5]),
    }  # fmt: skip
    assert len(game_curves(game).axes) == 2  # of a generator alone


def test_a_path_stands_above_the_straight_one_and_its_energies_end_where_it_does():
    low, straight = (
        SimpleNamespace(images=images, energies=np.array(energies))
        for images, energies in ((grey(3), [1.0, 2.0, 0.5, np.nan]), (grey(3) / 2, [1.0, 5.0, 4.0, 0.5]))
    )
    strips, curves, *_ = paths_figure([(low, straight), (straight, low)]).axes
    shown = np.asarray(strips.get_images()[0].get_array())
    assert [tile(shown, 0, column).mean() for column in range(3)] == pytest.approx(grey(3)[:, 0, 0].tolist())
    assert [tile(shown, 1, column).mean() for column in range(3)] == pytest.approx((grey(3) / 2)[:, 0, 0].tolist())
    found = {label: (x.tolist(), y.tolist()) for label, (x, y) in lines(curves).items()}
    assert found["through the landscape"] == ([0.0, 0.5, 1.0], [1.0, 2.0, 0.5])
    assert found["straight"] == (pytest.approx([0.0, 1 / 3, 2 / 3, 1.0]), [1.0, 5.0, 4.0, 0.5])


def test_scores_of_normal_and_of_given_rows_are_told_apart():
    normal = {"likelihood": np.array([0.0, 0.0, 1.0]), "kl_part": np.array([5.0])}
    axes = score_histograms(normal, {"likelihood": np.array([10.0]), "kl_part": np.array([6.0])}).axes
    assert [panel.get_title() for panel in axes] == ["likelihood", "kl part"]
    for panel, ends in zip(axes, ((0.0, 10.0), (5.0, 6.0)), strict=True):
        places = {bars[0].get_label(): [bar.get_x() for bar in bars if bar.get_height()] for bars in panel.containers}
        assert places["normal"][0] == pytest.approx(ends[0])
        assert places["given"] == [pytest.approx(ends[1], abs=0.25)]


def test_strings_are_counted_by_their_lengths_and_characters():
    """Of "ab", "b" and " b" three fifths of the characters are b; "bb" and "" have no other."""
    lengths, characters = strings_figure({"data": ["ab", "b", " b"], "samples": ["bb", ""]}).axes
    outlines = {patch.get_label(): patch.get_xy() for patch in lengths.patches}
    heights = {label: {x: y for x, y in outline if y} for label, outline in outlines.items()}
    assert heights["data"] == pytest.approx({0.5: 1 / 3, 1.5: 2 / 3, 2.5: 2 / 3})
    assert heights["samples"] == pytest.approx({-0.5: 0.5, 0.5: 0.5, 1.5: 0.5, 2.5: 0.5})
    assert [text.get_text() for text in characters.get_xticklabels()] == ["␣", "a", "b"]
    bars = {group.get_label(): [(bar.get_x() + bar.get_width() / 2, bar.get_height()) for bar in group]
            for group in characters.containers}  # fmt: skip
    assert bars["data"] == [(pytest.approx(place - 0.2), pytest.approx(part)) for place, part in enumerate((0.2, 0.2, 0.6))]
    assert bars["samples"] == [(pytest.approx(place + 0.2), part) for place, part in enumerate((0, 0, 1))]
    assert characters.get_title() == "part of all characters"
    many = [chr(65 + place) for place in range(41)]
    title = strings_figure({"data": many}).axes[1].get_title()
    assert title == "part of all characters (the 40 most frequent)"
