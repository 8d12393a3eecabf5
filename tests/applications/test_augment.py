"""Labelled samples on the way a user takes: as many of each class as were asked for, and told of the class they are of."""

import numpy as np
import pytest
from PIL import Image

import qvae
from qvae.applications.augment import augment
from qvae.errors import CapabilityError, DataError


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    settings = [
        "model.latent.label_units=one-hot", "model.latent.sizes=[4,4]", "model.network.hidden=[32]", "training.epochs=60",
        "evaluation.importance_samples=5", "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0",
    ]  # fmt: skip
    return qvae.train(qvae.load_config("digits", settings), tmp_path_factory.mktemp("runs") / "labelled").path


def rows_of(folder, labels):
    dataset = qvae.load_run(folder).dataset
    places = [int(np.flatnonzero(dataset.train_labels.numpy() == label)[0]) for label in labels]
    return dataset.values(dataset.train[places]).numpy()


def test_samples_are_of_the_given_classes_and_as_often(command, labelled):
    labels = np.array([3, 0, 3, 7])
    np.savez("few.npz", images=rows_of(labelled, labels), labels=labels)
    code, out, err = command("apply", "augment", labelled, "--input", "few.npz", "--factor", 20, "--out", "here")
    assert (code, err) == (0, "")
    assert "80 samples of 3 classes" in out
    found = np.load("here/augmented.npz")
    assert found["images"].shape == (80, 8, 8)
    assert np.unique(found["labels"], return_counts=True)[1].tolist() == [20, 40, 20]
    data = qvae.load_run(labelled).dataset
    mean = {label: data.values(data.train[data.train_labels == label]).mean(0).numpy() for label in (0, 3, 7)}
    nearest = [min(mean, key=lambda label: ((image - mean[label]) ** 2).sum()) for image in found["images"]]
    assert np.mean(nearest == found["labels"]) > 0.8
    again = command("apply", "augment", labelled, "--input", "few.npz", "--factor", 20, "--out", "again")
    assert again[0] == 0
    np.testing.assert_array_equal(np.load("again/augmented.npz")["images"], found["images"])


def test_folders_of_pictures_come_back_as_such(labelled, tmp_path):
    for label, image in zip((5, 6), rows_of(labelled, (5, 6)), strict=True):
        (tmp_path / "in" / str(label)).mkdir(parents=True)
        Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / "in" / str(label) / "a.png")
    augment(qvae.load_run(labelled), tmp_path / "in", factor=3, out=tmp_path / "out")
    written = sorted(str(file.relative_to(tmp_path / "out/augmented")) for file in (tmp_path / "out/augmented").rglob("*.png"))
    assert written == [f"{label}/{number}.png" for label in (5, 6) for number in range(3)]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in" / "b.png")
    with pytest.raises(DataError, match="doesn't say the labels of its images; put them into subfolders"):
        augment(qvae.load_run(labelled), tmp_path / "in", out=tmp_path / "out")


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({}, "holds no labels; save an .npz with the arrays images and labels"),
        ({"labels": np.array([1, 11])}, "has the label 11, which the model doesn't know"),
        ({"labels": np.array([1])}, "holds 2 rows, but labels of type int64 and shape"),
        ({"y": np.array([0.5, 1])}, "there must be a whole number for each"),
    ],
)
def test_labels_that_are_none_are_refused(arrays, reason, labelled, tmp_path):
    np.savez(tmp_path / "few.npz", images=rows_of(labelled, (1, 2)), **arrays)
    with pytest.raises(DataError, match=reason):
        augment(qvae.load_run(labelled), tmp_path / "few.npz", out=tmp_path)


def test_a_model_that_is_told_no_classes_is_refused(small_run, tmp_path):
    with pytest.raises(CapabilityError, match=r"isn't told classes.*train a qvae with model.latent.label_units=one-hot"):
        augment(qvae.load_run(small_run), tmp_path / "few.npz")
