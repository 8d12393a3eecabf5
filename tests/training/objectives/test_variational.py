"""Losses of models with circuits: the mean of many is the exact bound's, by value and by gradient."""

import copy
import itertools
import math

import pytest
import torch
from support import model_of

from qvae.config.schema import ModelConfig, TrainingConfig
from qvae.ising.exact import exact_distribution
from qvae.models.measured import basis_bits
from qvae.models.prior import negative_phase
from qvae.sampling.registry import load_sampler
from qvae.training.objective import Clock
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.objectives.gaussian import gaussian_surrogate, reconstruction_surrogate
from qvae.training.objectives.measured import measured_surrogate, score_function
from qvae.training.objectives.variational import VariationalObjective

PIXELS, BATCHES, ROWS, SIGMAS = 3, 30, 400, 5
IMAGE = torch.tensor([[1.0, 0.0, 1.0]])


def small(variant, qubits=1, **others):
    torch.manual_seed(2)
    circuit = {"qubits": 3 if variant == "discrete" else qubits, "layers": 1}
    config = ModelConfig(kind="vqvae", variant=variant, circuit=circuit, network={"hidden": [], "batch_norm": False}, **others)
    model = model_of(config, torch.full((PIXELS,), 0.4))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(0, 0.7)
    return model


def gradients(loss, model):
    parts = torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad], allow_unused=True)
    return torch.cat([part.flatten() for part in parts if part is not None])


def mean_gradient(model, loss):
    """Of the mean loss over many batches of one row, and its standard error."""
    found = torch.stack([gradients(loss(torch.Generator().manual_seed(seed)), model) for seed in range(BATCHES)])
    return found.mean(0), found.std(0) / math.sqrt(BATCHES)


def test_gaussian_loss_is_an_unbiased_estimate_of_the_negative_elbo():
    model = small("variational")
    x = IMAGE.expand(ROWS, -1)

    def loss(generator):
        return gaussian_surrogate(model, x, generator).loss()

    # By quadrature over the noise, through which everything is differentiable.
    noise = torch.linspace(-7, 7, 201).unsqueeze(1)
    weight = (-0.5 * noise**2).exp() / math.sqrt(2 * math.pi) * float(noise[1] - noise[0])
    mean, log_variance = model.posterior.moments(model.encoder(IMAGE)).chunk(2, -1)
    log_p = model.likelihood.log_prob(model.decoder(mean + (log_variance / 2).exp() * noise), IMAGE)
    divergence = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum()
    exact = divergence - (weight[:, 0] * log_p).sum()
    values = torch.stack([loss(torch.Generator().manual_seed(seed)).detach() for seed in range(BATCHES)])
    assert abs(values.mean() - exact.detach()) < SIGMAS * values.std() / math.sqrt(BATCHES)
    found, error = mean_gradient(model, loss)
    assert bool(((found - gradients(exact, model)).abs() < SIGMAS * error + 1e-4).all())


def exact_bound(model):
    """-E_q[log p(x|z) + log p(z) - log q(z|x)], summed over all bits."""
    code = model.posterior_sample(IMAGE, relaxed=False)
    q, log_q = code.probabilities[0], code.log_probabilities()[0]
    bits = basis_bits(3).float()
    log_p = model.likelihood.log_prob(model.decoder(bits), IMAGE)
    energies = model.prior.hamiltonian().energy(2 * bits - 1)
    return (q * (log_q - log_p + energies)).sum() + torch.logsumexp(-energies, 0)


@pytest.mark.parametrize("prior", ["uniform", "factorized", "boltzmann"])
@pytest.mark.parametrize("draws", [2, 5])
def test_score_function_has_the_gradient_of_enumeration(prior, draws):
    model = small("discrete", discrete={"prior": prior})
    x = IMAGE.expand(ROWS, -1)
    moments = load_sampler("exact").moments(model.prior.frozen(), 1)

    def loss(generator):
        surrogate = measured_surrogate(model, x, generator, draws=draws).loss()
        return surrogate + negative_phase(model.prior.hamiltonian(), moments)

    found, error = mean_gradient(model, loss)
    exact = gradients(exact_bound(model), model)
    assert bool(((found - exact).abs() < SIGMAS * error + 1e-4).all())
    assert float(exact.abs().max()) > 0.1


def test_a_draw_is_no_part_of_its_own_baseline():
    values, log_q = torch.tensor([[1.0, 2.0, 6.0]]), torch.zeros(1, 3, requires_grad=True)
    score_function(values, log_q).sum().backward()
    assert log_q.grad.tolist() == [[(1 - 4) / 3, (2 - 3.5) / 3, (6 - 1.5) / 3]]


def test_energy_and_entropy_of_measured_bits_are_those_of_enumeration():
    model = small("discrete", discrete={"prior": "boltzmann"})
    with torch.no_grad():
        for relaxed in (None, 2):
            terms = measured_surrogate(model, IMAGE, torch.Generator().manual_seed(0), draws=relaxed)
            divergence = terms.energy - terms.entropy + exact_distribution(model.prior.frozen()).log_z
            q = model.posterior_sample(IMAGE, relaxed=False).probabilities[0].double()
            p = exact_distribution(model.prior.frozen()).probabilities
            assert float(divergence) == pytest.approx(float((q * (q.log() - p.log())).sum()), abs=1e-5)


def test_the_relaxed_gradient_comes_near_as_it_gets_colder():
    """It is biased: at a temperature of 0.1 by less than at 2."""
    model = small("discrete", discrete={"gradient": "relaxed"})
    x = IMAGE.expand(4 * ROWS, -1)
    model.prior.requires_grad_(False)
    exact = gradients(exact_bound(model), model)
    distance = []
    for temperature in (0.1, 2.0):
        model.posterior.temperature = temperature
        found, _ = mean_gradient(model, lambda generator: measured_surrogate(model, x, generator, draws=None).loss())
        distance.append(float((found - exact).norm()))
    assert distance[0] < 0.5 * distance[1]


def test_an_autoencoder_minimises_reconstructions_alone():
    model = small("deterministic")
    terms = reconstruction_surrogate(model, IMAGE)
    assert terms.loss(0.3) == -terms.log_likelihood.mean()


def objective(variant="variational", qubits=1, **training):
    config = TrainingConfig(warmup_steps=1, weight_decay=0.1, **training)

    def prepare(rows, generator):
        return torch.bernoulli(rows, generator=generator)

    model = small(variant, qubits, **({"discrete": {"prior": "uniform"}} if variant == "discrete" else {}))
    if variant == "discrete":
        return BoltzmannObjective(model, prepare, config, load_sampler("exact"), positive=measured_surrogate)
    return VariationalObjective(model, prepare, config, gaussian_surrogate)


def test_circuit_and_networks_have_learning_rates_of_their_own_and_networks_alone_decay():
    one = objective(learning_rate=1e-3, circuit_learning_rate=5e-2)
    one.step(torch.full((8, PIXELS), 0.5), Clock(0, 0, 0.0))
    rates = [(len(group["params"]), group["lr"], group["weight_decay"]) for group in one.optimizer.param_groups]
    assert rates == [(4, pytest.approx(0.5e-3), 0.1), (1, pytest.approx(2.5e-2), 0.0)]


@pytest.mark.parametrize("name", ["qng", "spsa", "qn-spsa"])
@pytest.mark.parametrize("variant", ["variational", "discrete"])
def test_the_circuit_s_optimizer_moves_the_circuit_and_adamw_the_rest_as_ever(name, variant):
    rows = torch.full((8, PIXELS), 0.5)
    one, two = objective(variant, 2, optimizer={"name": name}), objective(variant, 2)
    start = copy.deepcopy(one.model.state_dict())
    for each in (one, two):
        each.step(rows, Clock(200, 0, 0.5))
    assert one.circuit_optimizer.param_groups[0]["lr"] == pytest.approx(one.config.circuit_learning_rate / 2)
    for key, value in two.model.state_dict().items():
        is_circuit = key.endswith("layer.weight")
        assert torch.equal(value, one.model.state_dict()[key]) != is_circuit, key
        if is_circuit:
            assert not torch.equal(start[key], one.model.state_dict()[key])
    assert torch.equal(one.generator.get_state(), two.generator.get_state())


def test_the_metric_of_a_step_is_at_the_inputs_of_that_step_alone():
    one, two = (objective(qubits=2, optimizer={"name": "qng"}) for _ in range(2))
    two.positive(two.model, torch.ones(8, PIXELS), torch.Generator().manual_seed(5))  # as of a step that failed
    for each in (one, two):
        each.step(torch.full((8, PIXELS), 0.5), Clock(200, 0, 0.5))
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name]), name


def test_the_loss_is_had_again_at_the_same_draws():
    one = objective(optimizer={"name": "spsa"})
    x, losses = torch.full((8, PIXELS), 1.0), []
    state = one.generator.get_state()
    expected = one._terms(x, one.generator).loss(0.5)
    after = one.generator.get_state()
    losses = [one._loss_again(x, 0.5, state) for _ in range(2)]
    assert losses == [expected, expected]
    assert torch.equal(one.generator.get_state(), after)


def test_asking_for_the_loss_again_leaves_batch_norms_as_they_were():
    config = ModelConfig(kind="vqvae", circuit={"qubits": 2, "layers": 1}, network={"hidden": [4]})
    model = model_of(config, torch.full((PIXELS,), 0.4))
    one = VariationalObjective(model, None, TrainingConfig(optimizer={"name": "spsa"}), gaussian_surrogate)
    before = {name: value.clone() for name, value in model.named_buffers()}
    one._loss_again(torch.rand(8, PIXELS), 1.0, one.generator.get_state())
    assert any("running_mean" in name for name in before)
    assert all(torch.equal(value, before[name]) for name, value in model.named_buffers())


@pytest.mark.parametrize("variant", ["variational", "discrete"])
def test_a_state_goes_on_with_the_same_bits(variant):
    rows = torch.full((8, PIXELS), 0.5)
    one, two = objective(variant), objective(variant)
    one.step(rows, Clock(0, 0, 0.0))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for each in (one, two):
        for step in range(3):
            each.step(rows, Clock(step, 0, 0.5))
    for name, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[name]), name


def test_a_uniform_prior_asks_no_sampler():
    one = objective("discrete")
    one.sampler.moments = None
    before = one.prior.h.clone()
    one.step(torch.full((8, PIXELS), 0.5), Clock(0, 0, 0.0))
    assert torch.equal(one.prior.h, before)
    assert list(itertools.chain(one.prior.J)) == []


def test_figures_of_an_epoch_are_sums_of_those_of_its_steps():
    settings = {"learning_rate": 1e-3, "kl_start": 0.5, "kl_warmup": 0.5}
    means, found = {"log_likelihood": -3.0, "energy": 2.0, "entropy": 0.5}, {"ms_forward": 1.25, "held_out": 4.0}
    clock = Clock(200, 3, 0.25)
    expected = {"reconstruction": 3.0, "learning_rate": 1e-3, "kl_weight": 0.75, **found}
    one = objective(schedule="constant", **settings)
    one._set_learning_rates(clock)
    assert one.epoch_figures(means, found | {"log_z": 0.0}, clock) == expected | {"kl": 1.5, "minus_elbo": 4.5}
    one = objective("discrete", schedule="constant", **settings)
    one._set_learning_rates(clock)
    of_parts = expected | {"energy": 2.0, "entropy": 0.5}
    assert one.epoch_figures(means, found, clock) == of_parts
    whole = one.epoch_figures(means, found | {"log_z": 0.75}, clock)
    assert whole == of_parts | {"log_z": 0.75, "kl": 2.25, "surrogate": 5.25}


@pytest.mark.parametrize("name", ["qng", "spsa", "qn-spsa", "rotosolve"])
def test_a_circuit_s_optimizer_goes_on_with_the_same_bits(name):
    rows = torch.full((8, PIXELS), 0.5)
    one, two = (objective(qubits=2, optimizer={"name": name}) for _ in range(2))
    for step in range(2):
        one.step(rows, Clock(step, 0, 0.2))
    two.load_state_dict(copy.deepcopy(one.state_dict()))
    for each in (one, two):
        for step in range(2, 5):
            each.step(rows, Clock(step, 0, 0.5))
    for key, value in one.model.state_dict().items():
        assert torch.equal(value, two.model.state_dict()[key]), key
    assert one.circuit_executions == one.circuit_optimizer.executions(one.config.batch_size)


def test_what_moves_by_losses_asks_for_no_gradient_and_rotosolve_is_warned_of():
    heard = []
    for name, learns in (("adamw", True), ("qng", True), ("spsa", False), ("rotosolve", False)):
        one = objective(qubits=2, optimizer={"name": name})
        assert one.model.circuit.weight.requires_grad is learns
        one.listen(lambda kind, text: heard.append(kind))
    assert heard == ["rotosolve"]
    assert objective().circuit_executions == 0


@pytest.mark.parametrize("name", ["adamw", "spsa", "rotosolve"])
def test_layers_of_a_circuit_begin_when_their_part_of_the_training_does(name):
    """Of four layers over half of the training one begins at each eighth; until then they are 0, wherever losses are asked."""
    torch.manual_seed(2)
    circuit = {"qubits": 2, "layers": 4, "layerwise": 0.5, "ansatz": "hardware_efficient"}
    config = ModelConfig(kind="vqvae", circuit=circuit, network={"hidden": [], "batch_norm": False})
    model, seen = model_of(config, torch.full((PIXELS,), 0.4)), []
    training = TrainingConfig(warmup_steps=0, optimizer={"name": name})
    one = VariationalObjective(model, lambda rows, generator: rows, training, gaussian_surrogate)
    weight = one.model.circuit.weight
    terms = one._terms

    def begun():
        return -(-int(weight.detach().ne(0).nonzero().max() + 1) * 4 // len(weight))

    one._terms = lambda x, generator: seen.append(begun()) or terms(x, generator)
    assert begun() == 1
    for progress, layers in ((0.0, 1), (0.124, 1), (0.126, 2), (0.26, 3), (0.376, 4), (0.9, 4)):
        seen.clear()
        one.step(torch.ones(8, PIXELS), Clock(5, 1, progress))
        assert begun() == layers
        assert seen[0] <= layers
        assert set(seen[1:]) <= {layers - 1, layers}


def test_an_autoencoder_s_latents_settle_on_what_the_encoder_sees():
    config = ModelConfig(kind="vqvae", circuit={"qubits": 2, "layers": 1}, network={"hidden": [4]})
    model = model_of(config, torch.full((PIXELS,), 0.4))
    training = TrainingConfig(corruption="hidden", corruption_amount=0.5)
    one = VariationalObjective(model, lambda rows, generator: rows, training, gaussian_surrogate)
    rows, seen = torch.rand(12, PIXELS, generator=torch.Generator().manual_seed(1)), []
    sample = model.posterior_sample

    def noted(x, relaxed, generator):
        seen.append((x, relaxed))
        return sample(x, relaxed=relaxed, generator=generator)

    model.posterior_sample = noted
    one.settle(model, rows, 4)
    assert [relaxed for _, relaxed in seen] == [False] * 3
    assert torch.equal(seen[0][0], one.corruption(rows[:4], torch.Generator().manual_seed(0)))
    assert not torch.equal(seen[0][0], rows[:4])
