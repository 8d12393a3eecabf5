"""Pictures of tables: bins, correlations, and how many columns are shown."""

import io

import numpy as np
import pytest
from matplotlib.figure import Figure

from qvae.reporting import table_figures

GENERATOR = np.random.default_rng(0)


def tables(columns, rows=50):
    return {name: GENERATOR.normal(size=(rows, columns)) for name in ("data", "reconstructions", "samples")}


def title(figure):
    return figure.get_suptitle()


@pytest.mark.parametrize("draw", [table_figures.marginals, table_figures.correlations])
@pytest.mark.parametrize("columns", [1, 3, 12])
def test_every_column_is_drawn(draw, columns):
    figure = draw(tables(columns), [f"name {c}" for c in range(columns)], "three tables")
    assert isinstance(figure, Figure)
    assert title(figure) == "three tables"
    figure.savefig(io.BytesIO(), format="png", dpi=40)


@pytest.mark.parametrize("draw", [table_figures.marginals, table_figures.correlations])
def test_of_many_columns_the_first_are_drawn_and_the_number_is_said(draw):
    figure = draw(tables(40), None, "three tables")
    assert title(figure) == "three tables (the first 12 of 40 columns)"
    labels = [axes.get_title() for axes in figure.axes] + [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert "column 11" in labels
    assert "column 12" not in labels


def test_the_names_of_many_sets_have_room_beside_one_column():
    figure = table_figures.marginals(tables(1))
    figure.savefig(io.BytesIO(), format="png")
    (legend,) = figure.legends
    box = legend.get_window_extent()
    assert 0 <= box.x0 < box.x1 <= figure.bbox.x1


def test_long_names_that_differ_at_the_end_stay_apart():
    shown = table_figures._labels(3, [f"expression of the gene {number}" for number in range(3)])
    assert len(set(shown)) == 3
    assert max(map(len, shown)) <= 18


def test_histograms_hold_all_rows_also_those_beyond_the_data():
    data = {"data": np.linspace(0, 1, 100)[:, None], "samples": np.array([[-5.0], [0.5], [7.0], [0.2]])}
    (axes,) = [axes for axes in table_figures.marginals(data).axes if axes.get_title()]
    samples = axes.patches[-1].get_xy()
    width = 1 / 40
    heights = [height for x, height in samples if height > 0]
    assert max(heights) == pytest.approx(0.25 / width, rel=0.01)  # each of four rows has a bin, those outside the outermost
    outermost = samples[:, 0].min(), samples[:, 0].max()
    assert all(any(x == pytest.approx(end, abs=1e-9) and height > 0 for x, height in samples) for end in outermost)
    for patch in axes.patches:
        heights, edges = patch.get_xy()[:, 1], patch.get_xy()[:, 0]
        area = sum(h * w for h, w in zip(heights[1::2], np.diff(edges)[1::2], strict=False))
        assert area == pytest.approx(1.0, rel=1e-6)
        assert edges.min() > -0.1
        assert edges.max() < 1.1


def test_whole_numbers_have_a_bin_each():
    edges = table_figures._edges(np.array([0.0, 3.0, 1.0, 1.0]))
    assert edges.tolist() == [-0.5, 0.5, 1.5, 2.5, 3.5]
    assert len(table_figures._edges(np.full(20, 0.3))) > 2  # a constant that isn't whole


def test_correlations_are_pearson_s():
    table = GENERATOR.normal(size=(60, 4))
    table[:, 1] = 2 * table[:, 0] + 0.5 * table[:, 1]
    centred = table - table.mean(0)
    scale = np.sqrt((centred**2).sum(0))
    found = table_figures.correlation_matrix(table)
    assert np.allclose(found, centred.T @ centred / np.outer(scale, scale))
    table[:, 2] = 7.0
    assert np.isnan(table_figures.correlation_matrix(table)[2]).all()  # and no warning
    shown = table_figures.correlations({"data": table}).axes[0].get_images()[0].get_array()
    assert np.allclose(np.asarray(shown)[:2, :2], found[:2, :2])


def test_categories_stand_by_their_names_under_the_axes():
    drawn = {"data": np.array([[0, 1.5], [1, 2.5], [2, 0.5]])}
    figure = table_figures.marginals(drawn, ["city", "size"], "", {"city": ("Aarau", "Bern", "Chur")})
    city, size = figure.axes[:2]
    assert [text.get_text() for text in city.get_xticklabels()] == ["Aarau", "Bern", "Chur"]
    assert city.get_xticks().tolist() == [0, 1, 2]
    assert "Bern" not in [text.get_text() for text in size.get_xticklabels()]
