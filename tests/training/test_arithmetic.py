"""The trainer's arithmetic against a loop written by hand: order, schedules, loss, gradients, clipping, Adam and averages."""

import copy
import itertools
import math

import numpy as np
import pytest
import torch
from support import model_of
from torch.nn import functional as F

from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.sampling.registry import load_sampler
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.trainer import Trainer

SETTINGS = {
    "epochs": 5, "batch_size": 32, "seed": 3, "learning_rate": 0.01, "prior_learning_rate": 0.02, "warmup_steps": 4,
    "kl_start": 0.1, "kl_warmup": 0.6, "clip_norm": 1.0, "average_decay": 0.8, "precision": "float32", "device": "cpu",
}  # fmt: skip
EDGES = list(itertools.product((0, 1), (2, 3)))


def trainer_of(**settings):
    """On 150 noisy bars of 4x4 bits, with a prior of 2 + 2 spins and moments without noise."""
    generator = np.random.default_rng(0)
    bars = generator.integers(0, 2, (150, 1, 4)) ^ (generator.random((150, 4, 4)) < 0.1)
    data = dataset_from_arrays(bars.astype(np.float32), bars[:5].astype(np.float32), binarize="threshold")
    torch.manual_seed(0)
    model = model_of(ModelConfig(latent={"graph": "rbm", "sizes": [2, 2]}, network={"hidden": [6]}), data.mean())
    with torch.no_grad():
        model.prior.h.normal_(0, 0.5)
        model.prior.J.normal_(0, 0.5)
    config = TrainingConfig(**(SETTINGS | settings))
    return Trainer(BoltzmannObjective(model, data.prepare, config, load_sampler("exact", seed=1)), data, config)


def parts_of_loss(model, x, generator):
    """log p(x|zeta), E_q[E(z)] and H(q) of each row, and log Z, from the equations."""
    logits = model.posterior.levels[0](model.encoder(x))
    u = torch.rand(logits.shape, generator=generator).clamp(2**-24, 1 - 2**-24)
    output = model.decoder(torch.sigmoid((logits + torch.log(u / (1 - u))) / 0.5))
    log_p = (x * F.logsigmoid(output) + (1 - x) * F.logsigmoid(-output)).sum(1)
    q = torch.sigmoid(logits)
    entropy = -(q * F.logsigmoid(logits) + (1 - q) * F.logsigmoid(-logits)).sum(1)

    def energy(s):
        return s @ model.prior.h + sum(J * s[:, i] * s[:, j] for J, (i, j) in zip(model.prior.J, EDGES, strict=True))

    states = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=4)))
    return log_p, energy(2 * q - 1), entropy, torch.logsumexp(-energy(states), 0)


def by_hand(trainer):
    """Weights after the training, their averages, and the rows of each epoch."""
    s, model = SETTINGS, copy.deepcopy(trainer.model)
    x, generator = trainer.rows.float().add(1).div(2**15), torch.Generator().manual_seed(s["seed"])
    named = dict(model.named_parameters())
    average = {name: p.detach().clone() for name, p in named.items()}
    m, v = ({name: torch.zeros_like(p) for name, p in named.items()} for _ in range(2))
    orders, total, t = [], 5 * 4, 0  # four whole batches of 150 rows
    for epoch in range(5):
        orders.append(np.argsort(np.random.PCG64(np.random.SeedSequence([s["seed"], epoch])).random_raw(150)))
        for rows in orders[-1][:128].reshape(4, 32):
            progress = t / total
            weight = min(1.0, 0.1 + 0.9 * progress / 0.6)
            factor = min(1.0, (t + 1) / 5) * (1 + math.cos(math.pi * progress)) / 2
            log_p, energy, entropy, log_z = parts_of_loss(model, x[rows], generator)
            model.zero_grad()
            (weight * (energy - entropy + log_z) - log_p).mean().backward()
            norm = math.sqrt(sum(float(p.grad.square().sum()) for name, p in named.items() if "prior" not in name))
            t += 1
            with torch.no_grad():
                for name, p in named.items():
                    rate = factor * (s["prior_learning_rate"] if "prior" in name else s["learning_rate"])
                    grad = p.grad if "prior" in name else p.grad * min(1.0, 1.0 / (norm + 1e-6))
                    m[name] = 0.9 * m[name] + 0.1 * grad
                    v[name] = 0.999 * v[name] + 0.001 * grad**2
                    p -= rate * (m[name] / (1 - 0.9**t)) / ((v[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                    decay = min(0.8, t / (t + 10))
                    average[name] = decay * average[name] + (1 - decay) * p
    return named, average, orders


def test_a_training_is_the_loop_written_by_hand(monkeypatch):
    monkeypatch.setenv("QVAE_KERNELS", "torch")  # whose noise the loop draws
    trainer = trainer_of()
    weights, average, orders = by_hand(trainer)
    trainer.fit()
    found = dict(trainer.model.named_parameters())
    for name, expected in weights.items():
        torch.testing.assert_close(found[name], expected, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
    found = dict(trainer.averaged_model().named_parameters())
    for name, expected in average.items():
        torch.testing.assert_close(found[name], expected, atol=1e-4, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")
    assert all(np.array_equal(np.sort(order), np.arange(150)) for order in orders)
    assert not np.array_equal(orders[0], orders[1])


def test_every_epoch_takes_every_row_once_in_another_order():
    trainer = trainer_of(batch_size=50)  # three batches, none left out
    trainer.rows = torch.arange(150, dtype=torch.int16).unsqueeze(1)
    epochs = []
    for epoch in range(2):
        trainer.step = epoch * trainer.steps_per_epoch
        epochs.append(torch.cat(list(trainer._batches())).flatten().tolist())
    assert epochs[0] != epochs[1]
    assert all(sorted(rows) == list(range(150)) for rows in epochs)


def test_the_weight_of_the_kl_part_is_on_both_phases():
    trainer = trainer_of()
    objective, model = trainer.objective, trainer.model
    x = trainer.rows[:40].float().add(1).div(2**15)
    whole = copy.deepcopy(model)
    _, energy, entropy, log_z = parts_of_loss(whole, x, torch.Generator().manual_seed(SETTINGS["seed"]))
    positive = torch.autograd.grad(energy.mean(), (whole.prior.h, whole.prior.J), retain_graph=True)
    negative = torch.autograd.grad(log_z, (whole.prior.h, whole.prior.J))
    terms = objective._backward(x, 0.3)
    for parameter, up, down in zip((model.prior.h, model.prior.J), positive, negative, strict=True):
        torch.testing.assert_close(parameter.grad, 0.3 * (up + down), atol=1e-6, rtol=1e-4)
        assert min(up.abs().max(), down.abs().max()) > 0.01
    expected = (0.3 * (energy - entropy) - terms.log_likelihood).mean()
    torch.testing.assert_close(terms.loss(0.3), expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("schedule", "halfway"), [("constant", 1.0), ("cosine", 0.5)])
def test_the_rate_after_the_warm_up_is_the_configured_one(schedule, halfway):
    objective = trainer_of(schedule=schedule).objective
    for step, progress, factor in ((0, 0.0, 0.2), (4, 0.0, 1.0), (100, 0.0, 1.0), (100, 0.5, halfway)):
        objective._set_learning_rates(Clock(step, 1, progress))
        rates = [group["lr"] for group in objective.optimizer.param_groups]
        assert rates == pytest.approx([0.01 * factor, 0.02 * factor])


def test_batch_norm_is_retaken_on_bits():
    """Statistics are averages over the batches of those of networks that see bits, not their relaxation."""
    trainer = trainer_of()
    trainer.fit()
    model = trainer.averaged_model()
    norm, expected = model.decoder.layers[0][1], []
    order = np.argsort(np.random.PCG64(np.random.SeedSequence([0, 0])).random_raw(150))
    x, generator = trainer.rows[order].float().add(1).div(2**15), torch.Generator().manual_seed(0)
    seen = copy.deepcopy(model).train()
    for batch in x.split(32):
        q = torch.sigmoid(seen.posterior.levels[0](seen.encoder(batch)))
        hidden = seen.decoder.layers[0][0]((torch.rand(q.shape, generator=generator) < q).float())
        expected.append(torch.stack([hidden.mean(0), hidden.var(0)]))
    mean, variance = torch.stack(expected).mean(0)
    torch.testing.assert_close(norm.running_mean, mean, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(norm.running_var, variance, atol=1e-5, rtol=1e-4)
