"""An objective of another kind is one class: a toy GAN, whose two optimizers take turns, goes through the same trainer."""

import json
import signal

import numpy as np
import pytest
import torch
from torch import nn

from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.config.schema import TrainingConfig
from qvae.data.arrays import dataset_from_arrays
from qvae.training.metrics import Metrics
from qvae.training.objective import Objective, load_optimizer_state, optimizer_state
from qvae.training.trainer import Trainer


class ToyGAN(Objective):
    """Non-saturating losses; the critic moves in even steps, the generator in odd ones."""

    figures = ("critic", "generator")
    shown = {"critic": ("critic", ".2f"), "generator": ("generator", ".2f")}  # noqa: RUF012

    def __init__(self, dataset, config):
        torch.manual_seed(config.seed)
        parts = {"generator": nn.Sequential(nn.Linear(2, 4), nn.Sigmoid()), "critic": nn.Linear(4, 1)}
        super().__init__(nn.ModuleDict(parts), torch.device("cpu"))
        self.dataset = dataset
        self.noise = torch.Generator().manual_seed(config.seed)
        self.optimizers = {name: torch.optim.Adam(part.parameters(), 0.02) for name, part in self.model.items()}

    def step(self, rows, clock):
        real = self.dataset.prepare(rows, self.noise)
        fake = self.model["generator"](torch.randn(len(rows), 2, generator=self.noise))
        critic, generator = self.model["critic"], nn.functional.softplus(-self.model["critic"](fake)).mean()
        loss = nn.functional.softplus(-critic(real)).mean() + nn.functional.softplus(critic(fake.detach())).mean()
        loss = loss + critic.weight.square().sum()  # R1 of a linear critic
        turn = "generator" if clock.step % 2 else "critic"
        self.model.zero_grad()
        (generator if turn == "generator" else loss).backward()
        self.optimizers[turn].step()
        return torch.stack([loss.detach(), generator.detach()])

    def look(self, clock):
        with torch.no_grad():
            made = self.model["generator"](torch.randn(500, 2, generator=self.noise))
        return {"mean": float(made.mean())}

    def parameters(self):
        return {f"generator.{name}": value for name, value in self.model["generator"].named_parameters()}

    def state_dict(self):
        optimizers = {name: optimizer_state(optimizer) for name, optimizer in self.optimizers.items()}
        return {"model": self.model.state_dict(), "optimizers": optimizers, "noise": self.noise.get_state()}

    def load_state_dict(self, state):
        self.model.load_state_dict(state["model"])
        for name, optimizer in self.optimizers.items():
            load_optimizer_state(optimizer, state["optimizers"][name])
        self.noise.set_state(state["noise"])


def trainer(file=None, epochs=20):
    rows = np.random.default_rng(0).integers(0, 2, (128, 2, 2)).astype(np.float32) * 0.2 + 0.7
    dataset = dataset_from_arrays(rows, rows[:1])
    config = TrainingConfig(epochs=epochs, batch_size=32)
    return Trainer(ToyGAN(dataset, config), dataset, config, Metrics(file))


def bits(model):
    return torch.cat([value.reshape(-1) for value in model.state_dict().values()])


def test_it_trains_and_is_written_as_any_other(tmp_path):
    run = trainer(tmp_path / "metrics.jsonl", epochs=100)
    start = float(run.objective.look(run.clock)["mean"])
    run.fit()
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert {"epoch", "step", "seconds", "critic", "generator", "mean"} <= set(rows[-1])
    assert abs(rows[-1]["mean"] - 0.8) < 0.5 * abs(start - 0.8)  # real bits have the mean 0.8
    critic = run.averaged_model()["critic"]
    assert torch.equal(critic.weight, run.model["critic"].weight)  # only the generator is averaged
    assert not torch.equal(run.averaged_model()["generator"][0].weight, run.model["generator"][0].weight)


@pytest.mark.parametrize("stop_at", [1, 4, 7])
def test_a_resumed_run_ends_with_the_same_bits(tmp_path, stop_at):
    whole, first, second = trainer(), trainer(), trainer()
    whole.fit()
    step = first.objective.step

    def interrupted(rows, clock):
        if clock.step == stop_at - 1:
            signal.raise_signal(signal.SIGINT)
        return step(rows, clock)

    first.objective.step = interrupted
    with pytest.raises(KeyboardInterrupt):
        first.fit()
    assert first.step == stop_at
    save_checkpoint(tmp_path / "c", first.state_dict())
    second.load_state_dict(load_checkpoint(tmp_path / "c"))
    second.fit()
    assert torch.equal(bits(second.model), bits(whole.model))
    assert torch.equal(bits(second.averaged_model()), bits(whole.averaged_model()))
