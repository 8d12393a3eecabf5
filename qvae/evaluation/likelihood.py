"""The true ELBO and the importance-weighted log-likelihood, with discrete latents and log Z."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from qvae.errors import CapabilityError
from qvae.ising.exact import MAX_DIAGONALIZATION_SPINS, exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.partition import LogPartition, log_partition
from qvae.models.qvae import QVAE

_ROWS = 4096  # latents decoded at once: their pixels stay in the cache of a small machine


@dataclass
class Likelihood:
    """The result of :func:`evaluate_likelihood`, in nats per image.

    Attributes:
        elbo: mean over images of E_q[log p(x, z) - log q(z|x)], a lower bound of the log-likelihood.
        elbo_stderr: of the mean over the test images.
        log_likelihood: mean over images of log (1/K) sum_k p(x, z_k) / q(z_k|x) (Burda et al. 2016), a lower bound in
            expectation that tightens with K.
        log_likelihood_stderr: of the mean over the test images.
        importance_samples: K.
        log_z: log partition function of the prior.
        log_z_stderr: its error bar; an error of log Z shifts both likelihoods by as much.
        log_z_method: how it was found.
        num_test: images used.
    """

    elbo: float
    elbo_stderr: float
    log_likelihood: float
    log_likelihood_stderr: float
    importance_samples: int
    log_z: float
    log_z_stderr: float
    log_z_method: str
    num_test: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``evaluation.json``; an error bar that one image can't have is None."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


@torch.no_grad()
def evaluate_likelihood(
    model: QVAE,
    images: Tensor,
    log_z: LogPartition,
    importance_samples: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] = lambda images: None,
) -> Likelihood:
    """ELBO and importance-weighted log-likelihood of binary ``images`` (N, D), with ``importance_samples`` fresh z each.

    Args:
        model: in evaluation mode; its latents are bits here, never relaxed.
        images: on the model's device.
        log_z: of the model's prior, from :func:`prior_log_partition`.
        importance_samples: K.
        seed: of the draws from the posterior.
        progress: called with the number of images done since the last call.

    Raises:
        CapabilityError: the prior has a transverse field and is too large to diagonalize.
    """
    generator = torch.Generator(images.device).manual_seed(seed)
    log_prior = _log_prior(model.prior.hamiltonian().detach(), log_z)
    bounds, likelihoods = [], []
    for batch in images.split(max(1, _ROWS // importance_samples)):
        log_weights = _log_weights(model, batch, importance_samples, log_prior, generator)
        bounds.append(log_weights.mean(1))
        likelihoods.append(torch.logsumexp(log_weights, 1) - math.log(importance_samples))
        progress(len(batch))
    elbo, elbo_stderr = _mean_and_error(torch.cat(bounds))
    log_likelihood, log_likelihood_stderr = _mean_and_error(torch.cat(likelihoods))
    return Likelihood(
        elbo,
        elbo_stderr,
        log_likelihood,
        log_likelihood_stderr,
        importance_samples,
        log_z.value,
        log_z.stderr,
        log_z.method,
        len(images),
    )


def _log_weights(
    model: QVAE, images: Tensor, draws: int, log_prior: Callable[[Tensor], Tensor], generator: torch.Generator
) -> Tensor:
    """log p(x|z) + log p(z) - log q(z|x) for ``draws`` z of each image, (B, draws), float64."""
    code = model.posterior(model.encoder(images), None, generator, draws)
    logits = model.decoder(code.latents).unflatten(0, (len(images), draws))
    # log p(x|z) = sum_d x_d l_d - softplus(l_d): the first term as a product, so that x needn't be repeated.
    log_likelihood = torch.bmm(logits, images.unsqueeze(2)).squeeze(2) - F.softplus(logits).sum(2)
    rest = log_prior(code.latents) - code.log_prob().double()
    return log_likelihood.double() + rest.unflatten(0, (len(images), draws))


def _log_prior(hamiltonian: IsingHamiltonian, log_z: LogPartition) -> Callable[[Tensor], Tensor]:
    """log p(z) of bits (B, n), float64: -E(s) - log Z, or from the diagonalized density matrix with a transverse field."""
    if not hamiltonian.is_quantum:
        return lambda bits: -hamiltonian.energy(2 * bits - 1).double() - log_z.value
    table = torch.log(exact_distribution(hamiltonian).probabilities).to(hamiltonian.h.device)
    place = 2 ** torch.arange(hamiltonian.num_spins, device=hamiltonian.h.device)
    return lambda bits: table[(bits.long() * place).sum(-1)]  # CUDA has no integer matrix product


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.tensor(math.nan)
    return float(values.mean()), float(error)


def prior_log_partition(hamiltonian: IsingHamiltonian, chains: int, temperatures: int, seed: int) -> LogPartition:
    """log Z of a prior by the best method there is for it.

    Raises:
        CapabilityError: it has a transverse field and is too large to diagonalize.
    """
    if not hamiltonian.is_quantum:
        return log_partition(hamiltonian, chains=chains, temperatures=temperatures, seed=seed)
    if hamiltonian.num_spins > MAX_DIAGONALIZATION_SPINS:
        raise CapabilityError(
            f"the likelihood of a prior with a transverse field needs its exact diagonalization, which ends at "
            f"{MAX_DIAGONALIZATION_SPINS} spins, but this one has {hamiltonian.num_spins}; use fewer spins or gamma 0."
        )
    exact = exact_distribution(hamiltonian)
    return LogPartition(exact.log_z, 0.0, exact.method, {})
