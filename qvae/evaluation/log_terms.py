"""The terms of log p(x, z) / q(z|x) for draws z ~ q(z|x), of which bounds, likelihoods and scores are made."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from qvae.ising.estimate import LogPartition
from qvae.ising.exact import MAX_QUANTUM_SPINS, exact_distribution, state_numbers
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.autoencoder import Autoencoder
from qvae.models.gaussian import NormalPrior
from qvae.models.prior import BoltzmannPrior

LogPrior = Callable[[Tensor], Tensor]
"""log p(z) of latents (B, n), float64, (B,)."""


@dataclass(frozen=True)
class LogTerms:
    """Of K draws z ~ q(z|x) for each of B rows, in nats, float64, (B, K) each.

    Attributes:
        likelihood: log p(x|z).
        prior: log p(z).
        posterior: log q(z|x).
    """

    likelihood: Tensor
    prior: Tensor
    posterior: Tensor

    @property
    def weights(self) -> Tensor:
        """log p(x, z) - log q(z|x), whose mean is the ELBO."""
        return self.likelihood + (self.prior - self.posterior)


def log_terms(model: Autoencoder, rows: Tensor, draws: int, log_prior: LogPrior, generator: torch.Generator) -> LogTerms:
    """Those of prepared rows (B, D), with ``draws`` fresh z each; bits are never relaxed."""
    code = model.posterior_sample(rows, relaxed=False, generator=generator, draws=draws)
    terms = model.log_likelihood(rows, code.latents).double(), log_prior(code.latents), code.log_prob().double()
    return LogTerms(*(term.unflatten(0, (len(rows), draws)) for term in terms))


def log_prior_of(model: Autoencoder, log_z: LogPartition, table: Tensor | None) -> LogPrior:
    """log p(z): of bits from the ``table`` of all states, or -E(s) - log Z, a bound in a transverse field."""
    if isinstance(model.prior, NormalPrior):
        log_density = model.prior.log_prob
        return lambda latents: log_density(latents.double())
    hamiltonian = frozen_hamiltonian(model)
    assert hamiltonian is not None
    if table is None:
        return lambda bits: -hamiltonian.energy(2 * bits - 1).double() - log_z.value
    return lambda bits: table[state_numbers(bits)] - log_z.value


def frozen_hamiltonian(model: Autoencoder) -> IsingHamiltonian | None:
    """Of a Boltzmann prior; None of another."""
    return model.prior.frozen() if isinstance(model.prior, BoltzmannPrior) else None


def log_diagonal_table(hamiltonian: IsingHamiltonian | None) -> Tensor | None:
    """log <s|exp(-H)|s> of every state of a small system with a transverse field; else None."""
    if hamiltonian is None or not hamiltonian.is_quantum or hamiltonian.num_spins > MAX_QUANTUM_SPINS:
        return None
    exact = exact_distribution(hamiltonian)
    return (exact.log_probabilities + exact.log_z).to(hamiltonian.h.device)
