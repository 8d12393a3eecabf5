"""Pictures of tables: the distribution of each column, and how columns go together, in data and in what a model makes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from matplotlib.figure import Figure

_COLUMNS = 12  # in one figure; of more nobody reads the names
_BINS = 40
_WORDS = 8  # of categories that are named under an axis
_WHOLE = 30  # whole numbers over a smaller range have a bin each


def marginals(
    sets: Mapping[str, np.ndarray],
    names: Sequence[str] | None = None,
    title: str = "",
    categories: Mapping[str, Sequence[str]] = MappingProxyType({}),
) -> Figure:
    """Histograms of the first columns of some tables, laid over each other.

    Args:
        sets: tables (N, D) by what they are; the first one gives the bins, those beyond its values fall into the last ones.
        names: of the columns; None numbers them.
        title: above all.
        categories: what the numbers 0, 1, ... of a column stand for, by its name.
    """
    first = next(iter(sets.values()))
    shown = _labels(first.shape[1], names)
    across = min(4, len(shown))
    down = -(-len(shown) // across)
    figure = Figure(figsize=(max(3.2 * across, 1.6 * len(sets)), 2.2 * down + 0.8), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).ravel()
    for column, (axes, name) in enumerate(zip(grid, shown, strict=False)):
        edges = _edges(first[:, column])
        for label, table in sets.items():
            values = np.clip(table[:, column], edges[0], edges[-1])
            axes.hist(values, bins=edges.tolist(), density=True, histtype="step", linewidth=1.4, label=label)
        axes.set_title(name, fontsize=9)
        axes.set_yticks([])
        words = categories.get(names[column], ()) if names is not None else ()
        if 0 < len(words) <= _WORDS:
            axes.set_xticks(range(len(words)), [_shortened(word) for word in words], rotation=30, ha="right", fontsize=7)
        axes.spines[["top", "right", "left"]].set_visible(False)
    for axes in grid[len(shown) :]:
        axes.set_axis_off()
    figure.legend(*grid[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(sets), frameon=False)
    figure.suptitle(_title(title, len(shown), first.shape[1]), fontsize=10)
    return figure


def correlations(sets: Mapping[str, np.ndarray], names: Sequence[str] | None = None, title: str = "") -> Figure:
    """Pairwise correlations of the first columns of some tables (N, D), side by side; a constant column has none."""
    columns = next(iter(sets.values())).shape[1]
    shown = _labels(columns, names)
    figure = Figure(figsize=(3.6 * len(sets) + 1.6, 4.2), layout="constrained")
    grid = figure.subplots(1, len(sets), squeeze=False, sharey=True)[0]
    for axes, (label, table) in zip(grid, sets.items(), strict=True):
        picture = axes.imshow(correlation_matrix(table[:, : len(shown)]), cmap="RdBu_r", vmin=-1, vmax=1)
        axes.set_title(label, fontsize=9)
        axes.set_xticks(range(len(shown)), shown, rotation=90, fontsize=7)
        axes.set_yticks(range(len(shown)), shown, fontsize=7)
    figure.colorbar(picture, ax=grid.tolist(), shrink=0.8, label="correlation")
    figure.suptitle(_title(title, len(shown), columns), fontsize=10)
    return figure


def correlation_matrix(table: np.ndarray) -> np.ndarray:
    """Pearson correlations of the columns of a table (N, D), (D, D); NaN where a column is constant.

    >>> correlation_matrix(np.array([[0.0, 1.0], [1.0, -1.0], [2.0, -3.0]])).round(6).tolist()
    [[1.0, -1.0], [-1.0, 1.0]]
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.atleast_2d(np.corrcoef(np.asarray(table, dtype=np.float64), rowvar=False))


def _labels(columns: int, names: Sequence[str] | None) -> list[str]:
    """Names of the columns that are shown, shortened."""
    names = names or [f"column {number}" for number in range(columns)]
    # Names of many columns often begin alike and differ at the end.
    return list(map(_shortened, names[:_COLUMNS]))


def _shortened(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:8]}…{name[-9:]}"


def _title(title: str, shown: int, columns: int) -> str:
    return title if shown == columns else f"{title} (the first {shown} of {columns} columns)".strip()


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges of bins for the values of a column: one for each whole number, or so many over all but its outermost values."""
    low, high = float(values.min()), float(values.max())
    if high - low < _WHOLE and np.array_equal(values, np.rint(values)):
        return np.arange(low, high + 2) - 0.5
    low, high = np.quantile(values, (0.002, 0.998)).tolist()
    return np.linspace(low, high if high > low else low + 1.0, _BINS + 1)
