"""Likelihoods of the VQVAE against quadrature over its latents and enumeration of its bits; what it refuses."""

import itertools
import math

import pytest
import torch
from support import model_of

from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.config.schema import ModelConfig
from qvae.errors import CapabilityError, CircuitError
from qvae.evaluation.likelihood import evaluate_likelihood, evaluate_reconstruction, prior_log_partition
from qvae.ising.exact import exact_distribution, state_numbers
from qvae.models.autoencoder import Autoencoder
from qvae.models.measured import basis_bits
from qvae.sampling.registry import load_sampler

PIXELS = 3
IMAGES = torch.tensor(list(itertools.product([0.0, 1.0], repeat=PIXELS)))
SIGMAS = 5


def small(variant, qubits=2, circuit=None, **others):
    """A model whose every parameter is drawn, so that nothing is small by chance."""
    settings = {"kind": "vqvae", "variant": variant, "circuit": {"qubits": qubits, "layers": 1} | (circuit or {})}
    torch.manual_seed(1)
    model = model_of(ModelConfig(**settings, network={"hidden": [], "batch_norm": False}, **others), torch.full((PIXELS,), 0.4))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.7)
    return model.eval()


def grid(dimensions, reach=7.0, count=141):
    """Points (N, n) and the area of each: the midpoint rule, whose error falls faster than any power for such integrands."""
    line = torch.linspace(-reach, reach, count, dtype=torch.float64)
    points = torch.cartesian_prod(*[line] * dimensions).view(-1, dimensions)
    return points, float(line[1] - line[0]) ** dimensions


def log_normal(points, mean=0.0, log_variance=0.0):
    log_variance = torch.as_tensor(log_variance, dtype=torch.float64)
    return -0.5 * ((points - mean) ** 2 / log_variance.exp() + log_variance + math.log(2 * math.pi)).sum(-1)


@torch.no_grad()
def log_likelihoods(model, points):
    """log p(x|z) of every image at every latent, (images, N)."""
    output = model.decoder(points.float())
    return torch.stack([model.likelihood.log_prob(output, x) for x in IMAGES]).double()


@pytest.mark.parametrize("qubits", [1, 2])
def test_gaussian_latents_have_the_likelihood_and_elbo_of_quadrature(qubits):
    model = small("variational", qubits)
    with torch.no_grad():  # wider than the prior, so that importance weights are bounded
        model.posterior.moments.weight[qubits:] *= 0.1
        model.posterior.moments.bias[qubits:] = 0.5
    points, area = grid(qubits)
    log_p = log_likelihoods(model, points)
    exact = torch.logsumexp(log_p + log_normal(points), 1) + math.log(area)
    with torch.no_grad():
        code = model.posterior_sample(IMAGES, relaxed=False)
    log_q = torch.stack([log_normal(points, m.double(), v.double()) for m, v in zip(code.mean, code.log_variance, strict=True)])
    bound = (log_q.exp() * (log_p + log_normal(points) - log_q)).sum(1) * area
    assert exact.exp().sum() == pytest.approx(1, abs=1e-4)  # of all images there are
    found = evaluate_likelihood(model, IMAGES, prior_log_partition(None, 2, 2, 0), importance_samples=20_000)
    # At each image the error is that of 20,000 draws; the weights' spread is below 3 nats here.
    tolerance = SIGMAS * 3 / math.sqrt(20_000 * len(IMAGES))
    assert found.elbo == pytest.approx(float(bound.mean()), abs=tolerance)
    assert found.log_likelihood == pytest.approx(float(exact.mean()), abs=tolerance)
    assert found.log_z == 0.0


@pytest.mark.parametrize("prior", ["uniform", "factorized", "boltzmann"])
def test_measured_bits_have_the_likelihood_and_elbo_of_enumeration(prior):
    model = small("discrete", 3, discrete={"prior": prior})
    bits = basis_bits(3).float()
    hamiltonian = model.prior.frozen()
    log_prior = exact_distribution(hamiltonian).log_probabilities
    log_p = log_likelihoods(model, bits)
    with torch.no_grad():
        code = model.posterior_sample(IMAGES, relaxed=False)
        log_q = code.log_probabilities().double()
    assert torch.allclose(log_q.exp().sum(1), torch.ones(len(IMAGES)).double(), atol=1e-5)
    exact = torch.logsumexp(log_p + log_prior, 1)
    bound = (log_q.exp() * (log_p + log_prior - log_q)).sum(1)
    assert exact.exp().sum() == pytest.approx(1, abs=1e-4)
    found = evaluate_likelihood(model, IMAGES, prior_log_partition(hamiltonian, 2, 2, 0), importance_samples=20_000)
    tolerance = SIGMAS * 3 / math.sqrt(20_000 * len(IMAGES))
    assert found.elbo == pytest.approx(float(bound.mean()), abs=tolerance)
    assert found.log_likelihood == pytest.approx(float(exact.mean()), abs=tolerance)


def test_bits_are_drawn_from_the_circuit():
    model = small("discrete", 3)
    generator = torch.Generator().manual_seed(0)
    draws = 20_000
    code = model.posterior_sample(IMAGES[:1], relaxed=False, generator=generator, draws=draws)
    counts = torch.bincount(state_numbers(code.latents), minlength=8) / draws
    p = code.probabilities.detach()[0]
    assert bool(((counts - p).abs() < SIGMAS * (p * (1 - p) / draws).sqrt() + 1e-4).all())
    circuit = model.circuit
    with torch.no_grad():
        z = circuit(model.posterior.block.angles(model.posterior.preimage(model.encoder(IMAGES[:1]))))
    assert torch.allclose(code.means(), (1 - z) / 2, atol=1e-5)
    assert torch.allclose(code.log_prob()[:8], p.log()[state_numbers(code.latents[:8])], atol=1e-5)


def test_the_relaxation_becomes_bits_as_it_gets_cold():
    model = small("discrete", 3, discrete={"gradient": "relaxed"})
    model.posterior.temperature = 1e-4
    generator = torch.Generator().manual_seed(0)
    draws = 20_000
    code = model.posterior_sample(IMAGES[:1], relaxed=True, generator=generator, draws=draws)
    bits = code.latents.detach()
    assert float(((bits - bits.round()).abs() > 0.01).float().mean()) < 0.01
    counts = torch.bincount(state_numbers(bits.round()), minlength=8) / draws
    p = code.probabilities.detach()[0]
    assert bool(((counts - p).abs() < SIGMAS * (p * (1 - p) / draws).sqrt() + 1e-3).all())


def test_an_autoencoder_claims_no_likelihood_and_generates_nothing():
    model = small("deterministic")
    found = evaluate_reconstruction(model, IMAGES)
    codes = model.encode(IMAGES)
    assert torch.equal(codes, model.encode(IMAGES))
    expected = model.log_likelihood(IMAGES, codes).detach()
    assert found.to_dict() == {
        "reconstruction": pytest.approx(float(expected.mean())),
        "reconstruction_stderr": pytest.approx(float(expected.std() / 8**0.5), rel=1e-5),
        "num_test": 8,
    }
    with pytest.raises(CapabilityError, match=r"has no prior to draw from.*model.variant=variational or discrete"):
        model.generate(3)
    with pytest.raises(CapabilityError, match="no q"):
        model.posterior_sample(IMAGES, relaxed=False).log_prob()


def test_a_normal_prior_takes_no_sampler_and_a_boltzmann_prior_needs_one():
    with pytest.raises(CapabilityError, match="takes no sampler"):
        small("variational").generate(3, load_sampler("gibbs"))
    with pytest.raises(CapabilityError, match="none was given"):
        small("discrete").generate(3)
    assert small("discrete").generate(3, load_sampler("exact", seed=0)).shape == (3, PIXELS)
    assert small("variational").generate(3).shape == (3, PIXELS)


class Shots(Executor):
    """The exact bits, as if they had been measured."""

    capabilities = ExecutorCapabilities()

    def _sample(self, circuit, values, shots):
        from qvae.circuits.registry import load_executor

        return load_executor("statevector", seed=5).sample(circuit, values, shots)


def test_a_trained_model_goes_on_with_an_executor_of_shots():
    for variant in ("variational", "discrete"):
        model = small(variant)
        exact = model.reconstruct(IMAGES, torch.Generator().manual_seed(0))
        model.circuit.executor = Shots()
        assert model.reconstruct(IMAGES, torch.Generator().manual_seed(0)).shape == exact.shape
        assert isinstance(model, Autoencoder)
    with pytest.raises(CapabilityError, match="knows no exact"):
        model.posterior_sample(IMAGES, relaxed=False).log_prob()


@pytest.mark.parametrize(
    ("circuit", "inputs", "seen"),
    [
        ({"measured": "zz"}, 3, 6),
        ({"measured": ["XIZ", "IYI"]}, 3, 2),
        ({"encoding": "amplitude"}, 8, 3),
        ({"encoding": "h_rz", "reuploading": True, "layers": 2, "angles": "linear"}, 3, 3),
        ({"encoding": "rz", "reuploading": True, "layers": 2}, 3, 3),
        ({"ansatz": "hardware_efficient"}, 3, 3),
    ],
)
def test_circuits_by_name(circuit, inputs, seen):
    model = small("variational", 3, circuit)
    assert model.encode(IMAGES).shape == (8, inputs)
    assert model.circuit(model.decoder[0].angles(torch.ones(2, inputs))).shape == (2, seen)


def test_a_brickwork_joins_other_pairs_in_each_layer_also_between_encodings():
    circuit = small("variational", 3, {"ansatz": "brickwork", "reuploading": True, "layers": 3}).circuit.circuit
    assert [gate.qubits for gate in circuit.gates if gate.name == "rzz"] == [(0, 1), (1, 2), (0, 1)]
    assert [gate.name for gate in circuit.gates].count("ry") == 3 * 3 + 3 * 4  # encodings, and two in each half of a block


def test_arms_stand_in_the_place_of_the_circuit():
    weights = {}
    for arm in ("quantum", "unentangled", "frozen", "perceptron", "gaussian"):
        model = small("variational", 3, {"arm": arm, "layers": 2})
        assert model.generate(2).shape == (2, PIXELS)
        weights[arm] = sum(p.numel() for part in list(model.decoder)[:-1] for p in part.parameters() if p.requires_grad)
        if arm in ("perceptron", "gaussian"):
            assert model.circuit is None
        else:
            pairs = sum(len(gate.qubits) > 1 for gate in model.circuit.circuit.gates)
            assert pairs == (0 if arm == "unentangled" else 6)
    # Two blocks of 15 angles, of which 12 are of one qubit; the perceptron has four hidden units.
    assert weights == {"quantum": 30, "unentangled": 24, "frozen": 0, "perceptron": 31, "gaussian": 0}


@pytest.mark.parametrize(
    ("circuit", "problem"),
    [
        ({"ansatz": "brikwork"}, "model.circuit.ansatz is 'brikwork': did you mean 'brickwork'"),
        ({"encoding": "angle"}, "model.circuit.encoding is 'angle'"),
        ({"measured": ["Z"]}, "must have 2 letters"),
        ({"encoding": "rz"}, r"rz does nothing to \|0>, so that no latent would be seen; take h_rz"),
        ({"encoding": "rz", "reuploading": True, "layers": 1}, "rz does nothing"),
    ],
)
def test_a_circuit_that_there_is_not(circuit, problem):
    with pytest.raises(CircuitError, match=problem):
        small("variational", 2, circuit)
