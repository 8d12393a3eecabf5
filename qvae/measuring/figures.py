"""Curves of a benchmark: arrays in, matplotlib Figures out, without a display."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

_QUANTITIES = {
    "means": "error of means",
    "correlations": "error of correlations",
    "energy": "error of the energy, in sd",
    "total_variation": "total variation",
}
_SHOWN = 1 / 8  # of the smallest floor; errors below it are noise around nothing


def error_curves(
    curves: Mapping[str, Sequence[Mapping[str, Any]]],
    clocks: Mapping[str, str],
    names: Sequence[str],
    reference: Mapping[str, float],
    goal: Mapping[str, float],
) -> Figure:
    """Error against time, a panel for each quantity, both axes logarithmic.

    Args:
        curves: points of each sampler, as in ``results.json``.
        clocks: of each sampler, "cpu" or "wall".
        names: of all samplers, which have their colours in this order on every problem.
        reference: error of the truth by quantity, a grey band; 0 where it is exact.
        goal: by quantity, a dotted line: the error of 1,000 perfect samples.
    """
    shown = [key for key in _QUANTITIES if any(point.get(key) is not None for curve in curves.values() for point in curve)]
    figure = Figure(figsize=(4.6 * max(1, len(shown)), 4.0), layout="constrained")
    panels = figure.subplots(1, max(1, len(shown)), squeeze=False)[0]
    palette = colormaps["tab10"]
    for axes, key in zip(panels, shown, strict=False):
        for name, curve in curves.items():
            x = np.array([point[f"{clocks[name]}_seconds"] for point in curve])
            y, floor, error = (
                np.array([point.get(f"{key}{part}") for point in curve], dtype=float)  # NaN of None
                for part in ("", "_floor", "_stderr")
            )
            floor[floor == 0] = np.nan
            y = np.maximum(y, _SHOWN * np.nanmin(floor)) if np.isfinite(floor).any() else y
            # Bars stay above zero, which a logarithmic axis has not.
            bars = np.stack([np.minimum(np.nan_to_num(error), 0.7 * y), np.nan_to_num(error)])
            colour = palette(names.index(name) % 10)
            axes.errorbar(x, y, bars, fmt="o-", markersize=3.5, linewidth=1.4, elinewidth=0.8, color=colour, label=name)
            axes.plot(x, floor, ":", linewidth=1.0, color=colour, alpha=0.8)
        if goal.get(key):
            axes.axhline(goal[key], color="black", linewidth=0.7, linestyle=(0, (1, 3)))
        axes.set(xscale="log", yscale="log", xlabel="seconds of one repetition", title=_QUANTITIES[key])
        low, high = axes.get_ylim()
        if reference.get(key):
            axes.axhspan(low / 10, reference[key], color="grey", alpha=0.15, linewidth=0)
            axes.set_ylim(min(low, 0.7 * reference[key]), high)
        _grid(axes)
    if shown:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(5, len(labels)), frameon=False)
    return figure


def training_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> Figure:
    """Log-likelihood with its error bar against seconds of training, a curve for each sampler."""
    figure = Figure(figsize=(8, 4.4), layout="constrained")
    axes = figure.subplots()
    for name, points in curves.items():
        x = [point["seconds"] for point in points]
        y = [point["log_likelihood"] for point in points]
        axes.errorbar(x, y, [point["log_z_stderr"] or 0.0 for point in points], fmt="o-", markersize=4, capsize=2, label=name)
    axes.set(xlabel="seconds of training (wall)", ylabel="log-likelihood, nats per image")
    axes.legend(loc="lower right", frameon=False)
    _grid(axes)
    return figure


def time_split(parts: Mapping[str, Mapping[str, float]]) -> Figure:
    """Milliseconds of the parts of a training step, a stacked bar for each sampler."""
    figure = Figure(figsize=(8, 1.2 + 0.5 * len(parts)), layout="constrained")
    axes = figure.subplots()
    names = list(parts)
    left = np.zeros(len(names))
    for part in dict.fromkeys(key for split in parts.values() for key in split):
        width = np.array([parts[name].get(part, 0.0) for name in names])
        axes.barh(names, width, left=left, label=part, height=0.6)
        left += width
    axes.invert_yaxis()
    axes.set(xlabel="milliseconds of a step (median)")
    figure.legend(loc="outside lower center", ncols=4, frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _grid(axes: Any) -> None:
    axes.grid(True, which="major", color="0.9", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_scale() == "log":
            low, high = axis.get_view_interval()
            # Over less than two decades powers of ten alone are too few ticks.
            axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0) if high < 100 * low else (1.0,), numticks=12))
            axis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
            axis.set_minor_formatter(NullFormatter())
