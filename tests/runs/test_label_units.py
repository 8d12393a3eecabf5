"""Runs with label units: rows keep their classes on the way, a run goes on bit by bit, and generates what it is told."""

import signal

import numpy as np
import pytest
import torch

import qvae
from qvae.applications.generate import generated
from qvae.errors import DataError
from qvae.runs.assemble import assemble
from qvae.training.trainer import Trainer

SETTINGS = [
    "model.latent.label_units=binary",
    "model.latent.sizes=[3,3]",
    "model.network.hidden=[16]",
    "training.batch_size=20",
    "training.epochs=60",
    "training.average_decay=0.9",
    "evaluation.num_generated=0",
    "evaluation.probes=false",
    "evaluation.tsne_every=0",
    "evaluation.importance_samples=5",
]


@pytest.fixture
def data():
    """Rows of which one third or another is set, by their class, 2, 5 or 7; one pixel in ten is turned."""
    rng = np.random.default_rng(0)
    places = rng.integers(0, 3, 240)
    rows = np.repeat(np.eye(3), 4, axis=1)[places]
    rows = np.abs(rows - (rng.random(rows.shape) < 0.1)).astype(np.float32)
    return {"train": rows, "train_labels": np.array([2, 5, 7])[places], "test": rows[:30]}


def test_a_run_generates_the_class_that_it_is_told(data, tmp_path):
    run = qvae.train(qvae.load_config("digits", SETTINGS), tmp_path / "run", data=data)
    opened = qvae.load_run(run.path, data=data)
    assert opened.model.classes == (2, 5, 7)
    for place, label in enumerate(opened.model.classes):
        images = generated(opened, 50, "exact", seed=0, label=label).reshape(50, 3, 4).mean(2)
        assert (images.argmax(1) == place).mean() > 0.8
    assert generated(opened, 5, seed=0).shape == (5, 12)


@pytest.mark.parametrize("settings", [[], ["training.validation=0.25"]])
def test_every_row_keeps_its_class(data, settings, tmp_path, monkeypatch):
    monkeypatch.setenv("QVAE_KERNELS", "torch")  # or steps would be played again, of which nothing is seen here
    parts = assemble(tmp_path, qvae.load_config("digits", [*SETTINGS, *settings]), data=data)
    places = np.searchsorted([2, 5, 7], data["train_labels"])[:, None]
    given = set(map(tuple, np.concatenate([data["train"], places], 1).tolist()))
    seen, told = [], parts.objective._with_words
    parts.objective._with_words = lambda x: seen.append(x) or told(x)
    list(parts.trainer.trial(10))
    parts.trainer.averaged_model()
    if settings:
        parts.objective.validate(parts.trainer.held_out, {"log_z": 0.0}, parts.trainer.clock)
    assert sum(map(len, seen)) == 200 + (240 if not settings else 180 + 60)
    assert {tuple(row) for row in torch.cat(seen).tolist()} <= given


def test_a_run_that_was_cut_short_ends_with_the_same_bits(data, tmp_path):
    config = qvae.load_config("digits", [*SETTINGS, "training.epochs=4", "training.validation=0.1"])
    whole = qvae.train(config, tmp_path / "whole", data=data)
    train_step = Trainer._train_step

    def interrupted(trainer, rows):
        train_step(trainer, rows)
        if trainer.step == 15:
            signal.raise_signal(signal.SIGINT)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            qvae.train(config, tmp_path / "part", data=data)
    found = qvae.resume(tmp_path / "part", data=data).model.state_dict()
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, found[name]), name


def test_data_without_labels_are_refused(data, tmp_path):
    with pytest.raises(DataError, match=r"has no labels of its training rows; leave model.latent.label_units out"):
        assemble(tmp_path, qvae.load_config("digits", SETTINGS), data=data["train"])
