"""What the trainer costs over a hand-written loop of the same step, both in one process, in turns of a few steps.

    python benchmarks/trainer_overhead.py digits
    python benchmarks/trainer_overhead.py mnist --steps 60 --set data.root=FOLDER

The hand-written loop does the same arithmetic with plain torch and nothing else: no monitor, schedules, checkpoints,
contracts or capability checks. Turns are so short that a drift of the machine hits both, and a median over many of them
forgets those in which the caches were another process's. It also forgets looks at the sampler, of which a training has a
few: they are timed by themselves and added, as many as the configured training has. Times are of the processor, which
waiting for another process isn't part of.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

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

T = TypeVar("T", bound=Trainer)

TURN = 10  # steps
_LOOKS = 5  # that are timed


class Turns(Trainer):
    """A trainer that has a hand-written loop make as many steps after every few of its own, wherever its schedule is."""

    num_turns = 0
    by_hand: Callable[[], None] = staticmethod(lambda: None)

    def timed(self, num_turns: int) -> np.ndarray:
        """Milliseconds of processor time a step takes, the trainer's and by hand, in so many turns: (num_turns, 2)."""
        self.seconds_of_turns: list[tuple[float, float]] = []
        self.num_turns, self._turn_began = num_turns, time.process_time()
        self.fit()
        return np.array(self.seconds_of_turns) / TURN * 1e3

    def milliseconds_of_looks(self) -> float:
        """What looks at the sampler cost a step of the configured training, on average."""
        seconds = []
        for _ in range(_LOOKS):
            began = time.process_time()
            self.objective.look(self.clock)
            seconds.append(time.process_time() - began)
        return float(np.median(seconds)) * self.num_looks / self.total_steps * 1e3

    def _train_step(self, rows: torch.Tensor) -> None:
        super()._train_step(rows)
        if self.step % TURN == 0:
            ended = time.process_time()
            for _ in range(TURN):
                self.by_hand()
            began = time.process_time()
            self.seconds_of_turns.append((ended - self._turn_began, began - ended))
            self._turn_began = began

    @property
    def is_finished(self) -> bool:
        return len(self.seconds_of_turns) >= self.num_turns


def trainer_of(config: qvae.Config, kind: type[T]) -> T:
    """The trainer of a configuration, with the Gibbs sampler."""
    dataset = load_data(config.data)
    model = QVAE.from_config(config.model, Statistics.of(dataset))
    sampler = qvae.load_sampler("gibbs", seed=1, **config.sampler.options)
    return kind(BoltzmannObjective(model, dataset.prepare_in_training, config.training, sampler), dataset, config.training)


def handwritten_step(config: qvae.Config) -> Callable[[], None]:
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

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    arguments = parser.parse_args()
    config = qvae.load_config(arguments.config, [*arguments.settings, "training.max_seconds=null"])
    trainer = trainer_of(config, Turns)
    trainer.by_hand = handwritten_step(config)
    turns = max(1, arguments.steps // TURN)
    trainer.timed(turns)  # until memory and caches are warm
    rounds = [trainer.timed(turns) for _ in range(arguments.rounds)]
    ours, plain = np.median(np.concatenate(rounds), axis=0)
    looks = trainer.milliseconds_of_looks()
    ratios = [np.median(times[:, 0] / times[:, 1]) + looks / plain for times in rounds]
    print(f"{arguments.config}: trainer {ours:.2f} ms a step and {looks:.3f} ms for looks, by hand {plain:.2f} ms")
    print(f"ratio, median of {arguments.rounds} rounds: {np.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")


if __name__ == "__main__":
    main()
