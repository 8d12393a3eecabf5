"""Data from memory: trained on, named as such, and asked for again when the run is opened."""

import functools

import numpy as np
import pytest
import torch
import yaml

import qvae
from qvae import workflow
from qvae.errors import ConfigError, DataError
from qvae.runs.assemble import make_dataset

SETTINGS = [
    "training.epochs=2", "training.batch_size=16", "model.latent.sizes=[3,3]", "model.network.hidden=[8]",
    "evaluation.importance_samples=5", "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0",
]  # fmt: skip
IMAGES = (np.random.default_rng(0).random((80, 6, 6)) < 0.4).astype(np.float32)


class Pairs(torch.utils.data.Dataset):
    """As PyTorch's own: items of image and label."""

    def __len__(self):
        return len(IMAGES)

    def __getitem__(self, index):
        return torch.from_numpy(IMAGES[index]), index % 3


def config(*more):
    return qvae.load_config("digits", [*SETTINGS, *more])


@pytest.mark.parametrize(
    "data",
    [IMAGES, torch.from_numpy(IMAGES), {"train": IMAGES[:60], "test": IMAGES[60:]}, Pairs(),
     qvae.dataset_from_arrays(IMAGES, name="mine")],
    ids=["array", "tensor", "arguments", "torch", "dataset"],
)  # fmt: skip
def test_whatever_holds_data_trains(data, tmp_path):
    run = qvae.train(config(), tmp_path / "run", data=data)
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["data"]["name"] == "memory"
    assert np.isfinite(run.evaluation["log_likelihood"])
    assert run.dataset.shape == (6, 6)


def test_what_is_said_with_data_counts_more_than_the_configuration():
    own = make_dataset(config("data.binarize=threshold"), IMAGES)
    assert (own.name, own.kind, own.binarization) == ("memory", "bits", "threshold")
    said = make_dataset(config("data.binarize=threshold"), {"train": IMAGES, "name": "mine", "binarize": "dynamic"})
    assert (said.name, said.kind, said.binarization) == ("mine", "bits", "dynamic")


def test_a_mapping_of_columns_is_a_table(tmp_path):
    run = qvae.train(config(), tmp_path / "run", data={"a": IMAGES[:, 0, 0], "b": IMAGES[:, 1, 1]})
    assert run.dataset.feature_names == ("a", "b")


def test_a_key_beside_train_that_means_nothing_is_refused(tmp_path):
    with pytest.raises(DataError, match="data has the key 'labels' beside 'train'; .*Allowed: .*train_labels"):
        qvae.train(config(), tmp_path / "run", data={"train": IMAGES, "labels": [0] * 80})


@pytest.fixture
def finished(tmp_path):
    return qvae.train(config(), tmp_path / "run", data=IMAGES).path


def test_the_run_opens_without_them_and_says_what_it_lacks(finished):
    run = qvae.load_run(finished)
    assert run.model.generate(3, qvae.load_sampler("exact", seed=0)).shape == (3, 6, 6)
    with pytest.raises(DataError, match=r"came from memory .* give them again, as in load_run\(path, data=...\)"):
        _ = run.dataset
    with pytest.raises(DataError, match="came from memory"):
        qvae.resume(finished, ["training.epochs=3"])


def test_given_again_they_are_evaluated_and_the_run_goes_on(finished):
    run = qvae.load_run(finished, data=IMAGES)
    before = run.evaluation
    qvae.evaluate(run)
    assert run.evaluation["elbo"] == before["elbo"]
    resumed = qvae.resume(finished, ["training.epochs=3"], data=IMAGES)
    assert [row["epoch"] for row in resumed.metrics] == [1, 2, 3]


def test_other_data_are_refused(finished):
    with pytest.raises(DataError, match=r"shape \(5, 6\)"):
        qvae.load_run(finished, data=IMAGES[:, :5])
    counts = qvae.dataset_from_arrays(np.arange(120).reshape(20, 6), kind="counts")
    with pytest.raises(DataError, match="holds counts, but model.likelihood is bernoulli, which takes bits"):
        qvae.train(config(), finished.parent / "other", data=counts)


def test_other_data_of_the_same_shape_are_refused(finished):
    go_on = functools.partial(qvae.resume, finished, ["training.epochs=3"])
    for again in (lambda: qvae.load_run(finished, data=1 - IMAGES), lambda: go_on(data=1 - IMAGES)):
        with pytest.raises(DataError, match="holds other data than the run in .* was trained on, of the same shape"):
            again()


def test_a_name_in_a_file_is_not_enough(tmp_path):
    with pytest.raises(DataError, match="came from memory"):
        workflow.train(config("data.name=memory"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ConfigError, match="Allowed: digits, fashion-mnist, mnist"):
        config("data.name=memry")


@pytest.mark.parametrize(
    ("likelihood", "data"),
    [("poisson", np.random.default_rng(1).poisson(3.0, (80, 5))),
     ("negative-binomial", np.random.default_rng(1).poisson(3.0, (80, 6, 6))),
     ("categorical", np.random.default_rng(1).integers(0, 4, (80, 6))),
     ("gaussian", np.random.default_rng(1).random((80, 6, 6)))],
)  # fmt: skip
def test_every_likelihood_goes_from_data_to_report(likelihood, data, tmp_path):
    run = qvae.train(config(f"model.likelihood={likelihood}"), tmp_path / "run", data=data)
    found = run.evaluation
    assert found["likelihood"] == likelihood
    assert ("elbo_per_feature" in found) == (likelihood == "gaussian")
    opened = qvae.load_run(tmp_path / "run", data=data)
    qvae.evaluate(opened)
    assert opened.evaluation["elbo"] == pytest.approx(found["elbo"])


def test_how_data_were_taken_is_said(tmp_path):
    heard = []

    class Listening(qvae.Progress):
        def say(self, text):
            heard.append(text)

    (tmp_path / "people.csv").write_text("kind,dose\n" + "".join(f"{'ab'[k % 2]},{k / 7}\n" for k in range(60)))
    settings = config(f"data.name={tmp_path / 'people.csv'}", "data.labels=kind", "model.likelihood=gaussian")
    qvae.train(settings, tmp_path / "run", progress=Listening())
    assert any("0 a, 1 b" in text for text in heard)
