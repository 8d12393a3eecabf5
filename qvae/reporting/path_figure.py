"""Paths between images as strips, the prior's own above the straight one, with the energy along both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from matplotlib.figure import Figure

from qvae.reporting.figures import tiled


class Path(Protocol):
    """Images (F, *shape) along a path, in [0, 1], and energies (S,), NaN beyond its end."""

    @property
    def images(self) -> np.ndarray: ...

    @property
    def energies(self) -> np.ndarray: ...


def paths_figure(pairs: Sequence[tuple[Path, Path]]) -> Figure:
    """A line for each pair of paths: two strips of images, and their energies."""
    figure = Figure(figsize=(12, 0.4 + 1.9 * len(pairs)), layout="constrained")
    axes = figure.subplots(len(pairs), 2, width_ratios=(3, 2), squeeze=False)
    for (strips, curves), (low, straight) in zip(axes, pairs, strict=True):
        picture = tiled(np.concatenate([low.images, straight.images]), len(low.images))
        strips.imshow(picture if picture.shape[-1] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=1)
        strips.set(xticks=[], yticks=[])
        for path, label in ((low, "through the landscape"), (straight, "straight")):
            known = path.energies[~np.isnan(path.energies)]
            curves.plot(np.linspace(0, 1, len(known)), known, ".-", markersize=3, label=label)
        curves.set(ylabel="-log p(z) + const, nats")
        curves.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_title("through the landscape, and under it straight", fontsize=10)
    axes[0, 1].legend(frameon=False, fontsize=8)
    axes[-1, 1].set_xlabel("part of the way")
    return figure
