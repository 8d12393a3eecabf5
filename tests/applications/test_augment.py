"""Labelled samples on the way a user takes: as many of each class as were asked for, and told of the class they are of."""

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import qvae
from qvae.applications import augment as module
from qvae.applications.augment import augment, labels_of, samples_of
from qvae.config.load import dump_config
from qvae.errors import CapabilityError, DataError
from qvae.runs.assemble import assemble


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
    labels = np.array([3, 0, 3, 3, 7, 7])
    np.savez("few.npz", images=rows_of(labelled, labels), labels=labels)
    code, out, err = command("apply", "augment", labelled, "--input", "few.npz", "--factor", 20, "--out", "here")
    assert (code, err) == (0, "")
    assert "120 samples of 3 classes" in out
    found = np.load("here/augmented.npz")
    assert found["images"].shape == (120, 8, 8)
    assert np.unique(found["labels"], return_counts=True)[1].tolist() == [20, 60, 40]
    data = qvae.load_run(labelled).dataset
    mean = {label: data.values(data.train[data.train_labels == label]).mean(0).numpy() for label in (0, 3, 7)}
    nearest = [min(mean, key=lambda label: ((image - mean[label]) ** 2).sum()) for image in found["images"]]
    assert np.mean(nearest == found["labels"]) > 0.8
    again = command("apply", "augment", labelled, "--input", "few.npz", "--factor", 20, "--out", "again")
    assert again[0] == 0
    np.testing.assert_array_equal(np.load("again/augmented.npz")["images"], found["images"])


def test_folders_of_pictures_come_back_as_such(labelled, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 2)  # of each class two, and then the third
    for label, image in zip((5, 6), rows_of(labelled, (5, 6)), strict=True):
        (tmp_path / "in" / str(label)).mkdir(parents=True)
        Image.fromarray((255 * image).astype(np.uint8)).save(tmp_path / "in" / str(label) / "a.png")
    augment(qvae.load_run(labelled), tmp_path / "in", factor=3, out=tmp_path / "out")
    written = sorted(str(file.relative_to(tmp_path / "out/augmented")) for file in (tmp_path / "out/augmented").rglob("*.png"))
    assert written == [f"{label}/{number}.png" for label in (5, 6) for number in range(3)]
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(tmp_path / "in" / "b.png")
    with pytest.raises(DataError, match="doesn't say the labels of its images; put them into subfolders"):
        augment(qvae.load_run(labelled), tmp_path / "in", out=tmp_path / "out")


def test_folders_have_the_labels_of_the_training_folders_of_their_names():
    """Training numbers folders 3, 7 and 10 in the order of their names: 10 is 0, 3 is 1, and 7 is 2."""
    rows = SimpleNamespace(are_pictures=True, ids=["7/a.png", "10/a.png", "7/b.png"])
    assert labels_of(rows, (0, 1, 2), Path("few"), ("10", "3", "7")).tolist() == [2, 0, 2]
    assert labels_of(rows, (0, 1, 2), Path("few"), ("7", "3", "10")).tolist() == [0, 2, 0]  # in whatever order they are
    with pytest.raises(DataError, match="has the label '10', which the model doesn't know.*cat"):
        labels_of(rows, (0, 1), Path("few"), ("cat", "dog"))


def test_samples_of_named_folders_are_written_under_these_names(labelled, tmp_path):
    run = qvae.load_run(labelled)
    run.dataset = dataclasses.replace(run.dataset, class_names=tuple("abcdefghij"))
    (tmp_path / "in" / "d").mkdir(parents=True)
    Image.fromarray((255 * rows_of(labelled, (3,))[0]).astype(np.uint8)).save(tmp_path / "in" / "d" / "a.png")
    arrays, pictures, *_ = augment(run, tmp_path / "in", factor=2, out=tmp_path / "out").files
    assert sorted(str(file.relative_to(pictures)) for file in pictures.rglob("*.png")) == ["d/0.png", "d/1.png"]
    assert np.load(arrays)["labels"].tolist() == [3, 3]


def test_a_run_knows_the_names_of_its_classes_without_its_data(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(20):
        for name in ("cat", "dog"):
            (tmp_path / "pets" / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (8, 8), np.uint8)).save(tmp_path / "pets" / name / f"{number}.png")
    settings = [f"data.name={tmp_path / 'pets'}", "model.latent.label_units=one-hot", "model.latent.sizes=[3,3]"]
    config = qvae.load_config("digits", settings)
    (tmp_path / "run").mkdir()
    trainer = assemble(tmp_path / "run", config).trainer
    trainer.save(trainer)
    (tmp_path / "run" / "config.yaml").write_text(dump_config(config))
    (tmp_path / "pets").rename(tmp_path / "few")
    augment(qvae.load_run(tmp_path / "run"), tmp_path / "few", factor=1, out=tmp_path / "out")
    assert np.unique(np.load(tmp_path / "out" / "augmented.npz")["labels"], return_counts=True)[1].tolist() == [20, 20]
    assert len(list((tmp_path / "out" / "augmented" / "cat").iterdir())) == 20


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


class Labelled:
    """Four rows that are given with an array beside them."""

    are_pictures = False

    def __init__(self, **extra):
        self.extra = extra

    def __len__(self):
        return 4


@pytest.mark.parametrize("name", ["labels", "y", "target", "label", "train_labels", "y_train", "test_labels", "y_test"])
def test_labels_have_any_usual_name(name):
    rows = Labelled(**{name: np.array([3, 0, 3, -1])}, other=np.zeros(4))
    assert labels_of(rows, (-1, 0, 3), Path("few.npz")).tolist() == [3, 0, 3, -1]


def test_samples_are_drawn_a_few_at_a_time_by_one_sampler_which_is_closed(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 3)
    asked, shares = [], []

    def made(size, sampler, generator, label):
        asked.append((size, sampler, generator.initial_seed(), label))
        return torch.full((size, 2), float(label))

    sampler = SimpleNamespace(close=lambda: asked.append("closed"))
    config = SimpleNamespace(model=SimpleNamespace(has_boltzmann_prior=True))
    run = SimpleNamespace(
        config=config, device=torch.device("cpu"), model=SimpleNamespace(generate=made),
        sampler=lambda name, seed: asked.append((name, seed)) or sampler,
    )  # fmt: skip

    class Shares(qvae.Progress):
        def work(self, what, interval=None):
            from contextlib import nullcontext

            return nullcontext(lambda share, text="": shares.append(share))

    found = [(label, images.tolist()) for label, images in samples_of(run, {5: 4, 2: 3}, "gibbs", 9, Shares())]
    assert found == [(5, [[5.0, 5.0]] * 3), (5, [[5.0, 5.0]]), (2, [[2.0, 2.0]] * 3)]
    assert asked == [("gibbs", 9), (3, sampler, 9, 5), (1, sampler, 9, 5), (3, sampler, 9, 2), "closed"]
    assert shares == pytest.approx([3 / 7, 4 / 7, 1.0])


def test_the_judgement_is_over_all_samples_however_many_of_each_class(monkeypatch):
    shares = {1: 0.5, 2: 0.75}
    monkeypatch.setattr("qvae.applications.generate.class_share", lambda run, images, label: shares[label])
    found = module._judgement(None, {1: np.zeros((30, 2)), 2: np.zeros((10, 2))})
    assert found == "the classifier takes 56% of them for what they are labelled"  # 15 and 7.5 of 40
    assert module._filled(np.ones((2, 3)), 4).tolist() == [[1.0] * 3] * 2 + [[0.5] * 3] * 2


def test_the_picture_has_given_rows_of_each_class_before_its_samples(labelled, tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("qvae.reporting.figures.image_grid", lambda images, columns, title: shown.append((images, columns)))
    monkeypatch.setattr("qvae.reporting.figures.save_figure", lambda figure, file: file)
    labels = np.array([3, 0, 3])
    rows = rows_of(labelled, labels)
    np.savez(tmp_path / "few.npz", images=rows, labels=labels)
    augment(qvae.load_run(labelled), tmp_path / "few.npz", factor=6, out=tmp_path / "out")
    made = np.load(tmp_path / "out" / "augmented.npz")
    ((images, columns),) = shown
    grey = np.full((8, 8), 0.5)
    assert (len(images), columns) == (24, 12)
    assert np.allclose(images[:2], [rows[1], grey], atol=0.01)  # of class 0 there is one, and six samples
    assert np.allclose(images[2:12], [*made["images"][made["labels"] == 0], *[grey] * 4], atol=1e-5)
    assert np.allclose(images[12:14], [rows[0], rows[2]], atol=0.01)
    assert np.allclose(images[14:], made["images"][made["labels"] == 3][:10], atol=1e-5)


def test_the_first_samples_of_each_class_are_judged_and_all_of_them_written(labelled, tmp_path, monkeypatch):
    """Of two classes, two samples of each of the first parts."""
    judged, sizes = [], ((3, 4), (3, 2), (0, 3))
    parts = [(label, np.full((size, 8, 8), number, np.float32)) for number, (label, size) in enumerate(sizes)]
    monkeypatch.setattr(module, "_JUDGED", 4)
    monkeypatch.setattr(module, "samples_of", lambda run, wanted, *rest: judged.append(wanted) or iter(parts))
    monkeypatch.setattr(module, "_judgement", lambda run, found: judged.append(found) or "fine")
    labels = np.array([3, 0, 3])
    np.savez(tmp_path / "few.npz", images=rows_of(labelled, labels), labels=labels)
    outcome = augment(qvae.load_run(labelled), tmp_path / "few.npz", factor=3, out=tmp_path / "out")
    wanted, found = judged
    assert wanted == {0: 3, 3: 6}
    assert {label: (len(images), images.max()) for label, images in found.items()} == {3: (2, 0.0), 0: (2, 2.0)}
    assert outcome.sentences == ["9 samples of 2 classes; fine"]
    arrays = np.load(outcome.files[0])
    assert arrays["labels"].tolist() == [3] * 6 + [0] * 3
    assert arrays["images"][:, 0, 0].tolist() == [0] * 4 + [1] * 2 + [2] * 3
