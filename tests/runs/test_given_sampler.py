"""A sampler object and functions that watch: given from Python, kept in no file, and given again where a run goes on."""

import signal

import pytest
import torch

import qvae
from qvae.checkpoint import load_checkpoint
from qvae.config.load import load_config
from qvae.config.schema import MEMORY
from qvae.errors import SamplerError
from qvae.runs.run import load_run
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Moments, Samples, SeededSampler
from qvae.training.trainer import Trainer


class Counting(SeededSampler):
    """Draws by a registered sampler, counts its calls, and may be closed once."""

    def __init__(self, seed=3):
        super().__init__(seed=seed)
        self.calls, self.is_closed = 0, False

    def _sample(self, hamiltonian, num_samples):
        assert not self.is_closed
        self.calls += 1
        uniform = torch.rand(num_samples, hamiltonian.num_spins, generator=self.generator(hamiltonian.h.device))
        return Samples(torch.where(uniform < 0.5, -1, 1).to(torch.int8))

    def close(self):
        self.is_closed = True


@pytest.fixture
def config(trained):
    return load_config(trained / "config.yaml", ["training.epochs=2"])


def test_a_run_is_trained_and_sampled_with_the_object_which_stays_open(config, tmp_path):
    mine = Counting()
    run = qvae.train(config, tmp_path / "run", sampler=mine)
    steps = run.metrics[-1]["step"]
    assert mine.calls > steps  # looks and the samples of the pictures come on top
    assert not mine.is_closed
    before = mine.calls
    assert run.prior_spins(3000).shape == (3000, 8)
    assert mine.calls == before + 1
    said = load_config(run.path / "config.yaml").sampler
    assert (said.name, said.options) == (MEMORY, {"class": "Counting"})
    assert config.sampler.name == "gibbs"  # the caller's own isn't changed


def test_a_run_goes_on_with_the_object_given_again_bit_by_bit(config, tmp_path, monkeypatch):
    whole = qvae.train(config, tmp_path / "whole", sampler=Counting())
    step = Trainer._train_step

    def interrupted(trainer, rows):
        if trainer.step == 7:
            signal.raise_signal(signal.SIGINT)
        step(trainer, rows)

    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        qvae.train(config, tmp_path / "broken", sampler=Counting())
    monkeypatch.setattr(Trainer, "_train_step", step)
    with pytest.raises(SamplerError, match=r"object of the class Counting.*resume\(path, sampler=\.\.\.\)"):
        qvae.resume(tmp_path / "broken")
    resumed = qvae.resume(tmp_path / "broken", sampler=Counting(seed=99))  # whose state is the checkpoint's
    models = [load_checkpoint(run.path / "model.safetensors")["model"] for run in (whole, resumed)]
    assert all(map(torch.equal, models[0].values(), models[1].values()))


def test_a_run_opens_without_the_object_and_draws_with_another(config, tmp_path):
    path = qvae.train(config, tmp_path / "run", sampler=Counting()).path
    (path / "prior_samples.safetensors").unlink()
    with pytest.raises(SamplerError, match="Counting"):
        load_run(path).prior_spins(5)
    assert load_run(path, sampler=load_sampler("exact")).prior_spins(5).shape == (5, 8)
    assert load_run(path).sampler("exact").name == "exact"


@pytest.mark.parametrize(("wrong", "words"), [(Counting, "is the class Counting"), ("gibbs", "is a str"), (Moments, "Moments")])
def test_what_is_no_sampler_object_is_told(wrong, words, config, tmp_path):
    with pytest.raises(SamplerError, match=words):
        qvae.train(config, tmp_path / "run", sampler=wrong)
    assert not (tmp_path / "run").exists()


def test_observers_see_every_epoch_and_cost_no_bit(config, tmp_path):
    seen = []

    def watch(model, figures):
        seen.append((figures["epoch"], figures["step"], model.training))
        torch.rand(3)

    def broken(model, figures):
        raise ValueError("no such plot")

    said = []

    class Listener(qvae.Progress):
        def warn(self, text):
            said.append(text)

    watched = qvae.train(config, tmp_path / "watched", progress=Listener(), observers=[broken, watch])
    steps = watched.metrics[0]["step"]
    assert seen == [(1, steps, True), (2, 2 * steps, True)]
    assert [text for text in said if "broken" in text] == ["the observer broken failed in epoch 1 (ValueError: no such plot)"]
    plain = qvae.train(config, tmp_path / "plain")
    models = [load_checkpoint(run.path / "model.safetensors")["model"] for run in (watched, plain)]
    assert all(map(torch.equal, models[0].values(), models[1].values()))
    qvae.resume(plain.path, ["training.epochs=3"], observers=[watch])
    assert seen[-1] == (3, 3 * steps, True)
