"""Early stopping ends when held-out rows get no better, keeps the weights of the best look, and resumes with the same bits."""

import numpy as np
import pytest
import torch
from support import model_of

from qvae import workflow
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.load import load_config
from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.errors import ConfigError
from qvae.sampling.registry import load_sampler
from qvae.training.early_stopping import EarlyStopping
from qvae.training.metrics import Metrics
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.trainer import Trainer

FIGURES = [9.0, 7.0, 8.0, 6.0, 6.5, 7.0, 6.1, 5.0]


def trainer(figures=None, **settings):
    """A trainer on 100 rows of noise, of which a fifth is held out; ``figures`` are what its looks find there."""
    torch.manual_seed(0)
    images = np.random.default_rng(0).random((100, 4, 4)).astype(np.float32)
    data = dataset_from_arrays(images, images[:20])
    model = model_of(ModelConfig(latent={"sizes": [3, 3]}, network={"hidden": [8]}), data.mean())
    basic = {"epochs": 8, "batch_size": 20, "chains": 20, "validation": 0.2, "early_stopping": 3, "kl_warmup": 0.0}
    config = TrainingConfig(**(basic | settings))
    made = Trainer(BoltzmannObjective(model, data.prepare, config, load_sampler("gibbs", seed=1)), data, config, Metrics())
    if figures is not None:
        made.objective.validate = lambda rows, found, clock: {"held_out": figures[clock.epoch - 1]}
    return made


def test_it_ends_when_patience_does_with_the_averaged_weights_of_the_best_look():
    one, averages = trainer(FIGURES), []
    look = one.stopping.look
    one.stopping.look = lambda *arguments: averages.append([v.clone() for v in one.average.values]) or look(*arguments)
    one.fit()
    assert one.step == 7 * one.steps_per_epoch
    assert (one.stopping.best, one.stopping.epoch) == (6.0, 4)
    ended = dict(one.averaged_model().named_parameters())
    assert all(torch.equal(ended[name], value) for name, value in zip(one.objective.parameters(), averages[3], strict=True))
    assert not torch.equal(averages[3][0], averages[6][0])
    assert "3 looks in a row found held-out rows no better" in one.metrics.warnings[-1]
    assert "the weights of epoch 4 are kept" in one.metrics.warnings[-1]


def test_looks_before_the_kl_part_has_its_weight_do_not_count():
    stopping = EarlyStopping(1, begins=0.5)
    stopping.look(5.0, [torch.tensor(5.0)], Clock(1, 1, 0.499))
    assert stopping.weights is None
    stopping.look(5.0, [torch.tensor(5.0)], Clock(1, 1, 0.5))  # the weight is whole
    assert stopping.weights == [torch.tensor(5.0)]
    for epoch, (progress, figure) in enumerate([(0.1, 1.0), (0.4, 2.0), (0.6, 4.0)], start=2):
        stopping.look(figure, [torch.tensor(figure)], Clock(epoch, epoch, progress))
    assert (stopping.best, stopping.has_ended, stopping.words) == (4.0, False, "")
    stopping.look(4.0, [torch.tensor(0.0)], Clock(5, 5, 0.7))
    assert stopping.has_ended
    assert stopping.weights == [torch.tensor(4.0)]


def test_what_is_said_of_the_weights_that_are_kept():
    stopping = EarlyStopping(2)
    said = []
    for epoch, figure in enumerate((3.0, 2.5, 2.75, 2.5), start=1):
        stopping.look(figure, [torch.tensor(figure)], Clock(epoch, epoch, 0.1))
        said.append(stopping.words)
    kept = "the weights of epoch 2 are kept, at which held-out rows were best (2.50 nats)"
    ended = "2 looks in a row found held-out rows no better, so the training ended early: "
    assert said == ["", "", kept, ended + kept]
    once = EarlyStopping(1)
    once.look(1.0, [torch.tensor(1.0)], Clock(1, 1, 0.1))
    once.look(1.0, [torch.tensor(2.0)], Clock(2, 2, 0.2))
    assert once.words.startswith("1 look in a row found")


def test_a_resumed_training_ends_with_the_same_weights(tmp_path):
    whole, first, resumed = trainer(FIGURES), trainer(FIGURES), trainer(FIGURES)
    whole.fit()
    step = first.objective.step

    def until_epoch_6(rows, clock):
        if clock.step == 22:
            raise KeyboardInterrupt
        return step(rows, clock)

    first.objective.step = until_epoch_6
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    save_checkpoint(tmp_path / "state", first.state_dict())
    resumed.load_state_dict(load_checkpoint(tmp_path / "state"))
    resumed.fit()
    assert resumed.step == whole.step
    assert all(map(torch.equal, resumed.averaged_model().state_dict().values(), whole.averaged_model().state_dict().values()))


def test_a_model_that_learns_noise_by_heart_is_stopped():
    one = trainer(epochs=400, early_stopping=4, learning_rate=0.03, average_decay=0.0)
    one.fit()
    assert one.step < 0.7 * one.total_steps
    assert one.stopping.epoch < one.clock.epoch


def test_off_it_costs_and_changes_nothing():
    plain, watched = trainer(FIGURES, early_stopping=None), trainer(FIGURES, early_stopping=100)
    plain.fit()
    watched.fit()
    assert plain.stopping.weights is None
    assert watched.stopping.epoch == 8
    assert all(map(torch.equal, plain.model.state_dict().values(), watched.model.state_dict().values()))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["training.early_stopping=5"], "no rows are held out"),
        (["training.early_stopping=5", "training.validation=0.1", "model.latent.gamma=1.0"], "prior_gradient to exact"),
    ],
)
def test_what_it_needs(settings, words):
    with pytest.raises(ConfigError, match=words):
        load_config("digits", settings)


def test_a_run_that_stopped_early_goes_on_with_more_patience(small_run, tmp_path):
    settings = ["training.validation=0.2", "training.early_stopping=1", "training.epochs=20", "training.kl_warmup=0.0"]
    rates = ["training.learning_rate=0.3", "training.prior_learning_rate=0.3"]
    config = load_config(small_run / "config.yaml", [*settings, *rates])
    run = workflow.train(config, tmp_path / "run")
    assert run.metrics[-1]["epoch"] < 20
    said = []

    class Listener(workflow.Progress):
        def say(self, text):
            said.append(text)

    workflow.resume(run.path, progress=Listener())
    assert "more patience: --set training.early_stopping=NUMBER" in said[0]
    longer = workflow.resume(run.path, ["training.early_stopping=null"])
    assert longer.metrics[-1]["epoch"] == 20
