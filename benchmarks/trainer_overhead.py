"""What the trainer costs over a hand-written loop of the same step, both in one process, in turns.

    python benchmarks/trainer_overhead.py digits
    python benchmarks/trainer_overhead.py mnist --steps 200 --set data.root=FOLDER

The hand-written loop does the same arithmetic with plain torch and nothing else: no monitor, schedules, checkpoints,
contracts or capability checks. Interleaved rounds, so that a drift of the machine hits both.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
from torch.nn import functional as F

import qvae
from qvae.data.load import load_data
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.training.devices import use_bfloat16
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.trainer import Trainer


class Rounds(Trainer):
    """A trainer that stops after each round, wherever its schedule is."""

    stop_at = 0

    @property
    def is_finished(self) -> bool:
        return self.step >= self.stop_at


def trainer_rounds(config: qvae.Config, steps: int) -> Callable[[], float]:
    """A function that trains ``steps`` more steps with :class:`Trainer` and returns the seconds."""
    dataset = load_data(config.data)
    model = QVAE.from_config(config.model, Statistics.of(dataset))
    sampler = qvae.load_sampler("gibbs", seed=1, **config.sampler.options)
    trainer = Rounds(BoltzmannObjective(model, dataset.prepare, config.training, sampler), dataset, config.training)

    def round_of_steps() -> float:
        trainer.stop_at += steps
        started = time.perf_counter()
        trainer.fit()
        return time.perf_counter() - started

    return round_of_steps


def handwritten_rounds(config: qvae.Config, steps: int) -> Callable[[], float]:
    """The same step written out for an RBM prior with a factorial posterior and the Gumbel relaxation."""
    dataset, training = load_data(config.data), config.training
    model = QVAE.from_config(config.model, Statistics.of(dataset)).train()
    images = dataset.train.flatten(1)
    n1, n2 = config.model.latent.sizes
    h, J = model.prior.h, model.prior.J
    networks = [p for name, p in model.named_parameters() if not name.startswith("prior.")]
    groups = [{"params": networks, "lr": training.learning_rate}, {"params": [h, J], "lr": training.prior_learning_rate}]
    optimizer = torch.optim.Adam(groups, fused=True)
    average = [p.detach().clone() for p in [*networks, h, J]]
    generator = torch.Generator().manual_seed(0)
    bf16 = use_bfloat16(training.precision, torch.device("cpu"))
    sweeps = config.sampler.options.get("sweeps", 10)
    z1 = torch.randint(0, 2, (n1, training.chains)).float()
    z2 = torch.randint(0, 2, (n2, training.chains)).float()
    order = iter(())

    @torch.no_grad()
    def gibbs_moments() -> tuple[torch.Tensor, torch.Tensor]:
        W = -4 * J.view(n1, n2)
        b1 = (-2 * h[:n1] - 0.5 * W.sum(1)).unsqueeze(1)
        b2 = (-2 * h[n1:] - 0.5 * W.sum(0)).unsqueeze(1)
        for _ in range(sweeps):
            torch.lt(torch.rand(z1.shape, generator=generator), torch.sigmoid(torch.addmm(b1, W, z2)), out=z1)
            torch.lt(torch.rand(z2.shape, generator=generator), torch.sigmoid(torch.addmm(b2, W.T, z1)), out=z2)
        m1, m2 = torch.tanh(torch.addmm(b1, W, z2) / 2), torch.tanh(torch.addmm(b2, W.T, z1) / 2)
        s1, s2 = 2 * z1 - 1, 2 * z2 - 1
        pairs = (m1 @ s2.T + s1 @ m2.T) / (2 * training.chains)
        return torch.cat([m1.mean(1), m2.mean(1)]), pairs.reshape(-1)

    def step() -> None:
        nonlocal order
        rows = next(order, None)
        if rows is None or len(rows) < training.batch_size:
            order = iter(torch.randperm(len(images)).split(training.batch_size))
            rows = next(order)
        x = dataset.binarize(images.index_select(0, rows), generator)
        means, pairs = gibbs_moments()
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = model.posterior.levels[0](model.encoder(x)).float()
            noise = torch.logit(torch.rand(logits.shape, generator=generator).clamp_(6e-8, 1 - 6e-8))
            zeta = torch.sigmoid((logits + noise) / config.model.relaxation.temperature)
            decoded = model.decoder(zeta)
        m = torch.tanh(logits / 2)
        energy = m @ h + ((m[:, :n1] @ J.view(n1, n2)) * m[:, n1:]).sum(1)
        entropy = (F.softplus(logits) - logits * torch.sigmoid(logits)).sum(1)
        reconstruction = F.binary_cross_entropy_with_logits(decoded, x, reduction="none").sum(1)
        loss = (energy - entropy + reconstruction).mean() - h @ means - J @ pairs
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(networks, training.clip_norm or 1e9)
        optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, [*networks, h, J], 0.001)

    def round_of_steps() -> float:
        started = time.perf_counter()
        for _ in range(steps):
            step()
        return time.perf_counter() - started

    return round_of_steps


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    config = qvae.load_config(arguments.config, [*arguments.settings, "training.max_seconds=null"])
    ours, plain = trainer_rounds(config, arguments.steps), handwritten_rounds(config, arguments.steps)
    ours(), plain()
    times = np.array([(ours(), plain()) for _ in range(arguments.rounds)]) / arguments.steps * 1e3
    ratios = times[:, 0] / times[:, 1]
    print(f"{arguments.config}: trainer {np.median(times[:, 0]):.2f} ms a step, by hand {np.median(times[:, 1]):.2f} ms")
    print(f"ratio, median of {arguments.rounds} rounds: {np.median(ratios):.3f} ({ratios.min():.3f} to {ratios.max():.3f})")


if __name__ == "__main__":
    main()
