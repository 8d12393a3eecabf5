"""The loss of a model whose latents are a circuit's measured bits: score function or relaxation, and an exact KL part."""

from __future__ import annotations

import torch
from torch import Tensor

from qvae.ising.density import log_probabilities
from qvae.ising.exact import basis_energies
from qvae.models.autoencoder import Autoencoder
from qvae.models.measured import MeasuredCode
from qvae.models.prior import BoltzmannPrior
from qvae.training.objectives.surrogate import Surrogate, encoded


def measured_surrogate(
    model: Autoencoder,
    x: Tensor,
    generator: torch.Generator | None = None,
    bf16: bool = False,
    exact: bool = False,
    seen: Tensor | None = None,
    draws: int | None = 4,
) -> Surrogate:
    """The surrogate of prepared rows (B, D), differentiable in all of the model's parameters.

    Energy and entropy are sums over all 2**n states, exact with their gradients. log p(x|z) is that of ``draws`` measured bit
    strings a row, whose gradient in the circuit is the score function's, unbiased; or, with ``draws`` None, that of a
    Gumbel-softmax relaxation, which is biased. ``exact`` takes log p(z) itself in place of the energy.
    """
    code, log_likelihood = encoded(model, x, seen, generator, bf16, relaxed=draws is None, draws=draws or 1)
    assert isinstance(code, MeasuredCode)
    assert isinstance(model.prior, BoltzmannPrior)
    assert code.probabilities is not None  # or the executor had been refused
    if draws is not None:
        per_row = (len(x), draws)
        log_likelihood = score_function(log_likelihood.view(per_row), code.log_prob().view(per_row))
    hamiltonian = model.prior.hamiltonian()
    energies = -log_probabilities(hamiltonian) if exact else basis_energies(hamiltonian.to(dtype=torch.float64))
    return Surrogate(log_likelihood, code.probabilities @ energies.to(code.probabilities), code.entropy())


def score_function(values: Tensor, log_q: Tensor) -> Tensor:
    """Mean of values f(z_k) (B, K), (B,), whose gradient is an unbiased one of E_q[f(z)], by f and by q.

    By q it is mean_k (f_k - b_k) grad log q(z_k), where the baseline b_k is the mean of the other draws' values, on which z_k
    has no influence (Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free").

    Args:
        values: f, differentiable in its own parameters.
        log_q: log q(z_k) of the draws, (B, K), differentiable.
    """
    draws = values.shape[1]
    baseline = (values.sum(1, keepdim=True) - values) / (draws - 1)
    weight = (values - baseline).detach()
    return values.mean(1) + (weight * (log_q - log_q.detach())).mean(1)
