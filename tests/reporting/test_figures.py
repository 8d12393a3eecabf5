"""Every figure function takes arrays and gives a matplotlib Figure, without a display; what the pictures must show."""

import io
import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image, ImageSequence

from qvae.reporting import figures

GENERATOR = np.random.default_rng(0)
ROWS = [
    {"epoch": e, "reconstruction": 10.0 / e, "kl": None if e % 2 else 3.0, "surrogate": None if e % 2 else 12.0 / e,
     "effective_beta": None if e % 2 else 1.0, "effective_beta_stderr": None if e % 2 else 0.1, "chain_memory": None}
    for e in range(1, 9)
]  # fmt: skip
EDGES = np.array([[0, 2], [0, 3], [1, 2], [1, 3]])


def images(*shape):
    return GENERATOR.random(shape)


@pytest.mark.parametrize(
    "figure",
    [
        lambda: figures.loss_curves(ROWS, -11.0),
        lambda: figures.loss_curves([]),
        lambda: figures.loss_curves([{**row, "device_beta": 2.1, "device_beta_stderr": 0.1} for row in ROWS]),
        lambda: figures.image_grid(images(7, 5, 4)),
        lambda: figures.image_grid(images(6, 3, 5, 4), title="colour"),
        lambda: figures.reconstruction_pairs(images(19, 5, 4), images(19, 5, 4)),
        lambda: figures.nearest_neighbours(images(5, 4, 4), images(5, 3, 4, 4)),
        lambda: figures.traversals(images(2, 9, 4, 4), ["unit 1", "unit 7"]),
        lambda: figures.code_map(images(30, 2), np.arange(30) % 3, "codes"),
        lambda: figures.code_map(images(30, 2)),
        lambda: figures.code_map(images(60, 2), np.arange(60) % 30),
        lambda: figures.unit_use(images(9) * np.log(2), 0.01),
        lambda: figures.couplings(images(4) - 0.5, EDGES, images(4) - 0.5, (2, 2)),
        lambda: figures.couplings(images(4), EDGES, images(4)),
        lambda: figures.couplings(images(4), np.zeros((0, 2), int), np.zeros(0)),
        lambda: figures.energy_histogram(images(100), images(50) + 1),
        lambda: figures.energy_histogram(np.zeros(10), np.zeros(10)),
        lambda: figures.side_by_side([{"a": images(9, 5, 3)}, {"b": images(4, 5, 3)}], ["x", "y"], "two"),
    ],
)
def test_arrays_in_figure_out(figure):
    made = figure()
    assert isinstance(made, Figure)
    buffer = io.BytesIO()
    made.savefig(buffer, format="png", dpi=40)
    picture = np.asarray(Image.open(buffer).convert("L"))
    assert picture.std() > 1  # something is drawn


def test_rows_of_a_table_are_not_called_images():
    axes = figures.loss_curves(ROWS, noun="row").axes[0]
    assert axes.get_ylabel() == "nats per row"
    _, labels = figures.energy_histogram(images(9), images(9), "row").axes[0].get_legend_handles_labels()
    assert "encoded test rows" in labels


def shown(figure):
    return np.asarray(figure.axes[0].get_images()[0].get_array())


def test_no_reconstruction_is_left_out():
    originals = np.zeros((19, 4, 4))
    originals[18] = 1.0
    picture = shown(figures.reconstruction_pairs(originals, np.zeros_like(originals)))
    assert (picture == 1.0).sum() == 16  # the nineteenth image is there


def test_frames_of_a_film_share_axes_and_colours():
    labels = np.arange(20) % 2
    film = figures.latent_film([images(20, 2), 5 * images(20, 2)], ["epoch 1", "epoch 2"], labels)
    assert len({(*frame.axes[0].get_xlim(), *frame.axes[0].get_ylim()) for frame in film}) == 1
    assert min(film[0].axes[0].get_xlim()[1], film[0].axes[0].get_ylim()[1]) >= 4  # the farthest point of any frame is inside
    colours = [[tuple(points.get_facecolor()[0]) for points in frame.axes[0].collections] for frame in film]
    assert colours[0] == colours[1]
    assert [frame.axes[0].get_title() for frame in film] == ["epoch 1", "epoch 2"]


def test_a_gif_has_every_frame():
    film = figures.latent_film([images(20, 2) - 0.5 for _ in range(4)], list("abcd"), np.arange(20) % 4)
    with Image.open(io.BytesIO(figures.gif(film, dpi=40))) as animation:
        frames = [np.asarray(frame.convert("RGB"), dtype=int) for frame in ImageSequence.Iterator(animation)]
        assert animation.info["loop"] == 0
        assert [frame.info["duration"] for frame in ImageSequence.Iterator(animation)] == [350, 350, 350, 2000]
    assert len(frames) == 4
    assert all(np.abs(a - b).max() > 50 for a, b in itertools.pairwise(frames))


def test_the_elbo_stands_at_its_loss_at_the_last_epoch():
    axes = figures.loss_curves(ROWS, -11.0).axes[0]
    (star,) = [line for line in axes.lines if "ELBO at the end" in str(line.get_label())]
    assert (star.get_xdata().tolist(), star.get_ydata().tolist()) == ([8], [11.0])


def test_dollars_in_a_name_are_drawn_as_dollars(tmp_path):
    figure = figures.image_grid(images(1, 5, 4), title="$a_b and $c")
    file = figures.save_figure(figure, tmp_path / "new" / "a.png", dpi=40)
    assert not figure.axes[0].title.get_parse_math()
    assert Image.open(file).width == round(40 * figure.get_figwidth())


@pytest.mark.parametrize("columns", [1, 5])
def test_a_title_has_room_above_few_images(columns, tmp_path):
    title = "what was given, the best guess, completions, and their spread"
    figure = figures.image_grid(images(3 * columns, 8, 8), columns, title)
    figures.save_figure(figure, tmp_path / "a.png", dpi=figure.dpi)
    text = figure.axes[0].title.get_window_extent()
    assert 0 <= text.x0 < text.x1 <= figure.bbox.width
    assert 0 <= text.y0 < text.y1 <= figure.bbox.height
    assert figure.axes[0].get_window_extent().y1 <= text.y0


def test_classes_up_to_twenty_have_a_legend_and_all_their_own_colour():
    for classes, has_legend in ((10, True), (11, True), (20, True), (21, False)):
        figure = figures.code_map(images(42, 2), np.arange(42) % classes)
        colours = {tuple(points.get_facecolor()[0]) for points in figure.axes[0].collections}
        assert (len(colours), bool(figure.legends)) == (classes, has_legend)
    sizes = [figures.code_map(np.zeros((count, 2))).axes[0].collections[0].get_sizes()[0] for count in (10, 400, 4000)]
    assert sizes == [20, 10, 3]
