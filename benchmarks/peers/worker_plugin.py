"""Worker of D-Wave's PyTorch plugin: its two Gibbs samplers, and a training step of its DVAE."""

from __future__ import annotations

import itertools
import os
from typing import Any

import numpy as np
import torch
from dwave.plugins.torch.models import GraphRestrictedBoltzmannMachine
from dwave.plugins.torch.models.discrete_variational_autoencoder import DiscreteVariationalAutoencoder
from dwave.plugins.torch.models.losses import pseudo_kl_divergence_loss
from dwave.plugins.torch.samplers.bipartite_sampler import BipartiteGibbsSampler
from dwave.plugins.torch.samplers.block_spin_sampler import BlockSampler
from dwave.plugins.torch.samplers.dimod_sampler import DimodSampler
from dwave.samplers import SimulatedAnnealingSampler
from protocol import Job, Timer, serve
from torch import Tensor, nn

torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
_machine: GraphRestrictedBoltzmannMachine
_colours: list[int]
_samplers: dict[tuple[Any, ...], BlockSampler | BipartiteGibbsSampler] = {}


def load(problem: str) -> int:
    global _machine, _colours
    _samplers.clear()
    data = np.load(problem)
    _colours, n = data["colours"].tolist(), len(data["h"])
    _machine = GraphRestrictedBoltzmannMachine(range(n), data["edges"].tolist())
    _machine._linear.data = torch.tensor(data["h"], dtype=torch.float32)
    _machine._quadratic.data = torch.tensor(data["J"], dtype=torch.float32)
    return n


def gibbs(out: str, samples: int, sweeps: int, seed: int, bipartite: bool) -> dict[str, float]:
    """From random spins. Its samplers are made before the clock starts: lists of neighbours take a second."""
    key = (bipartite, samples, sweeps)
    if key not in _samplers:
        _samplers[key] = _make_sampler(samples, [1.0] * sweeps, bipartite)
    sampler = _samplers[key]
    sampler._rng.manual_seed(seed)
    with Timer() as timer:
        sampler._x.data = sampler._prepare_initial_states(samples).float()
        spins = sampler.sample()
    np.savez(out, spins=spins.to(torch.int8).numpy())
    return timer.seconds()


def _make_sampler(samples: int, schedule: list[float], bipartite: bool) -> BlockSampler | BipartiteGibbsSampler:
    if bipartite:
        return BipartiteGibbsSampler(_two_layers(), samples, schedule)
    return BlockSampler(_machine, _colours.__getitem__, samples, schedule)


def _two_layers() -> GraphRestrictedBoltzmannMachine:
    """The machine with its second colour declared hidden, which is what this sampler takes for its other layer."""
    edges = torch.stack([_machine.edge_idx_i, _machine.edge_idx_j], dim=1).tolist()
    machine = GraphRestrictedBoltzmannMachine(_machine.nodes, edges, [v for v in _machine.nodes if _colours[v] == 1])
    machine._linear.data, machine._quadratic.data = _machine.linear.data, _machine.quadratic.data
    return machine


# Training -------------------------------------------------------------------------------------------------------------


class Decoder(nn.Module):
    """Spins (batch, replicas, latents) to logits (batch, replicas, pixels)."""

    def __init__(self, widths: list[int], mean_image: Tensor) -> None:
        super().__init__()
        self.layers = nn.Sequential(_layers(widths[:-1]), nn.Linear(widths[-2], widths[-1], bias=False))
        self.bias = nn.Parameter(torch.logit(mean_image.clamp(0.005, 0.995)))

    def forward(self, spins: Tensor) -> Tensor:
        logits = self.layers(spins.flatten(0, 1)).float() + self.bias
        return logits.unflatten(0, spins.shape[:2])


def _layers(widths: list[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(widths):
        parts += [nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.SiLU()]
    return nn.Sequential(*parts)


class Training:
    """Steps of the DVAE as its documentation has them: reconstruction + pseudo-KL, one Adam for networks and machine."""

    def __init__(
        self,
        problem: str,
        images: str,
        batch: int,
        hidden: list[int],
        chains: int,
        sweeps: int,
        sampler: str,
        bfloat16: bool,
    ) -> None:
        load(problem)
        self.images = (torch.from_numpy(np.load(images)).flatten(1) > 127).float()
        mean_image, pixels, latents = self.images.mean(0), self.images.shape[1], _machine.n_nodes
        encoder = nn.Sequential(_layers([pixels, *hidden]), nn.Linear(hidden[-1], latents))
        self.dvae = DiscreteVariationalAutoencoder(encoder, Decoder([latents, *hidden[::-1], pixels], mean_image)).train()
        self.sampler = _annealing(chains, sweeps) if sampler == "annealing" else _make_sampler(chains, [1.0] * sweeps, False)
        self.optimizer = torch.optim.Adam([*self.dvae.parameters(), *_machine.parameters()], lr=1e-3, fused=True)
        self.batch, self.bfloat16 = batch, bfloat16

    def step(self, rows: Tensor) -> None:
        x = self.images[rows]
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
            logits, spins, decoded = self.dvae(x)
        logits, spins = logits.float(), spins.float()
        samples = self.sampler.sample()
        bce = nn.functional.binary_cross_entropy_with_logits
        loss = bce(decoded.squeeze(1), x, reduction="sum") / len(x)
        loss = loss + pseudo_kl_divergence_loss(spins.squeeze(1), logits, samples, _machine).sum()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()


def _annealing(chains: int, sweeps: int) -> DimodSampler:
    """Simulated annealing held at beta = 1, as the plugin's example of a DVAE has it without an annealer."""
    settings = {"num_reads": chains, "beta_schedule_type": "custom", "beta_schedule": [1.0] * sweeps}
    return DimodSampler(_machine, SimulatedAnnealingSampler(), prefactor=1.0, sample_kwargs=settings)


_training: Training


def start_training(**settings: Any) -> None:
    global _training
    torch.manual_seed(0)
    _training = Training(**settings)


def train(steps: int) -> dict[str, float]:
    with Timer() as timer:
        for _ in range(steps):
            _training.step(torch.randint(len(_training.images), (_training.batch,)))
    return timer.seconds()


if __name__ == "__main__":
    jobs: dict[str, Job] = {"load": load, "gibbs": gibbs, "start_training": start_training, "train": train}
    serve(jobs, ["dwave-pytorch-plugin", "torch"])
