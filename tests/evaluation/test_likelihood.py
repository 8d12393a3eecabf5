"""ELBO and importance-weighted likelihood against enumeration of the latent space."""

import itertools

import pytest
import torch

from qvae.config import ModelConfig
from qvae.errors import CapabilityError
from qvae.evaluation.likelihood import evaluate_likelihood, prior_log_partition
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.qvae import QVAE

BITS = 6


def small_model(levels, gamma=0.0):
    torch.manual_seed(5)
    latent = {"graph": "rbm", "sizes": [3, 3], "gamma": gamma}
    model = QVAE(ModelConfig(latent=latent, posterior={"levels": levels}, network={"hidden": [5]}), torch.full((2, 3), 0.4))
    with torch.no_grad():
        for p in model.parameters():
            p.normal_(0, 0.7)
    return model.eval()


def exact(model, images, log_prior):
    """Exact ELBO and log p(x) of each image, by summing over all latents."""
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=BITS)))
    elbo, log_likelihood = [], []
    for x in images:
        features, logits, start = model.encoder(x[None]).expand(len(states), -1), [], 0
        for level, size in zip(model.posterior.levels, model.posterior.level_sizes, strict=True):
            logits.append(level(torch.cat([features, states[:, :start]], 1)))
            start += size
        flat = torch.cat(logits, 1)
        log_q = (states * flat - torch.nn.functional.softplus(flat)).sum(1)
        joint = model.log_likelihood(x.expand(len(states), -1), states) + log_prior(states)
        elbo.append((log_q.exp() * (joint - log_q)).sum())
        log_likelihood.append(torch.logsumexp(joint, 0))
    return torch.stack(elbo), torch.stack(log_likelihood)


def log_prior_by_hand(model, gamma):
    """log <s|exp(-H)|s>/Z from a Hamiltonian built with Kronecker products."""
    hamiltonian = model.prior.hamiltonian().detach()
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=BITS)))
    H = torch.diag(hamiltonian.energy(2 * states - 1)).double()
    flip = torch.tensor([[0.0, 1.0], [1.0, 0.0]], dtype=torch.float64)
    for i in range(BITS):
        left, right = torch.eye(2**i, dtype=torch.float64), torch.eye(2 ** (BITS - 1 - i), dtype=torch.float64)
        H -= gamma * torch.kron(torch.kron(left, flip), right)
    rho = torch.linalg.matrix_exp(-H)
    return torch.log(torch.diag(rho) / torch.trace(rho)).float()


@pytest.mark.parametrize("levels", [1, 2])
@pytest.mark.parametrize("gamma", [0.0, 0.8])
@torch.no_grad()
def test_likelihood_agrees_with_enumeration(levels, gamma):
    model = small_model(levels, gamma)
    images = torch.randint(0, 2, (40, 6), generator=torch.Generator().manual_seed(0)).float()
    table = log_prior_by_hand(model, gamma)
    elbo, log_likelihood = exact(model, images, lambda states: table)
    log_z = prior_log_partition(model.prior.hamiltonian().detach(), 10, 10, 0)
    samples = 20_000
    found = evaluate_likelihood(model, images, log_z, samples)
    # Log weights spread by a few nats: the mean over 40 images x 20,000 draws is good to a few thousandths.
    assert found.elbo == pytest.approx(elbo.mean().item(), abs=0.02)
    assert found.log_likelihood == pytest.approx(log_likelihood.mean().item(), abs=0.02)
    assert found.elbo < found.log_likelihood
    assert found.elbo_stderr == pytest.approx((elbo.std() / 40**0.5).item(), rel=0.1)
    assert (found.num_test, found.importance_samples) == (40, samples)


def test_results_don_t_depend_on_the_batch_and_repeat_with_the_seed():
    model = small_model(2)
    images = torch.randint(0, 2, (7, 6)).float()
    log_z = prior_log_partition(model.prior.hamiltonian().detach(), 10, 10, 0)
    assert evaluate_likelihood(model, images, log_z, 50, seed=3) == evaluate_likelihood(model, images, log_z, 50, seed=3)
    assert evaluate_likelihood(model, images, log_z, 50, seed=3) != evaluate_likelihood(model, images, log_z, 50, seed=4)


def test_a_quantum_prior_too_large_to_diagonalize_is_refused_in_words():
    hamiltonian = IsingHamiltonian(torch.zeros(13), torch.zeros(0, 2), torch.zeros(0), gamma=1.0)
    with pytest.raises(CapabilityError, match="12 spins, but this one has 13"):
        prior_log_partition(hamiltonian, 10, 10, 0)
