"""The model's parts: shapes, densities, levels, and what an image goes through."""

import itertools
import math

import pytest
import torch
from support import model_of

from qvae.config.schema import ModelConfig
from qvae.errors import DataError
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.networks import Decoder
from qvae.models.posterior import BernoulliCode, Posterior, split_levels
from qvae.models.qvae import QVAE
from qvae.runs.models import make_model
from qvae.sampling.sampler import LatentSampler, Samples

NETWORKS = {
    "mlp": {"kind": "mlp", "hidden": [16, 8]},
    "linear": {"kind": "mlp", "hidden": []},
    "conv": {"kind": "conv", "hidden": [4, 6]},
    "mlp, deeper decoder": {"kind": "mlp", "hidden": [16], "decoder_hidden": [8, 16]},
    "conv, deeper decoder": {"kind": "conv", "hidden": [4], "decoder_hidden": [6, 4]},
}


@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS.keys())
@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (7, 9), (3, 5, 6)])
def test_every_network_takes_every_image_shape(network, shape):
    model = model_of(ModelConfig(latent={"sizes": [3, 4]}, network=network), torch.full(shape, 0.3)).eval()
    images = torch.rand(5, *shape).round()
    code = model.posterior_sample(images.flatten(1), relaxed=True)
    assert code.logits.shape == code.latents.shape == (5, 7)
    assert model.log_likelihood(images.flatten(1), code.latents).shape == (5,)
    assert model.reconstruct(images).shape == (5, *shape)
    bits = model.encode(images)
    assert set(bits.unique().tolist()) <= {0.0, 1.0}


def test_data_of_any_type_are_taken_and_those_of_another_scale_refused():
    torch.manual_seed(0)
    model = model_of(ModelConfig(latent={"sizes": [3, 4]}, network={"hidden": [8]}), torch.full((4, 4), 0.3)).eval()
    images = torch.rand(5, 4, 4).round()
    means = model.code_means(images)
    for kind in (torch.float64, torch.uint8, torch.bool):
        assert torch.equal(model.code_means(images.to(kind)), means)
        assert model.reconstruct(images.to(kind)).shape == (5, 4, 4)
    for strange in (255 * images, -images, torch.full((5, 4, 4), torch.nan)):
        with pytest.raises(DataError, match="values from 0 to 1, but was given .*; divide 8-bit images by 255"):
            model.reconstruct(strange)


def test_an_untrained_decoder_with_silent_layers_gives_the_mean_image():
    mean = torch.rand(4, 4) * 0.8 + 0.1
    model = model_of(ModelConfig(latent={"sizes": [2, 2]}, network={"hidden": [8]}), mean).eval()
    with torch.no_grad():
        model.decoder.layers[-1].weight.zero_()
    torch.testing.assert_close(model.decode(torch.zeros(1, 4))[0], mean)


def test_widths_of_the_decoder_run_from_latents_to_image():
    def widths(**network):
        decoder = model_of(ModelConfig(latent={"sizes": [2, 3]}, network=network), torch.full((2, 2), 0.3)).decoder
        return [layer.out_features for layer in decoder.modules() if isinstance(layer, torch.nn.Linear)]

    assert widths(hidden=[9, 8]) == [8, 9, 4]  # the encoder's, backwards
    assert widths(hidden=[9, 8], decoder_hidden=[6, 7, 5]) == [6, 7, 5, 4]
    assert widths(hidden=[9, 8], decoder_hidden=[]) == [4]


def test_log_prob_of_a_hierarchy_sums_to_one():
    torch.manual_seed(0)
    posterior = Posterior(5, [2, 1, 1])
    features = torch.randn(1, 5)
    states = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)))
    logits, start = [], 0
    for level, size in zip(posterior.levels, posterior.level_sizes, strict=True):
        logits.append(level(torch.cat([features.expand(16, -1), states[:, :start]], 1)))
        start += size
    code = BernoulliCode(torch.cat(logits, 1), states)
    assert code.log_prob().exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_drawn_latents_have_the_frequencies_that_log_prob_says():
    torch.manual_seed(1)
    posterior, draws = Posterior(3, [1, 2]), 100_000
    features = torch.randn(2, 3)
    code = posterior(features, None, torch.Generator().manual_seed(0), draws)
    assert code.latents.shape == (2 * draws, 3)
    keys = (code.latents @ torch.tensor([1.0, 2.0, 4.0])).long().view(2, draws)
    probabilities = code.log_prob().exp().view(2, draws)
    for image in range(2):
        for state in keys[image].unique():
            p = probabilities[image][keys[image] == state][0].item()
            frequency = (keys[image] == state).float().mean().item()
            assert abs(frequency - p) < 5 * math.sqrt(p * (1 - p) / draws)


def test_entropy_is_that_of_independent_bits():
    q = torch.tensor([[0.2, 0.9]])
    expected = -(q * q.log() + (1 - q) * (1 - q).log()).sum(1)
    torch.testing.assert_close(BernoulliCode(torch.logit(q), q).entropy(), expected)


def test_levels_follow_the_layers_where_they_can():
    assert split_levels(6, 2, [4, 2]) == [4, 2]
    assert split_levels(7, 3, [7]) == [3, 2, 2]
    assert split_levels(3, 3, [3]) == [1, 1, 1]
    with pytest.raises(ValueError, match="3 levels needs at least 3"):
        split_levels(2, 3, [2])


def test_a_posterior_has_as_many_bits_as_its_prior():
    parts = model_of(ModelConfig(latent={"sizes": [3, 4]}), torch.full((2, 2), 0.3))
    other = model_of(ModelConfig(latent={"sizes": [3, 3]}), torch.full((2, 2), 0.3))
    with pytest.raises(ValueError, match="the posterior has 7 bits, but the prior 6"):
        QVAE(parts.encoder, parts.posterior, other.prior, parts.decoder, parts.likelihood)


def test_prior_follows_the_model_to_another_type_of_parameters():
    model = model_of(ModelConfig(latent={"sizes": [2, 2], "gamma": 0.5}), torch.full((2, 2), 0.5))
    hamiltonian = model.prior.hamiltonian()
    assert hamiltonian.is_quantum
    assert hamiltonian.h.requires_grad
    with torch.no_grad():
        model.prior.h.fill_(2.0)
    assert model.prior.hamiltonian().h.tolist() == [2.0] * 4


class Watching(LatentSampler):
    """Keeps the fields that it is given; all its spins are up."""

    def _sample(self, hamiltonian, num_samples):
        self.fields = hamiltonian.h
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


def test_generation_adds_its_bias_to_the_fields_and_smooths_bits():
    model = model_of(ModelConfig(latent={"sizes": [2, 2]}, network={"hidden": [8]}), torch.full((3, 3), 0.4)).eval()
    sampler, bias = Watching(), torch.tensor([1.0, -2.0, 0.5, 0.0])
    seen = []
    model.relaxation.smooth = lambda bits, generator: seen.append(bits) or 0.75 * bits
    images = model.generate(3, sampler, bias=bias)
    assert torch.equal(sampler.fields, model.prior.h.detach() + bias)
    assert torch.equal(seen[0], torch.ones(3, 4))
    assert torch.equal(images, model.decode(torch.full((3, 4), 0.75)))
    model.likelihood.sample = lambda output, generator: output
    output = model.decoder(torch.full((3, 4), 0.75)).unflatten(1, (3, 3))
    assert torch.equal(model.draw(torch.ones(3, 4)), output)  # draws are of smoothed bits, too


def test_the_encoder_sees_deviations_from_the_mean():
    mean = torch.rand(3, 3)
    model = model_of(ModelConfig(latent={"sizes": [2, 2]}, network={"hidden": []}), mean).eval()
    assert torch.equal(model.encoder(mean.reshape(1, -1)), torch.zeros(1, 9))
    torch.testing.assert_close(model.encoder(1 + mean.reshape(1, -1)), torch.ones(1, 9))


def test_data_may_be_elsewhere_than_the_model():
    model = model_of(ModelConfig(latent={"sizes": [2, 2]}, network={"hidden": [4]}), torch.full((3, 3), 0.5)).eval().to("meta")
    images = torch.ones(5, 3, 3, dtype=torch.uint8)
    for found in (model.encode(images), model.code_means(images), model.reconstruct(images)):
        assert (found.device.type, len(found)) == ("meta", 5)


@pytest.mark.parametrize("kind", ["qvae", "vqvae", "vqgan"])
@pytest.mark.parametrize("likelihood", ["gaussian", "categorical"])
def test_the_encoder_sees_what_the_likelihood_shows_of_rows(kind, likelihood):
    config = ModelConfig(kind=kind, likelihood=likelihood, network={"hidden": [4]})
    statistics = Statistics(torch.full((3, 3), 2.0), torch.full((3, 3), 0.5), levels=3)
    model, seen = make_model(config, statistics).eval(), []
    model.encoder.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    x = torch.arange(18.0).reshape(2, 9) % 3
    for relaxed in (False, True) if kind == "qvae" else (False,):
        model.posterior_sample(x, relaxed=relaxed)
    one_hot = torch.cat([x == 0, x == 1, x == 2], 1).float()
    assert all(torch.allclose(each, (x - 2) / 0.5 if likelihood == "gaussian" else one_hot) for each in seen)
    assert seen


@pytest.mark.parametrize(
    "kind",
    [
        {"kind": "qvae"}, {"kind": "vqvae"}, {"kind": "vqvae", "variant": "discrete"},
        {"kind": "vqvae", "variant": "deterministic"}, {"kind": "vqgan"},
    ],
    ids=lambda kind: " ".join(kind.values()),
)  # fmt: skip
def test_networks_begin_at_the_mean_of_the_data(kind):
    mean = torch.arange(1, 10).reshape(3, 3) / 10
    model = make_model(ModelConfig(**kind, network={"hidden": [4]}), Statistics(mean, torch.ones(3, 3)))
    assert torch.equal(model.encoder.mean_image, mean.flatten())
    decoder = next(part for part in model.decoder.modules() if isinstance(part, Decoder))
    torch.testing.assert_close(decoder.bias.detach(), (mean / (1 - mean)).log().flatten())
