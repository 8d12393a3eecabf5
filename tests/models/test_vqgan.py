"""A VQGAN's parts: which sizes they have, what the game is about, what is frozen, and whose codes are smoothed."""

import pytest
import torch
from enumerated import small_model
from torch import nn

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.config.schema import ModelConfig
from qvae.models.critic import Critic, with_class
from qvae.models.gaussian import GaussianPosterior, IdentityPosterior
from qvae.models.generator import LatentGenerator
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.relaxation import OverlappingExponentials
from qvae.models.vqgan import VQGAN

IMAGES = Statistics(torch.full((2, 3), 0.4), torch.full((2, 3), 0.2))
SMALL = {"kind": "vqgan", "circuit": {"qubits": 3, "layers": 2}, "network": {"hidden": [5]}}


class Elsewhere(Executor):
    """One that is told apart from the default."""

    capabilities = ExecutorCapabilities()
    shots = 10

    def _sample(self, circuit: Circuit, values, shots):
        return torch.zeros(len(values), shots, circuit.num_qubits, dtype=torch.int8)


def vqgan(classes=(), autoencoder=None, executor=None, **settings):
    torch.manual_seed(0)
    config = ModelConfig(**(SMALL | settings))
    return VQGAN.from_config(config, IMAGES, classes, autoencoder, executor).eval()


def test_parts_have_the_sizes_of_the_configuration():
    executor = Elsewhere()
    gan = {"noise": 4, "latents": 7, "temperature": 0.5}
    model = vqgan((3, 8), executor=executor, gan=gan, critic={"hidden": [11, 13]})
    assert model.prior.noise == 4
    assert (model.posterior.num_latents, model.prior.mean.shape) == (7, (7,))
    assert model.prior.temperature == 0.5
    assert model.prior.classes == model.classes == (3, 8)
    assert model.prior.body.num_latents == 4 + 2
    assert model.circuit.circuit.num_qubits == 3
    assert model.circuit.executor is executor
    widths = [(layer.in_features, layer.out_features) for layer in model.critic.layers if isinstance(layer, nn.Linear)]
    assert widths == [(7 + 2, 11), (11, 13), (13, 1)]
    assert isinstance(model.posterior, GaussianPosterior)
    assert (model.latents_are_bits, model.compresses, model.has_likelihood, model.is_frozen) == (False, True, False, False)
    assert model.shape == (2, 3)
    inner = model.autoencoder()
    assert (inner.encoder, inner.posterior, inner.decoder) == (model.encoder, model.posterior, model.decoder)
    assert (inner.prior.origin.shape, inner.likelihood, inner.shape) == ((7,), model.likelihood, (2, 3))


def test_a_generator_of_pixels_has_latents_that_are_the_pixels():
    """Of 2**(3-1) pixels from each circuit, so that six need two."""
    executor = Elsewhere()
    gan = {"noise": 4, "ancillas": 1, "temperature": 0.5}
    model = vqgan((3, 8), executor=executor, generator="patch", gan=gan, critic={"hidden": [11]})
    assert isinstance(model.posterior, IdentityPosterior)
    assert (model.compresses, model.prior.noise, model.posterior.num_latents) == (False, 4, 6)
    assert (len(model.prior.circuits), len(model.prior.body.blocks)) == (2, 2)
    assert model.circuit is model.prior.circuits[0]
    assert all(block.num_latents == 4 + 2 for block in model.prior.body.blocks)
    assert all(layer.executor is executor for layer in model.prior.circuits)
    assert model.prior.temperature == 0.5
    assert model.critic.layers[0].in_features == 6 + 2
    x = torch.rand(5, 6)
    assert torch.equal(model.reality(x), model.likelihood.features(x))
    classical = vqgan((3, 8), generator="patch", gan=gan, circuit=SMALL["circuit"] | {"arm": "perceptron"})
    assert (classical.circuit, classical.prior.circuits) == (None, [])
    pixels = classical.prior.body(torch.randn(50, 4 + 2)).detach()
    assert pixels.shape == (50, 6)
    assert 0 < float(pixels.min()) < float(pixels.max()) < 1


def test_the_game_is_about_latents_or_the_means_of_bits():
    x = torch.rand(5, 6)
    model = vqgan()
    generator = torch.Generator()
    real = model.reality(x, generator.manual_seed(1))
    assert torch.equal(real, model.posterior_sample(x, relaxed=False, generator=generator.manual_seed(1)).latents)
    assert not torch.equal(real, model.code_means(x))
    given = small_model()
    given.relaxation = OverlappingExponentials(6.0)
    bits = vqgan(autoencoder=given)
    assert (bits.latents_are_bits, bits.prior.are_bits, bits.prior.mean.shape) == (True, True, (6,))
    assert torch.equal(bits.reality(x), given.code_means(x))
    assert set(bits.prior.draw(50, generator=generator).unique().tolist()) == {0.0, 1.0}
    codes = bits.prior.draw(5, generator=generator)
    smoothed = given.relaxation.smooth(codes, generator.manual_seed(2))
    assert torch.equal(bits.decode_codes(codes, generator.manual_seed(2)), given.decode(smoothed))
    relaxed = bits.posterior_sample(x, relaxed=True, generator=generator.manual_seed(3)).latents
    assert torch.equal(relaxed, given.posterior_sample(x, relaxed=True, generator=generator.manual_seed(3)).latents)
    assert not set(relaxed.unique().tolist()) <= {0.0, 1.0}


def test_what_is_generated_is_decoded_from_the_generator_s_latents():
    model = vqgan((3, 8))
    generator = torch.Generator()
    expected = model.decode(model.prior.draw(4, generator=generator.manual_seed(1), label=8))
    assert torch.equal(model.generate(4, generator=generator.manual_seed(1), label=8), expected)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
def test_a_frozen_autoencoder_neither_learns_nor_changes_in_training(likelihood):
    model = vqgan(likelihood=likelihood)
    model.train()
    assert bool(list(model.likelihood.parameters())) is (likelihood == "gaussian")
    assert all(part.training for part in model.modules())
    model.freeze_autoencoder()
    frozen = (model.encoder, model.posterior, model.decoder)
    for _ in range(2):
        assert not any(module.training for part in frozen for module in part.modules())
        assert all(module.training for part in (model.prior, model.critic) for module in part.modules())
        assert not any(p.requires_grad for part in (*frozen, model.likelihood) for p in part.parameters())
        assert all(p.requires_grad for part in (model.prior, model.critic) for p in part.parameters())
        model.eval()
        assert not model.critic.training
        model.train()


def test_latents_are_standardised_by_those_of_the_data_and_one_that_never_varies_keeps_its_unit():
    made = LatentGenerator(nn.Identity(), nn.Identity(), 3, noise=3)
    made.standardise_by(torch.tensor([[1.0, 5.0, 1e-3], [3.0, 5.0, 3e-3]]))
    assert made.mean.tolist() == pytest.approx([2.0, 5.0, 2e-3])
    assert made.std.tolist() == pytest.approx([2**0.5, 1.0, 2**0.5 * 1e-3])
    assert made.standardised(torch.tensor([[4.0, 6.0, 2e-3]]))[0].tolist() == pytest.approx([2**0.5, 1.0, 0.0], abs=1e-5)
    noise = torch.randn(2, 3, generator=torch.Generator().manual_seed(1))
    drawn = made.draw(2, generator=torch.Generator().manual_seed(1))
    assert torch.allclose(drawn, made.mean + made.std * noise)  # of a body and a head that do nothing
    assert LatentGenerator(nn.Identity(), nn.Identity(), 1, 1, (4, 6, 9)).frequencies.tolist() == pytest.approx([1 / 3] * 3)


def test_a_critic_is_leaky_between_its_layers_and_has_the_spectral_norm_where_it_is_asked_for():
    config = ModelConfig(**SMALL | {"critic": {"hidden": [4], "penalty": "spectral"}}).critic
    critic = Critic(3, config).eval()
    assert [type(layer).__name__ for layer in critic.layers] == ["ParametrizedLinear", "LeakyReLU", "ParametrizedLinear"]
    critic.train()
    for _ in range(30):  # the power method, a step in each call
        critic(torch.zeros(1, 3))
    norms = [float(torch.linalg.matrix_norm(layer.weight.detach(), 2)) for layer in critic.layers[::2]]
    assert norms == pytest.approx([1, 1], abs=1e-3)
    plain = Critic(2, config.model_copy(update={"penalty": "gradient", "hidden": [1]}))
    with torch.no_grad():
        for layer in plain.layers[::2]:
            layer.weight.fill_(1.0)
            layer.bias.zero_()
    assert plain(torch.tensor([[1.0, 2.0], [-1.0, -2.0]])).tolist() == pytest.approx([3.0, -0.6])
    rows, classes = torch.ones(2, 1), torch.eye(2)
    assert with_class(rows, classes).tolist() == [[1, 1, 0], [1, 0, 1]]
    assert with_class(rows, None) is rows
