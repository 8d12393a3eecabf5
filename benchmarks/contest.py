"""Who takes part in the tasks of applications.py: a run, and twins without latent bits, trained as it was."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from sklearn.decomposition import PCA
from torch import Tensor

import qvae
from qvae.applications.task import log_prior
from qvae.config.schema import Config
from qvae.evaluation.log_terms import LogPrior
from qvae.progress import Progress
from qvae.runs.run import Run

QUICK = [
    *("evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0"),
    *("evaluation.importance_samples=5", "evaluation.log_z_temperatures=200"),  # log Z is the same for all rows
]
FITTED_TO = 5000

Add = Callable[..., None]
"""Takes a task, a method and its numbers by name."""


@dataclass
class Contest:
    """One seed of a benchmark.

    Attributes:
        run: the model with latent bits.
        seed: of noise, masks and draws.
        count: test images that are looked at.
        add: where figures go.
        folder: for the runs of twins.
        fashion: idx files of images that don't belong; None where there are none.
    """

    run: Run
    seed: int
    count: int
    add: Add
    folder: Path
    fashion: Path | None = None

    @cached_property
    def train(self) -> np.ndarray:
        """Training rows for PCA, cut at 0.5, (N, D)."""
        return bits(self.run, self.run.dataset.train[:FITTED_TO])

    @cached_property
    def clean(self) -> np.ndarray:
        """The test rows that are looked at, cut at 0.5, (N, D)."""
        return bits(self.run, self.run.dataset.test[: self.count])

    @cached_property
    def gaussian_vae(self) -> Run:
        return self.trained(twin(self.run.config, "variational"))

    @cached_property
    def densities(self) -> dict[str, tuple[Run, LogPrior]]:
        """The models that have a likelihood, with log p(z)."""
        models = {"the model": self.run, "Gaussian VAE": self.gaussian_vae}
        return {name: (run, log_prior(run, Progress())) for name, run in models.items()}

    def trained(self, config: Config, data: Any = None) -> Run:
        config = config.model_copy(deep=True)
        config.training.seed = self.seed
        return qvae.train(config, Path(tempfile.mkdtemp(dir=self.folder), "run"), data=data)


def twin(config: Config, variant: Literal["variational", "deterministic"]) -> Config:
    """As many real latents in the place of latent bits, between the same networks: a Gaussian VAE, or a plain autoencoder."""
    latents = {"arm": "gaussian", "qubits": config.model.latent.num_spins}
    model = {"kind": "vqvae", "variant": variant, "network": config.model.network.model_dump(), "circuit": latents}
    of_a_prior = {"training": {"prior_learning_rate", "prior_gradient", "chains"}}
    rest = config.model_dump(include={"data", "training", "evaluation"}, exclude=of_a_prior)
    return Config.model_validate(rest | {"model": model})


def damaged(config: Config, damage: str, amount: float) -> Config:
    """Trained to see what is damaged, and to make it whole."""
    changed = config.model_copy(deep=True)
    changed.training.corruption_amount = amount
    changed.training.corruption = damage  # type: ignore[assignment]
    return changed


def bits(run: Run, rows: Tensor) -> np.ndarray:
    """Stored rows, cut at 0.5, (N, D)."""
    return (run.dataset.values(rows).flatten(1).numpy() >= 0.5).astype(np.float32)


def images(rows: np.ndarray, run: Run) -> np.ndarray:
    """Of rows (N, D), in the shape of the run's."""
    return rows.reshape(-1, *run.model.shape)


class Gaussian:
    """Images as a normal distribution whose covariance is that of PCA: what is unseen is its conditional mean."""

    def __init__(self, train: np.ndarray, components: int) -> None:
        pca = PCA(components, random_state=0).fit(train)
        self.pca, self.mean, self.covariance = pca, pca.mean_, pca.get_covariance()

    def project(self, rows: np.ndarray) -> np.ndarray:
        return self.pca.inverse_transform(self.pca.transform(rows)).clip(0, 1)

    def given(self, seen: np.ndarray, matrix: np.ndarray) -> np.ndarray:
        """E[x | matrix x = seen]."""
        joint = matrix @ self.covariance @ matrix.T + 1e-3 * np.eye(len(matrix))
        gain = np.linalg.solve(joint, matrix @ self.covariance).T
        return (self.mean + (seen - self.mean @ matrix.T) @ gain.T).clip(0, 1)
