"""Pictures of a diagnosis: norms of gradients against steps, and variances of a circuit's against its size."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from qvae.diagnosis.layers import Layer
from qvae.diagnosis.plateau import Curve, Plateau

_STYLES = {"healthy": "-", "dead": ":", "exploding": "--"}
_MOST_NAMED = 24  # layers in a legend


def norm_curves(steps: Sequence[int], layers: Sequence[Layer]) -> Figure:
    """A line for each layer that learns, from the loss (dark) to the data (light); dead ones dotted, exploding ones dashed."""
    shown = [layer for layer in layers if layer.norms]
    figure = Figure(figsize=(11, max(4.2, 1.0 + 0.19 * min(len(shown), _MOST_NAMED))), layout="constrained")
    axes = figure.subplots()
    palette = colormaps["viridis"]
    for place, layer in enumerate(shown):
        norms = np.array(layer.norms, dtype=float)
        norms[~np.isfinite(norms) | (norms <= 0)] = np.nan  # a logarithmic axis has no place for them
        colour = palette(0.95 * place / max(1, len(shown) - 1))
        label = layer.name if place < _MOST_NAMED else None
        axes.plot(steps, norms, _STYLES[layer.verdict], marker=".", markersize=3, linewidth=1.2, color=colour, label=label)
    axes.set(yscale="log", xlabel="step", ylabel="norm of the gradient, before clipping")
    _plain(axes)
    if shown:
        figure.legend(loc="outside right upper", frameon=False, fontsize=7)
    return figure


def variance_curves(plateau: Plateau) -> Figure:
    """Variances with their standard errors, of global and local cost, against qubits and against layers; fits are lines."""
    figure = Figure(figsize=(9.5, 4.0), layout="constrained")
    panels = figure.subplots(1, 2, sharey=True)  # a narrow range of its own may hold no labelled tick
    for axes, against in zip(panels, ("qubits", "layers"), strict=True):
        curves = [curve for curve in plateau.curves if curve.against == against]
        for number, curve in enumerate(curves):
            colour = colormaps["tab10"](number)
            values = [found.variance for found in curve.variances]
            errors = [found.stderr for found in curve.variances]
            axes.errorbar(curve.sizes, values, errors, fmt="o", capsize=3, color=colour, label=f"{curve.cost} cost")
            if curve.decay is not None:
                places = np.linspace(curve.sizes[0], curve.sizes[-1], 60)
                axes.plot(places, _fit(curve, places), color=colour, linewidth=1)
        fixed = curves[0].fixed if curves else ""
        axes.set(yscale="log", xlabel=against, ylabel="variance of a derivative, uniform angles", title=fixed)
        axes.set_xticks(sorted({size for curve in curves for size in curve.sizes}))
        _plain(axes)
        axes.legend(frameon=False, fontsize=8)
    return figure


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, position: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def _fit(curve: Curve, places: np.ndarray) -> np.ndarray:
    """The fitted line at sizes between those of a curve: it goes through the weighted mean of the logarithms."""
    assert curve.decay is not None
    x = np.array(curve.sizes, dtype=float)
    values, errors = (np.array([getattr(found, key) for found in curve.variances]) for key in ("variance", "stderr"))
    weights = (values / errors) ** 2
    at, wanted = (x, places) if curve.law == "exponential" else (np.log2(x), np.log2(places))
    middle, height = (np.average(numbers, weights=weights) for numbers in (at, np.log2(values)))
    return 2.0 ** (height - curve.decay.rate * (wanted - middle))
