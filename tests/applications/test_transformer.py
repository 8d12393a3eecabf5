"""The transformer keeps all that scikit-learn asks of one, and its codes are worth something."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks

import qvae
from qvae import LatentEmbedding
from qvae.applications import transformer as module

SMALL = ["model.latent.sizes=[3,3]", "model.network.hidden=[8]"]


@parametrize_with_checks([LatentEmbedding(epochs=2, settings=SMALL)])
def test_scikit_learn_s_checks(estimator, check):
    check(estimator)


def test_a_classifier_learns_from_the_codes_of_digits():
    data = load_digits()
    X, y = data.data / 16, data.target
    embedding = LatentEmbedding("bernoulli", epochs=40, settings=["model.network.hidden=[64]"])
    pipeline = make_pipeline(embedding, KNeighborsClassifier(5)).fit(X[:1200], y[:1200])
    assert pipeline.score(X[1200:], y[1200:]) > 0.8  # of ten classes, with 597 rows


def test_a_run_s_model_is_taken_as_it_is(command, small_run):
    run = qvae.load_run(small_run)
    X = run.dataset.values(run.dataset.test).flatten(1).numpy()
    np.save("rows.npy", X.reshape(-1, 8, 8))
    assert command("apply", "embed", small_run, "--input", "rows.npy")[0] == 0
    found = clone(LatentEmbedding(run=small_run)).fit_transform((X >= 0.5).astype(float))  # as this run cuts grey levels
    np.testing.assert_allclose(found, np.load(small_run / "codes.npz")["codes"], rtol=1e-4)
    with pytest.raises(ValueError, match="X has 63 features, but the model of .* takes 64"):
        LatentEmbedding(run=small_run).fit(X[:, 1:])


def test_the_seed_decides():
    X = np.random.default_rng(0).normal(size=(30, 4))
    first, again, other = (LatentEmbedding(epochs=2, settings=SMALL, random_state=s).fit_transform(X) for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other)


def test_what_it_is_made_with_arrives_and_the_averaged_weights_are_taken(monkeypatch):
    """A model that halves its rows stands for the average, and one that doubles them for the last weights."""

    class Scaled(torch.nn.Linear):
        def code_means(self, rows, generator):
            return self.weight * rows

    def scaled(factor):
        found = Scaled(1, 1).requires_grad_(False)
        torch.nn.init.constant_(found.weight, factor)
        return found

    asked, done = [], []
    trainer = SimpleNamespace(fit=lambda: done.append("fitted"), model=scaled(2.0), averaged_model=lambda: scaled(0.5))

    def assemble(folder, config, progress, data):
        asked.append((config, data))
        return SimpleNamespace(trainer=trainer, close=lambda warn: done.append("closed"))

    monkeypatch.setattr(module, "assemble", assemble)
    X = np.array([[3.0, 0.0], [1.0, 5.0], [2.0, 2.0]])
    settings = ["model.latent.sizes=[2,3]", "training.batch_size=9"]
    embedding = LatentEmbedding("poisson", epochs=7, settings=settings, random_state=4)
    np.testing.assert_allclose(embedding.fit_transform(X), X / 2)
    ((config, data),) = asked
    assert (config.model.likelihood, config.training.epochs, config.training.batch_size) == ("poisson", 7, 9)
    assert config.model.latent.sizes == [2, 3]
    assert config.training.seed == np.random.RandomState(4).randint(2**31)
    np.testing.assert_array_equal(data.train.numpy(), X)
    assert (data.kind, data.feature_names) == ("counts", ("x0", "x1"))
    assert done == ["fitted", "closed"]
