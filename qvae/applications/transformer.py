"""The latent code as a transformer of scikit-learn: ``fit`` trains a model on any table of numbers, ``transform`` encodes."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from qvae.config.load import load_config
from qvae.config.schema import MEMORY
from qvae.data.arrays import dataset_from_arrays
from qvae.models.likelihoods import likelihood_class
from qvae.progress import Progress
from qvae.runs.assemble import assemble
from qvae.runs.run import load_run

_AT_ONCE = 1000  # rows that are encoded together


class LatentEmbedding(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Means of q(z|x) as features, (N, n); of latent bits, their probabilities.

    Args:
        likelihood: what X is: ``gaussian`` for measurements, ``bernoulli`` for bits or grey levels in [0, 1], ``poisson`` or
            ``negative-binomial`` for counts, ``categorical`` for numbers of categories.
        epochs: of the training; a step takes 256 rows, or all there are.
        settings: other keys of a configuration, as ``["model.latent.sizes=[16,16]"]``.
        run: a folder of a trained run, whose model is taken as it is; the arguments above are then of no effect.
        random_state: of weights and training.

    Attributes:
        model_: the trained :class:`~qvae.models.autoencoder.Autoencoder`.

    A code depends on its own row alone, unless the posterior has several levels: later ones see bits drawn in the earlier ones.

    >>> X = np.random.default_rng(0).normal(size=(50, 3))
    >>> LatentEmbedding(epochs=2, settings=["model.latent.sizes=[4,4]"]).fit_transform(X).shape
    (50, 8)
    """

    def __init__(
        self,
        likelihood: str = "gaussian",
        epochs: int = 200,
        settings: Sequence[str] = (),
        run: str | Path | None = None,
        random_state: Any = 0,
    ) -> None:
        self.likelihood = likelihood
        self.epochs = epochs
        self.settings = settings
        self.run = run
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> LatentEmbedding:
        """Train a model on X (N, D), or take that of the run.

        Raises:
            ValueError: X isn't what a transformer takes, or a run's model takes rows of another width.
            QvaeError: X isn't what the likelihood takes, or a setting is wrong.
        """
        X = validate_data(self, X, dtype=np.float64, ensure_min_samples=2)
        if self.run is None:
            self.model_ = self._trained(X)
        else:
            self.model_ = load_run(self.run).model
            width = int(np.prod(self.model_.shape))
            if width != X.shape[1]:
                raise ValueError(f"X has {X.shape[1]} features, but the model of {self.run} takes {width}")
        # In float64 a row's code is the same whatever rows are encoded beside it.
        self.model_ = self.model_.double()
        self._n_features_out = len(self._codes(X[:1])[0])
        return self

    def transform(self, X: Any) -> np.ndarray:
        """The codes of X (N, D), (N, n), float64."""
        check_is_fitted(self)
        return self._codes(validate_data(self, X, dtype=np.float64, reset=False))

    def _trained(self, X: np.ndarray) -> Any:
        seed = int(check_random_state(self.random_state).randint(2**31))
        settings = ["evaluation.tsne_every=0", f"model.likelihood={self.likelihood}", f"training.epochs={self.epochs}"]
        config = load_config("digits", [*settings, f"training.seed={seed}", *self.settings])
        config.data.name = MEMORY
        kind = likelihood_class(config.model.likelihood).kind
        names = [f"x{number}" for number in range(X.shape[1])]  # else 64 columns would be taken for images
        data = dataset_from_arrays(X, X[:1], kind=kind, feature_names=names, binarize=config.data.binarization)
        with tempfile.TemporaryDirectory(prefix="qvae-") as folder:
            parts = assemble(Path(folder), config, Progress(), data)
            parts.trainer.save = lambda trainer: None
            try:
                parts.trainer.fit()
            finally:
                parts.close(lambda text: None)
            return parts.trainer.averaged_model()

    def _codes(self, X: np.ndarray) -> np.ndarray:
        device = next(self.model_.parameters()).device
        generator = torch.Generator(device).manual_seed(0)
        rows = torch.from_numpy(X).split(_AT_ONCE)
        return torch.cat([self.model_.code_means(part.to(device), generator).double().cpu() for part in rows]).numpy()
