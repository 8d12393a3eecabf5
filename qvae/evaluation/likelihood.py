"""The true ELBO and the importance-weighted log-likelihood, with log Z, and bits that are never relaxed."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qvae.evaluation.log_terms import frozen_hamiltonian, log_diagonal_table, log_prior_of, log_terms
from qvae.ising.diagonal_elements import log_diagonal_element
from qvae.ising.estimate import LogPartition
from qvae.ising.exact import MAX_QUANTUM_SPINS, exact_distribution, state_numbers
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.partition import log_partition
from qvae.ising.quantum_partition import path_integral_log_partition
from qvae.models.autoencoder import Autoencoder

_GAP_DRAWS = 200  # at half a minute for 256 spins; their spread is then a few percent of the gap
_FEW_BATCHES = 50  # of which two, for a measurement, would be a sizeable part
_UNCERTAIN = 0.1  # nats in log p(z) of some latent, from which on a user is told
DENSITY = "the prior is a normalised density"
"""How log Z is found where latents are real numbers."""
_ROWS = 4096  # latents decoded at once: their pixels stay in the cache of a small machine


@dataclass
class LikelihoodEstimate:
    """The result of :func:`evaluate_likelihood`, in nats per row (image).

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
        q_elbo: the ELBO with log <z|exp(-H)|z> replaced by its lower bound -E(z) (Golden and Thompson; Khoshaman et al. 2018);
            None without a transverse field, where the two are equal.
        golden_thompson_gap: mean over z ~ q(z|x) of log <z|exp(-H)|z> + E(z): what the Q-ELBO is below the ELBO.
        golden_thompson_gap_stderr: over the draws of z, the noise of each path-integral estimate included.
        log_likelihood_is_bound: the prior is too large for log p(z) of every z, so that the importance weights hold the bound
            -E(z) - log Z instead: the log-likelihood is then too low, by up to about the gap.
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
    q_elbo: float | None = None
    golden_thompson_gap: float | None = None
    golden_thompson_gap_stderr: float | None = None
    log_likelihood_is_bound: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``evaluation.json``; an error bar that one image can't have is None."""
        return {key: None if value != value else value for key, value in asdict(self).items()}


@torch.no_grad()
def evaluate_likelihood(
    model: Autoencoder,
    images: Tensor,
    log_z: LogPartition,
    importance_samples: int = 100,
    seed: int = 0,
    progress: Callable[[int], None] = lambda images: None,
) -> LikelihoodEstimate:
    """ELBO and importance-weighted log-likelihood of binary ``images`` (N, D), with ``importance_samples`` fresh z each.

    Args:
        model: in evaluation mode; its latents are bits here, never relaxed.
        images: on the model's device.
        log_z: of the model's prior, from :func:`prior_log_partition`; of a normal prior, 0.
        importance_samples: K.
        seed: of the draws from the posterior.
        progress: called with the number of images done since the last call.

    With a transverse field, log p(z) is exact up to ``MAX_QUANTUM_SPINS`` spins. Beyond, every z has its bound
    -E(z) - log Z, and the ELBO is the Q-ELBO plus the gap of up to 200 draws of z, each by path integrals
    (:func:`~qvae.ising.diagonal_elements.log_diagonal_element`).
    """
    generator = torch.Generator(images.device).manual_seed(seed)
    hamiltonian = frozen_hamiltonian(model)
    table = log_diagonal_table(hamiltonian)
    log_prior = log_prior_of(model, log_z, table)
    bounds, likelihoods = [], []
    for batch in images.split(max(1, _ROWS // importance_samples)):
        log_weights = log_terms(model, batch, importance_samples, log_prior, generator).weights
        bounds.append(log_weights.mean(1))
        likelihoods.append(torch.logsumexp(log_weights, 1) - math.log(importance_samples))
        progress(len(batch))
    elbo, elbo_stderr = _mean_and_error(torch.cat(bounds))
    log_likelihood, log_likelihood_stderr = _mean_and_error(torch.cat(likelihoods))
    found = LikelihoodEstimate(
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
    is_quantum = hamiltonian is not None and hamiltonian.is_quantum
    return _with_gap(found, model, images, table, seed) if is_quantum else found


@dataclass
class ReconstructionEstimate:
    """What there is of an autoencoder without a prior, in nats per row: no bound of a likelihood.

    Attributes:
        reconstruction: mean over rows of log p(x|z) at the row's own code; None where rows have no codes.
        reconstruction_stderr: of the mean over the test rows.
        num_test: rows used.
    """

    reconstruction: float | None
    reconstruction_stderr: float | None
    num_test: int

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as they stand in ``evaluation.json``."""
        return asdict(self)


@torch.no_grad()
def evaluate_reconstruction(model: Autoencoder, images: Tensor, seed: int = 0) -> ReconstructionEstimate:
    """log p(x|z) of prepared rows (N, D) at their codes; nothing of a model that makes rows without any."""
    if not model.compresses:
        return ReconstructionEstimate(None, None, len(images))
    generator = torch.Generator(images.device).manual_seed(seed)
    values = [
        model.log_likelihood(batch, model.posterior_sample(batch, relaxed=False, generator=generator).latents).double()
        for batch in images.split(_ROWS)
    ]
    mean, error = _mean_and_error(torch.cat(values))
    return ReconstructionEstimate(mean, None if math.isnan(error) else error, len(images))


@torch.no_grad()
def expected_seconds(model: Autoencoder, images: Tensor, log_z: LogPartition, importance_samples: int) -> float:
    """How long :func:`evaluate_likelihood` will take, from its first batch; 0 where it is done as quickly as measured."""
    at_once = max(1, _ROWS // importance_samples)
    if len(images) < _FEW_BATCHES * at_once:
        return 0.0
    log_prior = log_prior_of(model, log_z, log_diagonal_table(frozen_hamiltonian(model)))
    generator = torch.Generator(images.device).manual_seed(0)
    seconds = []
    for _ in range(2):  # the first one warms up
        started = time.perf_counter()
        log_terms(model, images[:at_once], importance_samples, log_prior, generator).weights.sum().item()
        seconds.append(time.perf_counter() - started)
    return min(seconds) * len(images) / at_once


def _with_gap(
    found: LikelihoodEstimate, model: Autoencoder, images: Tensor, table: Tensor | None, seed: int
) -> LikelihoodEstimate:
    """The likelihood with Q-ELBO and ELBO told apart by the gap of their priors."""
    generator = torch.Generator(images.device).manual_seed(seed + 1)
    hamiltonian = frozen_hamiltonian(model)
    assert hamiltonian is not None
    if table is None and len(images) > _GAP_DRAWS:
        images = images[torch.linspace(0, len(images) - 1, _GAP_DRAWS).long()]  # files may be sorted by class
    bits = model.encode(images, generator)
    spins = 2 * bits - 1
    energies = hamiltonian.energy(spins).double()
    if table is not None:
        gap, gap_stderr = _mean_and_error(table[state_numbers(bits)] + energies)
        extra: dict[str, Any] = {"q_elbo": found.elbo - gap}
    else:
        gap, gap_stderr = _mean_and_error(log_diagonal_element(hamiltonian, spins, seed=seed)[0] + energies)
        extra = {"elbo": found.elbo + gap, "elbo_stderr": math.hypot(found.elbo_stderr, gap_stderr), "q_elbo": found.elbo}
    extra |= {"golden_thompson_gap": gap, "golden_thompson_gap_stderr": gap_stderr, "log_likelihood_is_bound": table is None}
    return replace(found, **extra)


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    error = values.std() / math.sqrt(len(values)) if len(values) > 1 else torch.tensor(math.nan)
    return float(values.mean()), float(error)


def prior_log_partition(
    hamiltonian: IsingHamiltonian | None, chains: int, temperatures: int, seed: int
) -> LogPartition:
    """log Z of a prior by the best method there is for it; a step of path integrals counts for four temperatures."""
    if hamiltonian is None:
        return LogPartition(0.0, 0.0, DENSITY)
    if not hamiltonian.is_quantum:
        return log_partition(hamiltonian, chains=chains, temperatures=temperatures, seed=seed)
    if hamiltonian.num_spins > MAX_QUANTUM_SPINS:
        steps = max(2, temperatures // 4)
        return path_integral_log_partition(hamiltonian, chains=chains, temperatures=steps, seed=seed)
    exact = exact_distribution(hamiltonian)
    details = {}
    if exact.rare_error > _UNCERTAIN:
        details["warning"] = (
            f"log p(z) of the rarest latents may be off by {exact.rare_error:.2g} nats: fields and couplings are too strong "
            "for the exact method at this number of spins"
        )
    return LogPartition(exact.log_z, exact.error, exact.method, details)
