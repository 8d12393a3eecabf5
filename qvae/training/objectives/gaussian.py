"""The loss of a model with Gaussian latents, an unbiased estimate of the negative ELBO, and that of an autoencoder."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.models.autoencoder import Autoencoder
from qvae.models.gaussian import GaussianCode, NormalPrior
from qvae.training.objectives.surrogate import Surrogate, encoded


def gaussian_surrogate(
    model: Autoencoder,
    x: Tensor,
    generator: torch.Generator | None = None,
    bf16: bool = False,
    exact: bool = False,
    seen: Tensor | None = None,
) -> Surrogate:
    """log p(x|u) at one reparametrised u of each prepared row (B, D), and KL(q || p) = energy - entropy in closed form.

    At a KL weight of 1 the loss is the ELBO's negative in expectation over u, and its gradient is unbiased (Kingma and
    Welling 2014); batch norm sees the batch, as ever in training. ``exact`` has no meaning here.
    """
    code, log_likelihood = encoded(model, x, seen, generator, bf16)
    assert isinstance(code, GaussianCode)
    assert isinstance(model.prior, NormalPrior)
    return Surrogate(log_likelihood, model.prior.expected_energy(code), code.entropy())


def reconstruction_surrogate(
    model: Autoencoder,
    x: Tensor,
    generator: torch.Generator | None = None,
    bf16: bool = False,
    exact: bool = False,
    seen: Tensor | None = None,
) -> Surrogate:
    """log p(x|u) at the code u of each prepared row (B, D), and nothing else: the loss of an autoencoder, no bound."""
    _, log_likelihood = encoded(model, x, seen, generator, bf16)
    nothing = torch.zeros_like(log_likelihood)
    return Surrogate(log_likelihood, nothing, nothing)
