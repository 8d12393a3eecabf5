"""A resumed training draws on where it stopped, from the global generators of third parties' code, too."""

import random
import signal

import numpy as np
import pytest
import rich.style  # noqa: F401 (it draws from Python's generator when it is first imported)
import torch

import qvae
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.runs import assemble
from qvae.sampling.sampler import Samples, SeededSampler
from qvae.training.random_state import global_random_state, restore_global_random_state
from qvae.training.trainer import Trainer

DRAWS = {
    "torch": lambda: torch.rand(3).tolist(),
    "numpy": lambda: np.random.standard_normal(3).tolist(),  # noqa: NPY002
    "python": lambda: [random.gauss(0, 1) for _ in range(3)],
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS.keys())
def test_each_generator_goes_on_from_a_checkpoint(tmp_path, draw):
    draw()  # half of a pair of normal numbers is left
    save_checkpoint(tmp_path / "c", global_random_state())
    expected = draw()
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    random.seed(99)
    restore_global_random_state(load_checkpoint(tmp_path / "c"))
    assert draw() == expected


class Careless(SeededSampler):
    """Draws from all of them."""

    def _sample(self, hamiltonian, num_samples):
        shape = (num_samples, hamiltonian.num_spins)
        noise = torch.rand(shape) + torch.from_numpy(np.random.standard_normal(shape)) + random.gauss(0, 1)  # noqa: NPY002
        return Samples(2 * (noise > 0.5).to(torch.int8) - 1)


@pytest.fixture
def config(monkeypatch):
    monkeypatch.setattr(assemble, "make_sampler", lambda *arguments, **more: Careless())
    settings = [
        "training.epochs=2", "model.latent.sizes=[3,3]", "model.network.hidden=[8]", "evaluation.num_test=20",
        "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0",
    ]  # fmt: skip
    return qvae.load_config("digits", settings)


def seed_everything(seed):
    np.random.seed(seed)  # noqa: NPY002
    random.seed(seed)


def test_a_resumed_training_with_a_sampler_that_draws_from_them_ends_with_the_same_bits(config, tmp_path, monkeypatch):
    seed_everything(0)
    qvae.train(config, tmp_path / "whole")
    step = Trainer._train_step

    def interrupted(trainer, images):
        if trainer.step == 7:
            signal.raise_signal(signal.SIGINT)
        step(trainer, images)

    seed_everything(0)
    monkeypatch.setattr(Trainer, "_train_step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        qvae.train(config, tmp_path / "broken")
    monkeypatch.setattr(Trainer, "_train_step", step)
    seed_everything(99)
    qvae.resume(tmp_path / "broken")
    models = [load_checkpoint(tmp_path / name / "model.safetensors")["model"] for name in ("whole", "broken")]
    assert all(torch.equal(models[0][name], models[1][name]) for name in models[0])
