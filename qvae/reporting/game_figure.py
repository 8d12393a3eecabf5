"""The game of a generator and its critic over epochs: what the critic tells apart, and how samples lie among data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

_SCORES = {"gap": "gap between data and samples", "slope": "slope where it is penalised", "generator": "the generator's loss"}
_SAMPLES = {
    "precision": "precision",
    "recall": "recall",
    "density": "density",
    "coverage": "coverage",
    "spread": "variance, that of data is 1",
}


def game_curves(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Scores of the critic, and samples among data.

    Args:
        rows: one mapping per epoch, as in ``metrics.jsonl``; those of an autoencoder's training have a loss instead.
    """
    before = [row for row in rows if row.get("reconstruction") is not None]
    figure = Figure(figsize=(12 if before else 9, 4.2), layout="constrained")
    axes = list(figure.subplots(1, 3 if before else 2))
    if before:
        first = axes.pop(0)
        first.plot([row["epoch"] for row in before], [row["reconstruction"] for row in before])
        first.set(xlabel="epoch", ylabel="nats", title="Autoencoder: reconstruction  -log p(x|z)")
    titles = "Scores of the critic", "Samples among latents of data"
    for place, title, curves in zip(axes, titles, (_SCORES, _SAMPLES), strict=True):
        for key, label in curves.items():
            known = [row for row in rows if row.get(key) is not None]
            place.plot([row["epoch"] for row in known], [row[key] for row in known], label=label)
        place.axhline(0, color="grey", linewidth=0.8)
        place.set(xlabel="epoch", title=title)
        place.legend(frameon=False, fontsize=8)
    axes[1].set_ylim(0, 1.5)
    for place in figure.axes:
        place.spines[["top", "right"]].set_visible(False)
    return figure
