"""What the latents hold: information of each unit about the image, and how well labels can be read from the code."""

from __future__ import annotations

import math
import warnings
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

ALIVE = 0.01  # nats of information about the image above which a unit counts as used


def unit_information(means: np.ndarray) -> np.ndarray:
    """Mutual information I(x; z_i) of each latent bit with the image, in nats, (n,).

    Args:
        means: q(z_i = 1|x) of N images, (N, n).

    It is the entropy of the bit over all images less its mean entropy given one: 0 for a unit that the model has switched
    off, log 2 for one that halves the images and is certain of each.

    >>> unit_information(np.array([[0.0, 0.5], [1.0, 0.5]])).round(3).tolist()
    [0.693, 0.0]
    """
    p = np.asarray(means, dtype=np.float64)
    return np.maximum(_entropy(p.mean(0)) - _entropy(p).mean(0), 0.0)


def _entropy(p: np.ndarray) -> np.ndarray:
    q = np.clip(p, 1e-12, 1 - 1e-12)
    return -(q * np.log(q) + (1 - q) * np.log1p(-q))


@dataclass
class Probe:
    """Accuracy of two classifiers on the same images, by what they see of them.

    Attributes:
        features: ``latent codes``, ``raw pixels`` or ``PCA``.
        dimensions: numbers per image.
        linear: test accuracy of logistic regression.
        mlp: test accuracy of a network with one hidden layer.
        stderr: of the better one, from the number of test images.
    """

    features: str
    dimensions: int
    linear: float
    mlp: float
    stderr: float

    def to_dict(self) -> dict[str, Any]:
        """Its fields, as JSON holds them."""
        return asdict(self)


def probe(
    name: str, train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray, seed: int = 0
) -> Probe:
    """Fit both classifiers on ``train`` (N, d) and score them on ``test`` (M, d)."""
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from sklearn.neural_network import MLPClassifier

    linear = LogisticRegression(max_iter=300, tol=1e-3)
    mlp = MLPClassifier((128,), batch_size=min(64, len(train)), max_iter=40, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a probe compares features at a fixed effort
        scores = [float(classifier.fit(train, train_labels).score(test, test_labels)) for classifier in (linear, mlp)]
    best = (max(scores) * len(test) + 0.5) / (len(test) + 1)  # so that a handful of images has an error, too
    return Probe(name, train.shape[1], scores[0], scores[1], math.sqrt(best * (1 - best) / len(test)))


def pca(train: np.ndarray, test: np.ndarray, dimensions: int) -> tuple[np.ndarray, np.ndarray]:
    """Both on the first principal axes of ``train`` (N, D); as many as asked for, or as there are."""
    from sklearn.decomposition import PCA

    fitted = PCA(min(dimensions, *train.shape), random_state=0).fit(train)
    return fitted.transform(train), fitted.transform(test)
