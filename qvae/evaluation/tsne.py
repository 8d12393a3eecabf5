"""t-SNE of latent codes: one map, and a film of maps over the training, each started from the last."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset
from qvae.evaluation.rows import evaluation_rows, short_seed
from qvae.models.autoencoder import Autoencoder

_FILM_ROWS = 1000
_FRAMES = 60  # a film that has more is thinned to half, so that neither memory nor checkpoint grows with the training
_FIRST_ITERATIONS, _NEXT_ITERATIONS = 750, 250
_PERPLEXITY = 30.0


def tsne_map(codes: np.ndarray, start: np.ndarray | None = None, seed: int = 0) -> np.ndarray:
    """A map (N, 2) of ``codes`` (N, n) by t-SNE (van der Maaten and Hinton 2008), float32.

    Args:
        codes: means of q(z|x), one row an image; at least 3 rows.
        start: another map of the same images; the new one sets out from there, without the early exaggeration that would
            tear it apart, and is turned and mirrored to lie on it as closely as it can.
        seed: of the embedding.
    """
    from sklearn.manifold import TSNE

    settings: dict[str, Any] = {"init": "pca", "max_iter": _FIRST_ITERATIONS}
    if start is not None:
        settings = {"init": start, "max_iter": _NEXT_ITERATIONS, "early_exaggeration": 1.0}
    elif codes.shape[1] < 2 or np.ptp(codes, axis=0).max() < 1e-6:  # one unit, or nothing encoded yet: no principal axes
        settings["init"] = "random"
    tsne = TSNE(perplexity=min(_PERPLEXITY, (len(codes) - 1) / 3), random_state=short_seed(seed), **settings)
    found = tsne.fit_transform(np.asarray(codes, dtype=np.float32))
    found = found - found.mean(0)
    return found if start is None else aligned(found, start)


def aligned(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """``points`` (N, 2), centred, turned and mirrored onto ``target`` (N, 2) (orthogonal Procrustes problem)."""
    left, _, right = np.linalg.svd(points.T @ (target - target.mean(0)))
    return (points @ (left @ right)).astype(np.float32)


class LatentFilm:
    """Maps of the codes of some images, taken while a model trains; an observer of :class:`~qvae.training.trainer.Trainer`.

    Args:
        images: bits (N, D), at least 3 of them.
        every: epochs between two maps; it doubles each time that there are more than 60.
        seed: of the maps.

    Attributes:
        maps: (N, 2) each.
        epochs: when they were taken.
        losses: the surrogate then, as text for a title.
        seconds: spent on them.
    """

    def __init__(self, images: Tensor, every: int, seed: int = 0) -> None:
        self.images, self.asked, self.every, self.seed = images, every, every, seed
        self.maps: list[np.ndarray] = []
        self.epochs: list[int] = []
        self.losses: list[str] = []
        self.seconds = 0.0

    def is_due(self, epoch: int) -> bool:
        """Whether a map is wanted at the end of this epoch; the first one always is."""
        return not self.maps or epoch % self.every == 0

    @torch.no_grad()
    def observe(self, model: Autoencoder, epoch: int, loss: str) -> None:
        """Map the codes of ``model``, which is left as it was."""
        started = time.perf_counter()
        training = model.training
        model.eval()
        generator = torch.Generator(self.images.device).manual_seed(self.seed)
        codes = model.code_means(self.images, generator).cpu().numpy()
        model.train(training)
        self.maps.append(tsne_map(codes, self.maps[-1] if self.maps else None, self.seed))
        self.epochs.append(epoch)
        self.losses.append(loss)
        if len(self.maps) > _FRAMES:
            self._thin_out()
        self.seconds += time.perf_counter() - started

    def _thin_out(self) -> None:
        self.every *= 2
        self.maps, self.epochs, self.losses = self.maps[::2], self.epochs[::2], self.losses[::2]

    def state_dict(self) -> dict[str, Any]:
        """The film so far."""
        maps = torch.from_numpy(np.stack(self.maps)) if self.maps else torch.zeros(0, len(self.images), 2)
        told = {"epochs": list(self.epochs), "losses": list(self.losses), "every": self.every, "asked": self.asked}
        return {"maps": maps, "seconds": self.seconds} | told

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with a film; one of other images is dropped."""
        if state and state["maps"].shape[1] == len(self.images):
            self.maps = list(state["maps"].numpy())
            self.epochs, self.losses = list(state["epochs"]), list(state["losses"])
            self.seconds = state["seconds"]
            if state["asked"] == self.asked:
                self.every = state["every"]


def latent_film(dataset: Dataset, settings: EvaluationConfig, device: torch.device) -> LatentFilm | None:
    """The film of a training, over a fixed part of the test rows; None where ``tsne_every`` is 0 or rows are too few."""
    rows = evaluation_rows(dataset, settings)[:_FILM_ROWS].to(device)
    return LatentFilm(rows, settings.tsne_every, settings.seed) if settings.tsne_every and len(rows) > 2 else None
