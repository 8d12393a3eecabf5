"""Pictures of a run: each function takes arrays and returns a matplotlib Figure, without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

_CURVES = (
    ("surrogate", "surrogate loss (not an ELBO)"),
    ("reconstruction", "reconstruction  -log p(x|ζ)"),
    ("kl", "KL part, with a rough log Z"),
)


def loss_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Surrogate, reconstruction and KL part over epochs, and the sampler's effective inverse temperature.

    Args:
        rows: one mapping per epoch, as in ``metrics.jsonl``.
    """
    figure = Figure(figsize=(10, 4), layout="constrained")
    losses, sampler = figure.subplots(1, 2, width_ratios=(3, 2))
    for key, label in _CURVES:
        epochs, values = _series(rows, key)
        losses.plot(epochs, values, label=label)
    losses.set(xlabel="epoch", ylabel="nats per image", title="Training")
    # The first epochs fall steeply; without a cut they flatten everything that follows.
    settled = [_series(rows[len(rows) // 20 :], key)[1] for key, _ in _CURVES]
    losses.set_ylim(0, 1.1 * max((float(values.max()) for values in settled if len(values)), default=1.0))
    losses.legend(frameon=False)
    epochs, beta = _series(rows, "effective_beta")
    _, error = _series([row for row in rows if row.get("effective_beta") is not None], "effective_beta_stderr")
    if len(error) == len(beta):
        sampler.errorbar(epochs, beta, yerr=error, fmt=".-", capsize=2)
    sampler.axhline(1, color="grey", linewidth=0.8)
    sampler.set(xlabel="epoch", ylabel="effective inverse temperature", title="Negative phase (1 is right)")
    low, high = sampler.get_ylim()
    sampler.set_ylim(min(low, 0.8), max(high, 1.2))
    for axes in (losses, sampler):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _series(rows: Sequence[Mapping[str, Any]], key: str) -> tuple[np.ndarray, np.ndarray]:
    pairs = [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]
    array = np.array(pairs, dtype=float).reshape(-1, 2)
    return array[:, 0], array[:, 1]


def image_grid(images: np.ndarray, columns: int | None = None, title: str = "") -> Figure:
    """Images (N, H, W) or (N, C, H, W) with values in [0, 1], side by side."""
    columns = columns or max(1, round(len(images) ** 0.5))
    rows = -(-len(images) // columns)
    return _show(_tile(images, columns), columns, rows, title)


def reconstruction_pairs(originals: np.ndarray, reconstructions: np.ndarray, title: str = "") -> Figure:
    """Originals (N, ...) with their reconstructions (N, ...) under them, sixteen pairs to a row."""
    columns = min(16, len(originals))
    kept = len(originals) // columns * columns
    shape = (-1, columns, *originals.shape[1:])
    stacked = np.stack([originals[:kept].reshape(shape), reconstructions[:kept].reshape(shape)], axis=1)
    flat = stacked.reshape(-1, *originals.shape[1:])
    return _show(_tile(flat, columns), columns, len(flat) // columns, title)


def _tile(images: np.ndarray, columns: int) -> np.ndarray:
    """One picture (height, width, channels) with a one-pixel grey frame around each image."""
    pictures = images[:, None] if images.ndim == 3 else images
    pictures = np.pad(np.moveaxis(pictures, 1, -1), ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=0.5)
    _, height, width, channels = pictures.shape
    rows = -(-len(pictures) // columns)
    canvas = np.full((rows * columns, height, width, channels), 0.5)
    canvas[: len(pictures)] = pictures
    return canvas.reshape(rows, columns, height, width, channels).swapaxes(1, 2).reshape(rows * height, -1, channels)


def _show(picture: np.ndarray, columns: int, rows: int, title: str) -> Figure:
    figure = Figure(figsize=(max(3.0, 0.8 * columns), max(1.5, 0.8 * rows) + (0.4 if title else 0)), layout="constrained")
    axes = figure.subplots()
    if picture.shape[-1] == 3:
        axes.imshow(picture, interpolation="nearest")
    else:
        axes.imshow(picture[..., 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    axes.set_axis_off()
    if title:
        axes.set_title(title, fontsize=10)
    return figure
