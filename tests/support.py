"""Small models for tests, and what tests of several backends ask."""

import torch

from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.models.vqvae import VQVAE
from qvae.sampling.registry import load_sampler


def model_of(config, mean):
    """The model of a configuration, for data of this mean."""
    kind = VQVAE if config.kind == "vqvae" else QVAE
    return kind.from_config(config, Statistics(mean, torch.ones_like(mean)))


def drawn_in_each_default_type(name, hamiltonian, options):
    """Spins and moments of a sampler with the seed 0, while torch's default type is float32, and while it is float64."""

    def drawn():
        sampler = load_sampler(name, seed=0, **options)
        moments = sampler.moments(hamiltonian, 20)
        return sampler.sample(hamiltonian, 20).spins, moments.spins, moments.pairs

    expected = drawn()
    torch.set_default_dtype(torch.float64)
    try:
        found = drawn()
    finally:
        torch.set_default_dtype(torch.float32)
    return expected, found
