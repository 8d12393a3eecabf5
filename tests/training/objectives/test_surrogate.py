"""The surrogate's gradient against the exact gradient of the objective it claims, by quadrature over zeta."""

import itertools

import numpy as np
import pytest
import torch
from support import model_of
from torch.nn import functional as F

from qvae.config.schema import ModelConfig
from qvae.ising.exact import exact_distribution
from qvae.models.prior import negative_phase
from qvae.models.qvae import QVAE
from qvae.models.relaxation import OverlappingExponentials, SpikeAndExponential
from qvae.sampling.sampler import Moments
from qvae.training.objectives.surrogate import expected_energy, surrogate

BITS, PIXELS, ROWS, BATCHES = 4, 3, 4000, 40
GRAPHS = {
    "rbm": {"graph": "rbm", "sizes": [2, 2]},
    "complete": {"graph": "complete", "sizes": [4]},
    "factorized": {"graph": "edges", "sizes": [4]},
}


def small_model(relaxation, levels, graph="complete"):
    torch.manual_seed(3)
    config = ModelConfig(
        latent=GRAPHS[graph],
        relaxation={"kind": relaxation, "beta": 5.0},
        posterior={"levels": levels},
        network={"hidden": []},
    )
    model = model_of(config, torch.full((1, PIXELS), 0.4))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.normal_(0, 0.5 if name.startswith("prior") else 0.9)
    return model


def nodes(relaxation, count=8):
    """Quadrature of the smoothing distributions: bit z, point zeta, weight w with sum_w f(zeta) = E[f | z]."""
    x, w = np.polynomial.legendre.leggauss(count)
    x, w, b = (x + 1) / 2, w / 2, relaxation.beta
    at_one = [(1.0, p, q * b * np.exp(-b * (1 - p)) / -np.expm1(-b)) for p, q in zip(x, w, strict=True)]
    if isinstance(relaxation, SpikeAndExponential):
        return [(0.0, 0.0, 1.0), *at_one]
    assert isinstance(relaxation, OverlappingExponentials)
    return [(0.0, 1 - p, q) for _, p, q in at_one] + at_one


def all_states():
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=BITS)), dtype=torch.float32)


def log_partition(model):
    return torch.logsumexp(-model.prior.hamiltonian().energy(2 * all_states() - 1), 0)


DISCRETE = [(0.0, 0.0, 1.0), (1.0, 1.0, 1.0)]


def exact_bound(model, x, points):
    """E_q(z, zeta | x)[log p(x|zeta) + log p(z) - log q(z|x)] summed over bits and integrated over zeta."""
    grid = torch.tensor(list(itertools.product(points, repeat=BITS)), dtype=torch.float32)
    z, zeta, weight = grid.unbind(-1)
    features = model.encoder(x).expand(len(grid), -1)
    logits, start = [], 0
    for level, size in zip(model.posterior.levels, model.posterior.level_sizes, strict=True):
        logits.append(level(torch.cat([features, zeta[:, :start]], 1)))
        start += size
    log_q = -F.binary_cross_entropy_with_logits(torch.cat(logits, 1), z, reduction="none").sum(1)
    decoded = model.decoder.layers(zeta) + model.decoder.bias
    log_p = -F.binary_cross_entropy_with_logits(decoded, x.expand(len(grid), -1), reduction="none").sum(1)
    energy = model.prior.hamiltonian().energy(2 * z - 1)
    return (weight.prod(1) * log_q.exp() * (log_p - energy - log_partition(model) - log_q)).sum()


def exact_moments(model):
    h, J = model.prior.h, model.prior.J
    return Moments(*(-g for g in torch.autograd.grad(log_partition(model), (h, J), allow_unused=True, materialize_grads=True)))


def surrogate_gradients(model, x, batches=BATCHES):
    """One gradient per batch, (batches, parameters); noise between them gives the error bar."""
    generator = torch.Generator().manual_seed(0)
    moments, found = exact_moments(model), []
    for _ in range(batches):
        hamiltonian = model.prior.hamiltonian()
        terms = surrogate(model, x.expand(ROWS, -1), generator)
        loss = terms.loss() + negative_phase(hamiltonian, moments)
        found.append(flat_gradient(loss, model))
    return torch.stack(found)


def flat_gradient(value, model):
    grads = torch.autograd.grad(value, list(model.parameters()), allow_unused=True, materialize_grads=True)
    return torch.cat([g.reshape(-1) for g in grads])


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("relaxation", ["overlapping", "spike-exponential"])
@pytest.mark.parametrize("graph", ["complete", "rbm", "factorized"])
def test_unbiased_relaxations_have_the_exact_gradient_in_expectation(relaxation, levels, graph):
    model = small_model(relaxation, levels, graph)
    assert model.relaxation.is_unbiased
    x = torch.tensor([[1.0, 0.0, 1.0]], dtype=torch.float32)
    exact = -flat_gradient(exact_bound(model, x, nodes(model.relaxation)), model)
    found = surrogate_gradients(model, x)
    error = found.std(0) / BATCHES**0.5
    z_scores = (found.mean(0) - exact).abs() / (error + 1e-4 * exact.abs().max())
    assert z_scores.max() < 5, f"largest deviation {z_scores.max():.1f} standard errors"
    assert (error / exact.abs().max()).max() < 0.05  # the test would see a bias of a few percent


def relative_bias(temperature, levels):
    """|E[surrogate gradient] - exact gradient of the discrete bound| over the latter's norm, with its error bar."""
    model = small_model("gumbel", levels)
    model.relaxation.temperature = temperature
    x = torch.tensor([[1.0, 0.0, 1.0]])
    exact = -flat_gradient(exact_bound(model, x, DISCRETE), model)
    found = surrogate_gradients(model, x)
    error = (found.var(0) / BATCHES).sum().sqrt() / exact.norm()
    return ((found.mean(0) - exact).norm() / exact.norm()).item(), error.item()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_gumbel_bias_is_measured_and_shrinks_with_the_temperature(levels):
    """``pytest tests/training/test_objective.py -k measured -s`` prints the figures of benchmarks/README.md."""
    found = {temperature: relative_bias(temperature, levels) for temperature in (1.0, 0.5, 0.25, 0.1)}
    for temperature, (bias, error) in found.items():
        print(f"gumbel, {levels} levels, temperature {temperature}: bias {bias:.1%} of the gradient's norm (noise {error:.1%})")
    assert found[0.1][0] < 0.05 + 3 * found[0.1][1]
    assert found[1.0][0] > found[0.1][0] + 3 * found[0.1][1]


# Transverse field -----------------------------------------------------------------------------------------------------


def quantum_model(train_gamma):
    torch.manual_seed(4)
    latent = {"graph": "complete", "sizes": [4], "gamma": [0.4, 0.9, 1.5, 2.0], "train_gamma": train_gamma}
    model = model_of(ModelConfig(latent=latent, network={"hidden": []}), torch.full((1, PIXELS), 0.4)).double()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if not name.endswith("log_gamma"):
                p.normal_(0, 0.8)
    return model


def finite_differences(value, parameter, step=1e-5):
    found = torch.zeros_like(parameter)
    for k in range(parameter.numel()):
        with torch.no_grad():
            parameter.view(-1)[k] += step
            above = value()
            parameter.view(-1)[k] -= 2 * step
            below = value()
            parameter.view(-1)[k] += step
        found.view(-1)[k] = (above - below) / (2 * step)
    return found


def test_the_q_elbo_s_gradient_is_that_of_energy_and_log_z():
    model = quantum_model(train_gamma=False)
    images = (torch.rand(20, PIXELS) < 0.5).double()

    def prior_part():
        code = model.posterior_sample(images, relaxed=False, generator=torch.Generator().manual_seed(0))
        hamiltonian = model.prior.hamiltonian().detach()
        return float(expected_energy(model, hamiltonian, code).mean()) + exact_distribution(hamiltonian).log_z

    hamiltonian = model.prior.hamiltonian()
    code = model.posterior_sample(images, relaxed=False, generator=torch.Generator().manual_seed(0))
    spins, pairs = exact_distribution(hamiltonian).moments()
    loss = expected_energy(model, hamiltonian, code).mean() + negative_phase(hamiltonian, Moments(spins, pairs))
    for parameter, gradient in zip(
        (model.prior.h, model.prior.J), torch.autograd.grad(loss, (model.prior.h, model.prior.J)), strict=True
    ):
        assert torch.allclose(gradient, finite_differences(prior_part, parameter), atol=1e-6)


def test_exact_training_has_the_gradient_of_log_p_transverse_field_included():
    model = quantum_model(train_gamma=True)
    images = (torch.rand(20, PIXELS) < 0.5).double()

    def prior_part():
        """-E_q[log p(z)] as a plain sum over states, p from a diagonalization."""
        means = model.code_means(images)
        bits = torch.tensor(list(itertools.product([0.0, 1.0], repeat=BITS)), dtype=torch.float64).flip(1)  # little-endian
        q = (bits * means[:, None] + (1 - bits) * (1 - means[:, None])).prod(2)
        log_p = exact_distribution(model.prior.hamiltonian()).probabilities.log()
        return float(-(q @ log_p).mean())

    energy = surrogate(model, images, torch.Generator().manual_seed(0), exact=True).energy.mean()
    assert energy.item() == pytest.approx(prior_part(), abs=1e-6)  # q in float32
    parameters = [model.prior.h, model.prior.J, model.prior.log_gamma]
    gradients = torch.autograd.grad(energy, parameters, retain_graph=True)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        assert torch.allclose(gradient, finite_differences(prior_part, parameter), atol=1e-6)
        assert gradient.abs().max() > 1e-3
    assert torch.autograd.grad(energy, model.posterior.levels[0].weight)[0].abs().max() > 1e-3


def test_a_subclass_s_own_log_likelihood_is_what_is_trained():
    class Masked(QVAE):
        """Sees the first pixel alone."""

        def log_likelihood(self, x, latents):
            return -F.binary_cross_entropy_with_logits(self.decoder(latents)[:, 0], x[:, 0], reduction="none")

    model = small_model("gumbel", 1)
    model.__class__ = Masked
    x = (torch.rand(20, PIXELS) < 0.4).float()
    loss = surrogate(model, x, torch.Generator().manual_seed(0)).loss()
    code = model.posterior_sample(x, relaxed=True, generator=torch.Generator().manual_seed(0))
    own = model.log_likelihood(x, code.latents)
    energy = expected_energy(model, model.prior.hamiltonian(), code)
    torch.testing.assert_close(loss, (energy - code.entropy() - own).mean())
    loss.backward()
    blind = [p.grad for name, p in model.named_parameters() if name.startswith("decoder") and name.endswith("bias")][-1]
    assert blind.flatten()[0] != 0
    assert (blind.flatten()[1:] == 0).all()
