"""Rows of a run's data as pictures: images in grids on the scale of the data, columns of tables as histograms."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from matplotlib.figure import Figure

from qvae.data.dataset import Dataset
from qvae.errors import DataError
from qvae.evaluation.grey_scale import GreyScale
from qvae.reporting import figures, table_figures
from qvae.runs.run import Run

_SHOWN = 400  # images in a grid that was asked for, at most


def is_of_images(run: Run) -> bool:
    """Whether the data are images; else they are rows of a table, which 0.1.0 took for images of height 1."""
    return len(run.model.shape) > 1 and run.model.shape[-2] > 1


def is_of_strings(run: Run) -> bool:
    """Whether the data are strings."""
    return run.model.likelihood.kind == "strings"


def row_noun(run: Run) -> str:
    """What a row of the run's data is called."""
    if is_of_strings(run):
        return "string"
    return "image" if is_of_images(run) else "row"


def samples_figure(run: Run, samples: np.ndarray, by: str | None = None) -> Figure:
    """Generated rows (N, *shape), with the backends that made them; a table's beside its test rows, if it has some.

    The data needn't be within reach.
    """
    title = f"decoded from the prior, {by or run.config.drawn_by}"
    if is_of_images(run):
        return figures.image_grid(as_grey(run, samples[:_SHOWN]), title=title)
    rows, title = samples.reshape(len(samples), -1), f"means of p(x|z), {title}"
    if reachable_data(run) is None:
        return table_figures.marginals({"samples": rows}, None, title)
    return columns_figure(run, {"data": test_values(run, len(samples)), "samples": rows}, title)


def reconstructions_figure(run: Run, originals: np.ndarray, reconstructions: np.ndarray) -> Figure:
    """Test rows (N, *shape) and what comes back: images above their reconstructions, columns of a table side by side."""
    if is_of_images(run):
        title = "test images, and under each its reconstruction"
        above, below = (as_grey(run, images[:_SHOWN]) for images in (originals, reconstructions))
        return figures.reconstruction_pairs(above, below, title)
    sets = {"data": originals, "reconstructions": reconstructions}
    sets = {label: rows.reshape(len(rows), -1) for label, rows in sets.items()}
    return columns_figure(run, sets, "test rows, and the mean of p(x|z) at their codes")


def columns_figure(run: Run, sets: Mapping[str, np.ndarray], title: str) -> Figure:
    return table_figures.marginals(sets, run.dataset.feature_names, title, run.dataset.category_names)


def texts(run: Run, rows: np.ndarray) -> list[str]:
    """The strings of rows (N, L) of symbols."""
    alphabet = run.model.likelihood.statistics.alphabet
    assert alphabet is not None
    return alphabet.decode(rows.tolist())


def reachable_data(run: Run) -> Dataset | None:
    """The run's data; None where they were in memory, have moved or have changed."""
    try:
        return run.dataset
    except DataError:
        return None


def as_grey(run: Run, images: np.ndarray) -> np.ndarray:
    """Grey levels on the scale of the data; without them bits are what they are, and others go from the least to the most."""
    dataset = reachable_data(run)
    if dataset is not None:
        scale = GreyScale.of(dataset)
    elif run.model.likelihood.kind == "bits":
        scale = GreyScale(0.0, 1.0)
    else:
        scale = GreyScale(float(images.min()), float(images.max()) + 1e-9)
    return scale(torch.from_numpy(images)).numpy()


def test_values(run: Run, count: int) -> np.ndarray:
    return run.dataset.values(run.dataset.test[:count].flatten(1)).numpy()
