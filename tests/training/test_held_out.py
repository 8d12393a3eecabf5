"""Rows held out of the training set: never trained on, looked at without a trace, and heard of when they get worse."""

import copy
import json

import numpy as np
import pytest
import torch
from support import model_of

from qvae import workflow
from qvae.config.load import load_config
from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import ConfigError
from qvae.sampling.registry import load_sampler
from qvae.training.metrics import Metrics
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.objectives.sampler_watch import SamplerWatch
from qvae.training.objectives.surrogate import surrogate
from qvae.training.trainer import Trainer


def trainer(metrics=None, **settings):
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((200, 4, 4)).astype(np.float32)
    data = dataset_from_arrays(images, images[:20], binarize="dynamic")
    model = model_of(ModelConfig(latent={"sizes": [3, 3]}, network={"hidden": [8]}), data.mean())
    config = TrainingConfig(**{"epochs": 4, "batch_size": 20, "chains": 20} | settings)
    return Trainer(BoltzmannObjective(model, data.prepare, config, load_sampler("gibbs", seed=1)), data, config, metrics)


def test_held_out_rows_are_never_trained_on():
    one, seen = trainer(validation=0.25), []
    step = one.objective.step
    one.objective.step = lambda rows, clock: seen.append(rows.clone()) or step(rows, clock)
    one.fit()
    trained, held_out = ({tuple(row.tolist()) for row in rows} for rows in (torch.cat(seen), one.held_out))
    assert len(held_out) == 50
    assert len(trained) > 140
    assert not trained & held_out


def test_a_look_at_them_changes_no_bit(tmp_path, monkeypatch):
    looking = trainer(Metrics(tmp_path / "metrics.jsonl"), validation=0.25)
    looking.fit()
    monkeypatch.setattr(BoltzmannObjective, "validate", lambda self, *arguments: {})
    blind = trainer(validation=0.25)
    blind.fit()
    assert all(map(torch.equal, looking.model.state_dict().values(), blind.model.state_dict().values()))
    last = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()][-1]
    assert last["held_out"] == pytest.approx(last["surrogate"], rel=0.1)  # noise, of which there is nothing to learn
    assert "held out" in looking.metrics.summary(looking.objective)


def test_the_figure_is_the_whole_loss_in_evaluation_mode_with_log_z():
    """Whatever weight the KL part has at the moment: a mean over rows, in batches of which the last is smaller."""
    one = trainer(validation=0.25, kl_warmup=1.0, precision="float32")
    for rows in one.held_out.split(20)[:2]:
        one.objective.step(rows, Clock(0, 1, 0.0))
    model, generator, total = copy.deepcopy(one.model).eval(), torch.Generator().manual_seed(0), 0.0
    for rows in one.held_out.split(20):
        terms = surrogate(model, one.objective.prepare(rows, generator), generator)
        total += float((terms.energy - terms.entropy - terms.log_likelihood).sum())
    found = one.objective.validate(one.held_out, {"log_z": 2.5}, Clock(7, 1, 0.25))
    assert found == {"held_out": pytest.approx(total / 50 + 2.5, rel=1e-5)}
    assert one.model.training
    assert one.objective.validate(one.held_out, {}, Clock(7, 1, 0.25)) == {}


def test_which_rows_are_held_out_follows_the_seed():
    first, second, again = (trainer(validation=0.1, seed=seed) for seed in (1, 2, 1))
    assert len(first.held_out) == 20
    assert len(first.rows) == 180
    assert torch.equal(first.held_out, again.held_out)
    assert not torch.equal(first.held_out, second.held_out)


def test_a_rise_is_said_once_it_is_clear():
    heard = []
    watch = SamplerWatch(lambda kind, text: heard.append(text))
    for epoch, value in enumerate((20.0, 18.0, 18.5)):
        watch.check_held_out(value, epoch)
    assert heard == []
    resumed = SamplerWatch(lambda kind, text: heard.append(text))
    resumed.load_state_dict(watch.state_dict())
    resumed.check_held_out(18.6, 3)
    assert "has risen from 18.00 to 18.60 nats (epoch 3)" in heard[0]


def test_the_part_stays_as_it_is_when_a_run_goes_on(small_run):
    with pytest.raises(ConfigError, match=r"training\.validation"):
        workflow.resume(small_run, ["training.validation=0.1"])


def test_a_small_set_is_told_what_its_figures_mean():
    assert "200 training rows make 4 steps an epoch" in workflow.remarks_on_size(trainer(batch_size=50))[0]
    assert workflow.remarks_on_size(trainer(batch_size=20)) == []
    assert load_config("digits").training.validation == 0
