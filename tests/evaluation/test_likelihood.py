"""ELBO and importance-weighted likelihood against enumeration of the latent space."""

import itertools
import math

import pytest
import torch
from enumerated import BITS, small_model

from qvae.evaluation import likelihood, log_terms
from qvae.evaluation.likelihood import evaluate_likelihood, expected_seconds, prior_log_partition
from qvae.ising.estimate import LogPartition
from qvae.ising.exact import exact_distribution
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.models.qvae import QVAE


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


@torch.no_grad()
def test_the_q_elbo_is_below_the_elbo_by_the_gap():
    model = small_model(1, gamma=1.2)
    images = (torch.rand(400, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    hamiltonian = model.prior.hamiltonian().detach()
    log_z = prior_log_partition(hamiltonian, 2, 2, 0)
    found = evaluate_likelihood(model, images, log_z, 50)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=BITS)))
    q = torch.exp(-torch.nn.functional.binary_cross_entropy(
        model.code_means(images)[:, None].expand(-1, len(states), -1), states.expand(len(images), -1, -1), reduction="none"
    ).sum(2)).double()  # fmt: skip
    gaps = log_prior_by_hand(model, 1.2).double() + log_z.value + hamiltonian.energy(2 * states - 1).double()
    assert (gaps > 0).all()  # Golden and Thompson
    expected = float((q @ gaps).mean())
    assert found.golden_thompson_gap == pytest.approx(expected, abs=5 * found.golden_thompson_gap_stderr)
    assert found.q_elbo == pytest.approx(found.elbo - found.golden_thompson_gap)
    assert not found.log_likelihood_is_bound


@torch.no_grad()
def test_a_large_quantum_prior_is_evaluated_by_path_integrals(monkeypatch):
    model = small_model(1, gamma=1.2)
    images = (torch.rand(300, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    hamiltonian = model.prior.hamiltonian().detach()
    right = evaluate_likelihood(model, images, prior_log_partition(hamiltonian, 2, 2, 0), 20)
    for module in (likelihood, log_terms):
        monkeypatch.setattr(module, "MAX_QUANTUM_SPINS", 5)
    log_z = prior_log_partition(hamiltonian, 300, 400, 0)
    assert "path-integral" in log_z.method
    assert log_z.value == pytest.approx(right.log_z, abs=5 * log_z.stderr)
    found = evaluate_likelihood(model, images, log_z, 20)
    # The same draws of z: what differs is log Z, and the gap, which is that of 200 of 300 images.
    error = 5 * (log_z.stderr + found.golden_thompson_gap_stderr)
    assert found.elbo == pytest.approx(right.elbo, abs=error)
    assert found.q_elbo == pytest.approx(right.q_elbo, abs=error + 5 * right.golden_thompson_gap_stderr)
    assert found.log_likelihood_is_bound
    assert found.log_likelihood < right.log_likelihood
    monkeypatch.setattr(likelihood, "_with_gap", lambda found, *others: found)
    bound = evaluate_likelihood(model, images, log_z, 20)
    assert found.q_elbo == bound.elbo
    assert found.elbo_stderr == pytest.approx(math.hypot(bound.elbo_stderr, found.golden_thompson_gap_stderr))


@torch.no_grad()
def test_a_subclass_s_own_log_likelihood_is_what_is_evaluated():
    class Cheaper(QVAE):
        def log_likelihood(self, x, latents):
            return super().log_likelihood(x, latents) - 3.0

    model = small_model(1)
    images = (torch.rand(40, 6, generator=torch.Generator().manual_seed(3)) < 0.4).float()
    log_z = prior_log_partition(model.prior.frozen(), 2, 2, 0)
    before = evaluate_likelihood(model, images, log_z, 20)
    model.__class__ = Cheaper
    found = evaluate_likelihood(model, images, log_z, 20)
    assert found.elbo == pytest.approx(before.elbo - 3, abs=1e-5)
    assert found.log_likelihood == pytest.approx(before.log_likelihood - 3, abs=1e-5)


def test_the_time_of_a_likelihood_is_that_of_its_first_batch_times_the_batches(monkeypatch):
    model = small_model(1)
    images = torch.zeros(100, 6)
    log_z = prior_log_partition(model.prior.frozen(), 2, 2, 0)
    before = evaluate_likelihood(model, images, log_z, 4096 // 2)
    readings = iter([0.0, 5.0, 10.0, 12.0])  # the first batch warms up
    monkeypatch.setattr(likelihood.time, "perf_counter", lambda: next(readings))
    assert expected_seconds(model, images, log_z, 4096 // 2) == 2.0 * 100 / 2
    assert expected_seconds(model, images, log_z, 4096 // 50) == 0.0
    assert evaluate_likelihood(model, images, log_z, 4096 // 2) == before


def test_log_z_is_asked_for_by_the_method_of_the_prior_a_path_integral_with_a_quarter_of_the_temperatures(monkeypatch):
    asked = []
    for name in ("log_partition", "path_integral_log_partition"):
        monkeypatch.setattr(likelihood, name, lambda hamiltonian, name=name, **settings: asked.append((name, settings)))
    monkeypatch.setattr(likelihood, "MAX_QUANTUM_SPINS", 2)
    for gamma in (0.0, 0.5):
        for temperatures in (403, 7):
            prior_log_partition(IsingHamiltonian([0.1] * 3, [], [], gamma), 10, temperatures, 5)
    assert asked == [
        ("log_partition", {"chains": 10, "temperatures": 403, "seed": 5}),
        ("log_partition", {"chains": 10, "temperatures": 7, "seed": 5}),
        ("path_integral_log_partition", {"chains": 10, "temperatures": 100, "seed": 5}),
        ("path_integral_log_partition", {"chains": 10, "temperatures": 2, "seed": 5}),
    ]
    exact = prior_log_partition(IsingHamiltonian([0.3], [], [], 0.4), 10, 10, 0)
    assert exact.value == pytest.approx(math.log(2 * math.cosh(0.5)))  # levels of -0.5 and 0.5
    nothing = prior_log_partition(None, 10, 10, 0)
    assert (nothing.value, nothing.stderr, nothing.method) == (0.0, 0.0, likelihood.DENSITY)


def test_the_mean_of_one_row_has_no_error():
    assert math.isnan(likelihood._mean_and_error(torch.ones(1))[1])
    assert likelihood._mean_and_error(torch.tensor([1.0, 3.0])) == (2.0, pytest.approx(1.0))


@torch.no_grad()
def test_codes_of_the_gap_are_drawn_with_the_seed_after_that_of_the_bound(monkeypatch):
    model, seeds = small_model(1, gamma=1.2), []
    encode = model.encode
    model.encode = lambda rows, generator: seeds.append(generator.initial_seed()) or encode(rows, generator)
    monkeypatch.setattr(
        likelihood,
        "log_diagonal_element",
        lambda hamiltonian, spins, seed: seeds.append(seed) or torch.stack([-hamiltonian.energy(spins) + 0.25] * 2),
    )
    for module in (likelihood, log_terms):
        monkeypatch.setattr(module, "MAX_QUANTUM_SPINS", 5)
    found = evaluate_likelihood(model, torch.zeros(8, 6), LogPartition(0.5, 0.0, ""), 2, seed=3)
    assert seeds == [4, 3]
    assert found.golden_thompson_gap == pytest.approx(0.25, abs=1e-5)
    assert found.elbo == pytest.approx(found.q_elbo + 0.25, abs=1e-5)


def test_rare_latents_of_which_the_exact_method_knows_little_are_told(monkeypatch):
    monkeypatch.setattr("qvae.ising.exact.MAX_EXPONENTIAL_SPINS", 0)
    strong = IsingHamiltonian([200.0, 200.0], [], [], 0.01)
    found = prior_log_partition(strong, 10, 10, 0)
    assert "rarest latents may be off by" in found.details["warning"]
    assert (found.value, found.stderr) == ((exact := exact_distribution(strong)).log_z, exact.error)
    assert found.stderr > 0
    assert prior_log_partition(IsingHamiltonian([2.0, 2.0], [], [], 0.01), 10, 10, 0).details == {}


@torch.no_grad()
def test_the_gap_of_a_large_prior_is_of_rows_from_the_whole_file(monkeypatch):
    """Which may be sorted by class: here two thirds are black, and one is white."""
    model, seen = small_model(1, gamma=1.2), []
    images = (torch.arange(600) >= 400).float().unsqueeze(1).expand(-1, 6)
    encode = model.encode
    model.encode = lambda rows, generator: seen.append(rows) or encode(rows, generator)
    for module in (likelihood, log_terms):
        monkeypatch.setattr(module, "MAX_QUANTUM_SPINS", 5)
    monkeypatch.setattr(likelihood, "log_diagonal_element", lambda hamiltonian, spins, seed: torch.zeros(2, len(spins)))
    evaluate_likelihood(model, images, LogPartition(0.0, 0.0, ""), 2)
    assert len(seen[0]) == 200
    assert float(seen[0].mean()) == pytest.approx(1 / 3, abs=0.01)
