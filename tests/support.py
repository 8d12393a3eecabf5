"""Small models for tests."""

import torch

from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE
from qvae.models.vqvae import VQVAE


def model_of(config, mean):
    """The model of a configuration, for data of this mean."""
    kind = VQVAE if config.kind == "vqvae" else QVAE
    return kind.from_config(config, Statistics(mean, torch.ones_like(mean)))
