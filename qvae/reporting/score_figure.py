"""Scores of normal rows and of others, drawn over each other."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure


def score_histograms(normal: Mapping[str, np.ndarray], given: Mapping[str, np.ndarray]) -> Figure:
    """A histogram for each score by its name, of normal rows (N,) and of given ones (M,), in nats."""
    figure = Figure(figsize=(3.2 * len(given), 3), layout="constrained")
    for axes, name in zip(figure.subplots(1, len(given), squeeze=False)[0], given, strict=True):
        both = np.concatenate([normal[name], given[name]])
        bins = np.linspace(both.min(), both.max() + 1e-6, 50).tolist()
        for values, label in ((normal[name], "normal"), (given[name], "given")):
            axes.hist(values, bins=bins, density=True, alpha=0.55, label=label)
        axes.set(xlabel="nats", title=name.replace("_", " "), yticks=[])
        axes.spines[["top", "right", "left"]].set_visible(False)
    figure.axes[0].legend(frameon=False)
    return figure
