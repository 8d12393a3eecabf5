"""The parts of a training's loss, and those of a QVAE: the paper's bound with relaxed latents, and without log Z."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qvae.ising.density import expected_log_probability, log_probabilities
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.autoencoder import Autoencoder
from qvae.models.passes import spin_means
from qvae.models.posterior import BernoulliCode
from qvae.models.qvae import QVAE


@dataclass
class Surrogate:
    """Parts of the surrogate, each (B,), in nats.

    With a Boltzmann prior their sum is not an ELBO: log Z is missing, and latents may be relaxed.

    Attributes:
        log_likelihood: log p(x|z) of latents that were drawn, or are relaxed.
        energy: E_q[E(z)], so that -log p(z) = energy + log Z; of priors whose log p(z) is known, E_q[-log p(z)] itself.
        entropy: H(q(z|x)).
        guess: log q(y|x) of a class y that was given, by which the posterior learns to guess it; None where none was.
    """

    log_likelihood: Tensor
    energy: Tensor
    entropy: Tensor
    guess: Tensor | None = None

    def loss(self, kl_weight: float | Tensor = 1.0) -> Tensor:
        """mean of -log p(x|zeta) + kl_weight (E_q[E] - H(q)), less that of log q(y|x); the gradient of log Z is that of
        :func:`~qvae.models.prior.negative_phase`."""
        kl = self.energy - self.entropy
        if isinstance(kl_weight, Tensor):
            loss = (kl_weight * kl - self.log_likelihood).mean()
        else:
            loss = -torch.sub(self.log_likelihood, kl, alpha=kl_weight).mean()
        return loss if self.guess is None else loss - self.guess.mean()


def encoded(
    model: Autoencoder,
    x: Tensor,
    seen: Tensor | None,
    generator: torch.Generator | None,
    bf16: bool,
    relaxed: bool = True,
    draws: int = 1,
    words: Tensor | None = None,
) -> tuple[Any, Tensor]:
    """Codes of prepared rows x (B, D), or of what was ``seen`` of them, and log p(x|z) of their latents, (B * draws,).

    The posterior of a QVAE may be told the ``words`` (B, L) of their classes.
    """
    told = {} if words is None else {"words": words}
    with torch.autocast(x.device.type, torch.bfloat16, enabled=bf16):
        code = model.posterior_sample(x if seen is None else seen, relaxed, generator, draws, **told)
        return code, model.log_likelihood(x, code.latents)


def surrogate(
    model: QVAE,
    x: Tensor,
    generator: torch.Generator | None = None,
    bf16: bool = False,
    exact: bool = False,
    seen: Tensor | None = None,
    words: Tensor | None = None,
) -> Surrogate:
    """The surrogate of prepared rows (B, D), differentiable in all of the model's parameters.

    Of rows whose class is given, by the ``words`` (B, L) of label units, it is that of log p(x, y), and log q(y|x) is learnt
    beside it (Kingma et al. 2014, arXiv:1406.5298, eq. 9).

    With a transverse field it is that of the Q-ELBO: log <z|exp(-H)|z> >= -E(z) (Khoshaman et al. 2018), which gamma is no
    part of. With ``exact`` the prior's part is E_q[log p(z)] itself, differentiable in gamma, too.
    """
    code, log_likelihood = encoded(model, x, seen, generator, bf16, words=words)
    hamiltonian = model.prior.hamiltonian()
    if exact:
        energy = -expected_log_probability(log_probabilities(hamiltonian), code.logits)
    else:
        energy = expected_energy(model, hamiltonian, code)
    return Surrogate(log_likelihood, energy, code.entropy(), None if words is None else code.guess)


def expected_energy(model: QVAE, hamiltonian: IsingHamiltonian, code: BernoulliCode) -> Tensor:
    """E_q[E(z)], (B,), with the bits integrated out wherever they can be.

    A factorial posterior makes it exact, since the energy is multilinear: E(m), m = tanh(logit/2). Between two levels
    the earlier spin is 2 nu - 1, nu = E[z|zeta], because the later level's mean depends on that zeta (Vahdat et al. 2018).
    """
    means = spin_means(code.logits)
    sizes = model.posterior.level_sizes
    if len(sizes) == 1:
        return hamiltonian.energy(means)
    level = torch.tensor([level for level, size in enumerate(sizes) for _ in range(size)], device=means.device)
    early, late = hamiltonian.edges.T  # edges of a prior's graph are in ascending order, and so are levels
    across = (level[early] < level[late]).to(means.dtype)
    earlier = 2 * model.relaxation.bit_mean(code.logits, code.latents) - 1
    within = hamiltonian.replace(J=hamiltonian.J * (1 - across)).energy(means)
    return within + hamiltonian.replace(J=hamiltonian.J * across).interaction(earlier, means)
