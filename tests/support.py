"""Small models for tests."""

import torch

from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.qvae import QVAE


def model_of(config, mean):
    """The model of a configuration, for data of this mean."""
    return QVAE.from_config(config, Statistics(mean, torch.ones_like(mean)))
