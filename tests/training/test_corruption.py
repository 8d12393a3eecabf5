"""A training with damage: the encoder sees it, the decoder learns rows as they are, and so the model mends."""

import numpy as np
import pytest
import torch
from enumerated import small_model

import qvae
from qvae.applications.denoise import denoise
from qvae.config.schema import TrainingConfig
from qvae.errors import ConfigError
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective

SETTINGS = [
    "training.epochs=60", "model.latent.sizes=[16,16]", "model.network.hidden=[64]", "evaluation.num_generated=0",
    "evaluation.importance_samples=5", "evaluation.num_test=20", "evaluation.probes=false", "evaluation.tsne_every=0",
]  # fmt: skip


def test_the_encoder_sees_damage_and_the_likelihood_does_not():
    model, seen, learnt = small_model(), [], []
    model.encoder.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].clone()))
    likelihood = model.log_likelihood
    model.log_likelihood = lambda x, latents: (learnt.append(x.clone()), likelihood(x, latents))[1]
    config = TrainingConfig(corruption="dropped", corruption_amount=0.5, device="cpu")
    objective = BoltzmannObjective(model, lambda rows, generator: rows, config, qvae.load_sampler("exact"))
    objective.step(torch.ones(200, 6), Clock(0, 1, 0.0))
    assert float(seen[0].mean()) == pytest.approx(0.5, abs=5 * (0.25 / 1200) ** 0.5)
    assert (learnt[0] == 1).all()
    objective.settle(model, torch.ones(200, 6), 100)  # what batch norms are used on
    assert float(seen[-1].mean()) == pytest.approx(0.5, abs=5 * (0.25 / 600) ** 0.5)


def test_a_model_trained_with_noise_takes_it_off(tmp_path):
    settings = [*SETTINGS, "training.corruption=salt-and-pepper", "training.corruption_amount=0.2"]
    run = qvae.train(qvae.load_config("digits", settings), tmp_path / "run")
    clean = (run.dataset.values(run.dataset.test).numpy() >= 0.5).astype(np.float32)
    rng = np.random.default_rng(0)
    noisy = np.where(rng.random(clean.shape) < 0.2, rng.random(clean.shape) < 0.5, clean)
    np.save(tmp_path / "noisy.npy", noisy)
    found = denoise(run, tmp_path / "noisy.npy", trained=True, completions=2, draws=20)
    best = np.load(found.files[0])["best"]
    assert ((best - clean) ** 2).mean() < 0.7 * ((noisy - clean) ** 2).mean()
    assert found.sentences == []


def test_a_training_with_noise_repeats(tmp_path):
    """Its damage comes from the training's own generator, whose state is in the checkpoint."""
    weights = []
    for seed in (1, 1, 2):
        model, config = small_model(), TrainingConfig(corruption="gaussian", device="cpu", seed=seed)
        objective = BoltzmannObjective(model, lambda rows, generator: rows, config, qvae.load_sampler("exact"))
        objective.step(torch.ones(20, 6), Clock(500, 1, 0.5))
        weights.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_damage_that_doesn_t_fit_is_refused_before_anything_is_written(tmp_path):
    config = qvae.load_config("digits", [*SETTINGS, "training.corruption=coarse", "training.corruption_amount=3"])
    with pytest.raises(ConfigError, match="no squares with sides of 3 pixels"):
        qvae.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
