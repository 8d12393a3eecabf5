"""Pictures of a run: each function takes arrays and returns a matplotlib Figure, without a display."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from qvae.files import atomic_write_bytes

_CURVES = (
    ("surrogate", "surrogate loss (not an ELBO)"),
    ("minus_elbo", "-ELBO, one draw for each row"),
    ("held_out", "the same of held-out rows"),
    ("reconstruction", "reconstruction  -log p(x|z)"),
    ("kl", "KL part"),
)
_LETTERS = 12  # of a title, on an inch
_MATRIX_SPINS = 1024  # above this a matrix of couplings has more entries than pixels, and a histogram says more


def save_figure(figure: Figure, file: Path, dpi: int = 150) -> Path:
    """Write a PNG, whole or not at all, and make its folder if need be."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # dollars in names of runs and columns are dollars
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    file.parent.mkdir(exist_ok=True)
    atomic_write_bytes(file, buffer.getvalue())
    return file


# Training -------------------------------------------------------------------------------------------------------------


def loss_curves(rows: Sequence[Mapping[str, Any]], elbo: float | None = None, noun: str = "image") -> Figure:
    """Loss, reconstruction and KL part over epochs, and what the sampler was seen to do, where there is one.

    Args:
        rows: one mapping per epoch, as in ``metrics.jsonl``.
        elbo: the true ELBO at the end, drawn as a point where it is known.
        noun: what a row of the data is.
    """
    has_sampler = any("energy" in row for row in rows) or not rows
    figure = Figure(figsize=(12 if has_sampler else 7, 4.2), layout="constrained")
    losses, *others = figure.subplots(1, 3, width_ratios=(5, 3, 3)) if has_sampler else [figure.subplots()]
    for key, label in _CURVES:
        epochs, values = _series(rows, key)
        if len(epochs):
            losses.plot(epochs, values, label=label)
    if elbo is not None and rows:
        losses.plot(rows[-1]["epoch"], -elbo, "k*", markersize=9, label=f"-ELBO at the end, test {noun}s: {-elbo:.2f}")
    losses.set(xlabel="epoch", ylabel=f"nats per {noun}", title="Training")
    # The first epochs fall steeply; without a cut they flatten everything that follows.
    settled = [_series(rows[len(rows) // 20 :], key)[1] for key, _ in _CURVES]
    shown = np.concatenate([*settled, [0.0] if elbo is None else [0.0, -elbo]])
    losses.set_ylim(1.1 * float(shown.min()), 1.1 * float(shown.max()) or 1.0)
    figure.legend(*losses.get_legend_handles_labels(), loc="outside lower left", ncols=2, frameon=False, fontsize=8)
    if not has_sampler:
        return _without_frames(figure)
    temperature, memory = others
    _draw_with_error(temperature, rows, "effective_beta", "by pseudo-likelihood")
    _draw_with_error(temperature, rows, "energy_beta", "by matched energies")
    if len(temperature.containers) > 1:
        temperature.legend(frameon=False, fontsize=8)
    temperature.axhline(1, color="grey", linewidth=0.8)
    temperature.set(xlabel="epoch", ylabel="effective inverse temperature", title="Negative phase (1 is right)")
    low, high = temperature.get_ylim()
    temperature.set_ylim(min(low, 0.8), max(high, 1.2))
    if any(row.get("device_beta") is not None for row in rows):
        _draw_with_error(memory, rows, "device_beta", "")
        memory.set(xlabel="epoch", ylabel="inverse temperature, in submitted units", title="The annealer's own")
        return _without_frames(figure)
    epochs, remembered = _series(rows, "chain_memory")
    if len(epochs):
        memory.plot(epochs, remembered, ".-")
    else:
        memory.text(0.5, 0.5, "no chains that persist", ha="center", transform=memory.transAxes, color="grey")
    memory.set(xlabel="epoch", ylabel="correlation since the last look", title="Chains' memory (0 mixes)", ylim=(-0.1, 1.05))
    return _without_frames(figure)


def _draw_with_error(axes: Axes, rows: Sequence[Mapping[str, Any]], key: str, label: str) -> None:
    known = [row for row in rows if row.get(key) is not None and row.get(f"{key}_stderr") is not None]
    if known:
        (epochs, values), (_, errors) = _series(known, key), _series(known, f"{key}_stderr")
        axes.errorbar(epochs, values, yerr=errors, fmt=".-", capsize=2, label=label)


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
    array = np.array(pairs, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


# Images ---------------------------------------------------------------------------------------------------------------


def image_grid(images: np.ndarray, columns: int | None = None, title: str = "") -> Figure:
    """Images (N, H, W) or (N, C, H, W) with values in [0, 1], side by side."""
    columns = columns or max(1, round(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    return _show(tiled(images, columns), columns, rows, title)


def reconstruction_pairs(originals: np.ndarray, reconstructions: np.ndarray, title: str = "") -> Figure:
    """Originals (N, ...) with their reconstructions (N, ...) under them, sixteen pairs to a row."""
    columns = min(16, len(originals))
    rows = -(-len(originals) // columns)
    blank = np.full((rows * columns - len(originals), *originals.shape[1:]), 0.5)
    pair = [np.concatenate([images, blank]).reshape(rows, columns, *blank.shape[1:]) for images in (originals, reconstructions)]
    flat = np.stack(pair, axis=1).reshape(-1, *blank.shape[1:])
    return _show(tiled(flat, columns), columns, 2 * rows, title)


def nearest_neighbours(samples: np.ndarray, neighbours: np.ndarray, title: str = "") -> Figure:
    """Samples (N, ...), framed, with their nearest training images (N, k, ...) right of them; two blocks side by side."""
    rows = np.concatenate([samples[:, None], neighbours], axis=1)
    half = -(-len(rows) // 2)
    rows = np.concatenate([rows, np.ones((2 * half - len(rows), *rows.shape[1:]))])
    columns, (height, width) = rows.shape[1], (size + 1 for size in samples.shape[-2:])
    blocks = [tiled(block.reshape(-1, *samples.shape[1:]), columns) for block in (rows[:half], rows[half:])]
    gap = np.ones((half * height, width // 3, blocks[0].shape[-1]))  # as the page around
    figure = _show(np.concatenate([blocks[0], gap, blocks[1]], axis=1), 2 * columns, half, title)
    for left in (0, columns * width + width // 3):
        frame = Rectangle((left - 0.5, -0.5), width, half * height, fill=False, edgecolor="tab:orange", linewidth=2)
        figure.axes[0].add_patch(frame)
    return figure


def traversals(images: np.ndarray, names: Sequence[str], title: str = "") -> Figure:
    """Decoded images (rows, columns, ...), a path through the latent space in each row, with the rows' names."""
    rows, columns = images.shape[:2]
    figure = _show(tiled(images.reshape(-1, *images.shape[2:]), columns), columns, rows, title)
    height = images.shape[-2] + 1
    for row, name in enumerate(names):
        figure.axes[0].text(-1.5, (row + 0.5) * height, name, ha="right", va="center", fontsize=8)
    return figure


def tiled(images: np.ndarray, columns: int) -> np.ndarray:
    """One picture (height, width, channels) with a one-pixel grey frame around each image."""
    pictures = images[:, None] if images.ndim == 3 else images
    pictures = np.pad(np.moveaxis(pictures, 1, -1), ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=0.5)
    _, height, width, channels = pictures.shape
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * columns, height, width, channels), 0.5)
    canvas[: len(pictures)] = pictures
    return canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2).reshape(rows * height, -1, channels)


def _show(picture: np.ndarray, columns: int, rows: int, title: str) -> Figure:
    width = max(3.0, 0.8 * columns)
    lines = textwrap.wrap(title, int(_LETTERS * width))
    above = 0.2 + 0.2 * len(lines) if lines else 0.0
    figure = Figure(figsize=(width, max(1.5, 0.8 * rows) + above), layout="constrained")
    axes = figure.subplots()
    if picture.shape[-1] == 3:
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title("\n".join(lines), fontsize=10)
    return figure


# Latents --------------------------------------------------------------------------------------------------------------


def code_map(
    points: np.ndarray, labels: np.ndarray | None = None, title: str = "", limits: tuple[float, float] | None = None
) -> Figure:
    """A map (N, 2) of latent codes, coloured by class, with a legend.

    Args:
        points: as from :func:`qvae.evaluation.tsne.tsne_map`.
        labels: classes, (N,); None draws all alike.
        title: above the map.
        limits: of both axes, for frames that must not jump; None fits them to the points.
    """
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    size = float(np.clip(4000 / max(len(points), 1), 3, 20))
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], s=size, alpha=0.8, linewidths=0)
    else:
        classes = np.unique(labels)
        colours = colormaps["tab10" if len(classes) <= 10 else "turbo"]
        for place, label in enumerate(classes):
            colour = colours(place if len(classes) <= 10 else place / (len(classes) - 1))
            x, y = points[labels == label].T
            axes.scatter(x, y, s=size, alpha=0.8, linewidths=0, color=colour, label=str(label))
        if len(classes) <= 20:
            figure.legend(loc="outside right center", title="class", frameon=False, markerscale=max(1.0, 6 / size**0.5))
    if limits is not None:
        axes.set(xlim=limits, ylim=limits)
    axes.set(xticks=[], yticks=[], aspect="equal" if limits is not None else "auto")
    axes.set_title(title, fontsize=10)
    return figure


def latent_film(maps: Sequence[np.ndarray], titles: Sequence[str], labels: np.ndarray | None = None) -> list[Figure]:
    """One :func:`code_map` per map (N, 2), all with the same axes and colours."""
    reach = 1.05 * max(float(np.abs(points).max()) for points in maps)
    return [code_map(points, labels, title, (-reach, reach)) for points, title in zip(maps, titles, strict=True)]


def gif(figures: Sequence[Figure], milliseconds: int = 350, dpi: int = 80) -> bytes:
    """An animation of figures of one size, the last of which stays for two seconds, as the bytes of a GIF."""
    frames = [_pixels(figure, dpi) for figure in figures]
    # One palette for all frames: otherwise colours flicker.
    palette = frames[-1].quantize(128)
    first, *rest = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    durations = [milliseconds] * len(rest) + [2000]
    buffer = io.BytesIO()
    first.save(buffer, format="GIF", save_all=True, append_images=rest, duration=durations, loop=0, optimize=False)
    return buffer.getvalue()


def _pixels(figure: Figure, dpi: int) -> Image.Image:
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def unit_use(information: np.ndarray, alive: float, are_bits: bool = True) -> Figure:
    """Mutual information of each latent unit with the image, (n,) in nats, the largest first; ``alive`` is the threshold."""
    figure = Figure(figsize=(6.4, 3.2), layout="constrained")
    axes = figure.subplots()
    ordered = np.sort(information)[::-1]
    axes.fill_between(np.arange(len(ordered)) + 0.5, ordered, step="mid", alpha=0.8)
    if are_bits:
        axes.axhline(np.log(2), color="grey", linewidth=0.8)
        axes.text(len(ordered), np.log(2), "log 2 ", ha="right", va="bottom", color="grey", fontsize=8)
    top = 0.75 if are_bits else 1.1 * float(ordered[0]) or 1.0
    count = int((ordered > alive).sum())
    axes.set(xlabel="latent unit, sorted", ylabel="I(x; z_i) in nats", xlim=(0, len(ordered)), ylim=(0, top))
    axes.set_title(f"{count} of {len(ordered)} units carry more than {alive:g} nats", fontsize=10)
    return _without_frames(figure)


# Prior ----------------------------------------------------------------------------------------------------------------


def couplings(h: np.ndarray, edges: np.ndarray, J: np.ndarray, layers: tuple[int, int] | None = None) -> Figure:
    """Couplings and fields of an Ising prior.

    Args:
        h: fields, (n,).
        edges: pairs of spins, (m, 2).
        J: couplings, (m,).
        layers: sizes of an RBM's layers, whose matrix is then drawn layer against layer.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(5, 4))
    n = len(h)
    if len(J) and n <= _MATRIX_SPINS:
        matrix = np.full((n, n), np.nan)
        matrix[edges[:, 0], edges[:, 1]] = matrix[edges[:, 1], edges[:, 0]] = J
        names = ("spin", "spin")
        if layers is not None:
            matrix, names = matrix[: layers[0], layers[0] :], ("spin of the second layer", "spin of the first layer")
        reach = float(np.quantile(np.abs(J), 0.995)) or 1.0
        shown = left.imshow(matrix, cmap="RdBu", vmin=-reach, vmax=reach, aspect="auto", interpolation="nearest")
        figure.colorbar(shown, ax=left, extend="both" if np.abs(J).max() > reach else "neither")
        left.set(xlabel=names[0], ylabel=names[1], title="Couplings J (negative couplings align spins)")
    elif len(J):
        left.hist(J, bins=80)
        left.set(xlabel="J", ylabel="couplings", title=f"{len(J)} couplings J")
    else:
        left.text(0.5, 0.5, "independent spins: no couplings", ha="center", transform=left.transAxes, color="grey")
        left.set_axis_off()
    right.hist(h, bins=min(60, max(10, n // 4)))
    right.set(xlabel="h", ylabel="spins", title="Fields h (a positive field favours the bit 0)")
    return _without_frames(figure)


def energy_histogram(prior: np.ndarray, encoded: np.ndarray, noun: str = "image") -> Figure:
    """Energies E(z) of samples of the prior (N,) and of encoded test rows (M,): with a good prior they overlap."""
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.subplots()
    both = np.concatenate([prior, encoded])
    bins = np.linspace(both.min(), both.max() + 1e-6, 80).tolist()
    for values, label in ((prior, "samples of the prior"), (encoded, f"encoded test {noun}s")):
        axes.hist(values, bins=bins, density=True, alpha=0.55, label=label)
    axes.set(xlabel="energy E(z)", ylabel="density", title="Prior against data in the latent space")
    axes.legend(loc="upper right", frameon=False)
    return _without_frames(figure)


# Runs side by side ----------------------------------------------------------------------------------------------------


def side_by_side(columns: Sequence[Mapping[str, np.ndarray]], names: Sequence[str], title: str = "") -> Figure:
    """The same pictures of several runs: a column each, a row for each picture that any of them has.

    Args:
        columns: for each run, pictures as arrays (height, width, channels) by their title.
        names: of the runs.
        title: above all.
    """
    rows = list(dict.fromkeys(key for column in columns for key in column))
    heights = [max(c[row].shape[0] / c[row].shape[1] for c in columns if row in c) for row in rows]
    figure = Figure(figsize=(5.2 * len(columns), 0.6 + sum(5.2 * h + 0.3 for h in heights)), layout="constrained")
    grid = figure.subplots(len(rows), len(columns), squeeze=False, height_ratios=heights)
    for row, key in enumerate(rows):
        for column, pictures in enumerate(columns):
            axes = grid[row, column]
            axes.set_axis_off()
            if key in pictures:
                axes.imshow(pictures[key])
            if row == 0:
                axes.set_title(names[column], fontsize=11)
    if title:
        figure.suptitle(title)
    return figure


def _without_frames(figure: Figure) -> Figure:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    return figure
