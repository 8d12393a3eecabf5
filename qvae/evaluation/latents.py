"""What the latents hold: information of each unit about the image, and how well labels can be read from the code."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from qvae.config.schema import EvaluationConfig
from qvae.data.dataset import Dataset
from qvae.evaluation.rows import code_means, code_moments, evaluation_rows, prepared, short_seed, training_rows
from qvae.models.autoencoder import Autoencoder

ALIVE = 0.01  # nats of information about the image above which a unit counts as used
_PROBE_ROWS = 5000  # training rows that the probes learn from


@dataclass
class LatentUse:
    """What the latents of a model hold.

    Attributes:
        units: number of latents.
        alive: how many hold more than ``ALIVE`` nats about the image.
        information: of all units together, in nats, at most; None of latents without noise, where it has no bound.
        probes: accuracies of reading the labels; empty where there are none or they weren't asked for.
        probe_images: that the probes learnt from.
    """

    units: int
    alive: int
    information: float | None
    probes: list[Probe] = field(default_factory=list)
    probe_images: int = 0

    def to_dict(self) -> dict[str, Any]:
        """What there is, as it stands in ``evaluation.json``."""
        found: dict[str, Any] = {
            "units": self.units,
            "alive": self.alive,
            "alive_threshold": ALIVE,
            "information": self.information,
        }
        if self.probes:
            found |= {"probes": [probe.to_dict() for probe in self.probes], "probe_images": self.probe_images}
        return found


def latent_use(
    model: Autoencoder,
    dataset: Dataset,
    settings: EvaluationConfig,
    progress: Callable[[float], None] = lambda share: None,
) -> LatentUse:
    """How many units are alive, and how well labels can be read from the code, from the raw data and from their PCA.

    Args:
        model: in evaluation mode.
        dataset: that it was trained on.
        settings: how many rows, their seed, and whether labels are read.
        progress: called with the part that is done.
    """
    seed = settings.seed
    test = evaluation_rows(dataset, settings)
    test_means, variances = code_moments(model, test, seed)
    information = unit_information(model, test_means, variances)
    total = float(information.sum())
    found = LatentUse(len(information), int((information > ALIVE).sum()), total if math.isfinite(total) else None)
    labels, test_labels = dataset.train_labels, dataset.test_labels
    places = training_rows(dataset, _PROBE_ROWS, seed)
    if not settings.probes or labels is None or test_labels is None or len(labels[places].unique()) < 2:
        return found
    train = prepared(dataset, places, seed)
    what = "pixels" if dataset.is_image else "columns"
    parts = {
        "latent codes": (code_means(model, train, seed), test_means),
        f"raw {what}": (train.numpy(), test.numpy()),
        f"PCA of the {what}": pca(train.numpy(), test.numpy(), len(information)),
    }
    y, test_y = labels[places].numpy(), test_labels[: len(test)].numpy()
    for done, (name, (a, b)) in enumerate(parts.items()):
        progress(done / len(parts))
        found.probes.append(probe(name, a, y, b, test_y, seed))
    found.probe_images = len(train)
    return found


def unit_information(model: Autoencoder, means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Mutual information I(x; z_i) of each latent with the rows whose codes have these moments (N, n), in nats, (n,)."""
    return bit_information(means) if model.latents_are_bits else channel_information(means, variances)


def channel_information(means: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """log sqrt(1 + signal / noise) of each real latent, in nats, (n,): that of a Gaussian channel, which bounds it from above.

    Args:
        means: of q(u_i|x) of N rows, (N, n), whose variance over rows is the signal.
        variances: of q(u_i|x), (N, n); where all are 0, a latent that varies at all has no bound.

    >>> channel_information(np.array([[1.0, 0.0], [-1.0, 0.0]]), np.ones((2, 2))).round(3).tolist()
    [0.347, 0.0]
    """
    signal, noise = np.var(means, axis=0, dtype=np.float64), np.mean(variances, axis=0, dtype=np.float64)
    with np.errstate(divide="ignore"):
        ratio = np.divide(signal, noise, out=np.where(signal > 0, np.inf, 0.0), where=noise > 0)
    return 0.5 * np.log1p(ratio)


def bit_information(means: np.ndarray) -> np.ndarray:
    """Mutual information I(x; z_i) of each latent bit with the image, in nats, (n,).

    Args:
        means: q(z_i = 1|x) of N images, (N, n).

    It is the entropy of the bit over all images less its mean entropy given one: 0 for a unit that the model has switched
    off, log 2 for one that halves the images and is certain of each.

    >>> bit_information(np.array([[0.0, 0.5], [1.0, 0.5]])).round(3).tolist()
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
        features: such as ``latent codes`` or ``raw pixels``.
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
    mlp = MLPClassifier((128,), batch_size=min(64, len(train)), max_iter=40, random_state=short_seed(seed))
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
