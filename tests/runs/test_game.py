"""What a game is told of its data: classes as often as they are there, beside their own rows, and where black and white lie."""

import numpy as np
import pytest
import torch

from qvae.config.schema import Config
from qvae.data.arrays import dataset_from_arrays
from qvae.runs.assemble import assemble

MODEL = {
    "kind": "vqgan",
    "circuit": {"qubits": 3, "layers": 1},
    "network": {"hidden": [8]},
    "gan": {"noise": 3},
    "critic": {"hidden": [8]},
}


def objective(tmp_path, dataset, **model):
    config = {"model": MODEL | model, "training": {"batch_size": 20, "device": "cpu"}, "evaluation": {"tsne_every": 0}}
    return assemble(tmp_path / "run", Config.model_validate(config), data=dataset).objective


def test_classes_are_as_often_as_in_the_data_and_stand_beside_their_rows(tmp_path):
    labels = np.array([3, 3, 7] * 20)
    rows = np.broadcast_to((labels == 7)[:, None, None], (60, 4, 4)).astype(np.float32)
    game = objective(tmp_path, dataset_from_arrays(rows, rows[:10], train_labels=labels, name="memory")).game
    assert game.model.prior.classes == (3, 7)
    assert game.model.prior.frequencies.tolist() == pytest.approx([2 / 3, 1 / 3])
    values, classes = game.reference[:, 0] > 0, game.reference[:, -1]
    assert torch.equal(values, classes == 1)
    assert set(classes.tolist()) == {0, 1}


def test_a_game_of_pixels_sees_0_for_black_and_1_for_white(tmp_path):
    rows = np.random.default_rng(0).uniform(-2.0, 3.0, (60, 4, 4)).astype(np.float32)
    rows[0, 0, 0], rows[1, 0, 0] = -2.0, 3.0
    dataset = dataset_from_arrays(rows, rows[:10], kind="reals", name="memory")
    game = objective(tmp_path, dataset, generator="patch", likelihood="gaussian")
    black, white = (game.real(torch.full((1, 16), value), None)[0] for value in (-2.0, 3.0))
    torch.testing.assert_close(black, torch.zeros(1, 16), atol=1e-5, rtol=0)
    torch.testing.assert_close(white, torch.ones(1, 16))


def test_noise_begins_as_wide_as_the_data_by_the_seed_of_the_training(tmp_path, monkeypatch):
    seeds = []
    rows = np.random.default_rng(0).random((60, 4, 4)).astype(np.float32)
    dataset = dataset_from_arrays(rows, rows[:10], name="memory")
    kind = type(objective(tmp_path, dataset).game.model.prior)
    monkeypatch.setattr(kind, "begin_as_wide_as_data", lambda prior, generator: seeds.append(generator.initial_seed()))
    for seed in (5, 6):
        config = {"model": MODEL, "training": {"batch_size": 20, "seed": seed}, "evaluation": {"tsne_every": 0}}
        assemble(tmp_path / "run", Config.model_validate(config), data=dataset)
    assert seeds == [5, 6]
