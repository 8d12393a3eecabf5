"""A model so small that sums over all its latents are quick, and those sums."""

import torch
from support import model_of

from qvae.config.schema import ModelConfig
from qvae.ising.exact import spin_states

BITS = 6


def small_model(levels=1, gamma=0.0, likelihood="bernoulli", shape=(2, 3)):
    """An RBM of 3 + 3 bits, with random weights, for rows of six numbers."""
    torch.manual_seed(5)
    latent = {"graph": "rbm", "sizes": [3, 3], "gamma": gamma}
    config = ModelConfig(latent=latent, posterior={"levels": levels}, network={"hidden": [5]}, likelihood=likelihood)
    model = model_of(config, torch.full(shape, 0.4))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.7)
    return model.eval()


def all_bits():
    """(2^n, n)."""
    return (1 + spin_states(BITS).float()) / 2


def exact_log_prior(model):
    """log p(z) of :func:`all_bits`, without a transverse field."""
    with torch.no_grad():
        return torch.log_softmax(-model.prior.frozen().energy(2 * all_bits() - 1).double(), 0)
