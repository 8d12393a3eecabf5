"""Networks as they are configured: activations, and connections past layers."""

import math

import pytest
import torch

from qvae.config.load import load_config
from qvae.config.network import NetworkConfig
from qvae.errors import ConfigError
from qvae.models.networks import Decoder, Encoder


def test_a_residual_layer_is_added_to_what_comes_in_and_others_are_not():
    torch.manual_seed(0)
    config = NetworkConfig(hidden=[4, 4, 3], batch_norm=False, activation="tanh")
    plain = Encoder(config, (), torch.zeros(4))
    skipping = Encoder(config.model_copy(update={"residual": True}), (), torch.zeros(4))
    for ours, theirs in zip(skipping.parameters(), plain.parameters(), strict=True):
        ours.data.copy_(theirs.data)
    x = torch.randn(5, 4)
    first, _, second, _, third, _ = plain.layers
    hidden = torch.tanh(first(x))  # data aren't added, though they are as wide
    expected = torch.tanh(third(hidden + torch.tanh(second(hidden))))
    assert torch.allclose(skipping(x), expected)


@pytest.mark.parametrize(
    ("name", "value"), [("silu", 0.7311), ("relu", 1.0), ("gelu", 0.8413), ("tanh", 0.7616), ("sigmoid", 0.7311)]
)
@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_activations_are_those_named(name, value, kind):
    config = NetworkConfig(kind=kind, hidden=[2], batch_norm=False, activation=name)
    one = torch.ones(())
    for network in (Encoder(config, (2, 2), torch.zeros(4)), Decoder(config, 3, (2, 2), torch.zeros(4))):
        found = [module for module in network.modules() if type(module).__module__ == "torch.nn.modules.activation"]
        assert found
        assert all(abs(float(module(one)) - value) < 1e-4 for module in found)


@pytest.mark.parametrize("settings", [["model.network.hidden=[8,4]"], ["model.network.kind=conv"]])
def test_residual_needs_neighbours_of_one_width(settings):
    with pytest.raises(ConfigError, match="residual is true, which needs kind mlp and two hidden layers"):
        load_config("digits", [*settings, "model.network.residual=true"])


def test_convolutions_take_images_and_strings_and_no_tables():
    config = NetworkConfig(kind="conv", hidden=[2])
    for plane in ((8,), (4, 4)):
        assert Encoder(config, plane, torch.zeros(math.prod(plane))).num_features > 0
    with pytest.raises(ValueError, match="kind is conv, which takes images or strings, but the data are a table; take mlp"):
        Encoder(config, (), torch.zeros(8))


def told(network):
    """Each layer's kind, the numbers that go in and come out, and a + for a bias of its own."""
    found = []
    for layer in (each for each in network.layers.modules() if not list(each.children())):
        sizes = [getattr(layer, f"{way}_{what}", "") for way in ("in", "out") for what in ("features", "channels")]
        is_biased = getattr(layer, "bias", None) is not None and not hasattr(layer, "running_mean")
        found.append(type(layer).__name__ + ">".join(str(size) for size in sizes if size) + "+" * is_biased)
    return found


@pytest.mark.parametrize(
    ("kind", "norm", "of_encoder", "of_decoder"),
    [
        ("mlp", True, "Linear70>3 BatchNorm1d SiLU Linear3>4 BatchNorm1d SiLU",
         "Linear6>5 BatchNorm1d SiLU Linear5>2 BatchNorm1d SiLU Linear2>70"),
        ("mlp", False, "Linear70>3+ SiLU Linear3>4+ SiLU", "Linear6>5+ SiLU Linear5>2+ SiLU Linear2>70"),
        ("conv", True, "Unflatten Conv2d2>3 BatchNorm2d SiLU Conv2d3>4 BatchNorm2d SiLU Flatten",
         "Linear6>20+ SiLU Unflatten ConvTranspose2d5>2 BatchNorm2d SiLU ConvTranspose2d2>2 Flatten"),
        ("conv", False, "Unflatten Conv2d2>3+ SiLU Conv2d3>4+ SiLU Flatten",
         "Linear6>20+ SiLU Unflatten ConvTranspose2d5>2+ SiLU ConvTranspose2d2>2 Flatten"),
    ],
    ids=["mlp with norms", "mlp", "conv with norms", "conv"],
)  # fmt: skip
def test_layers_follow_one_another_and_have_a_bias_where_no_batch_norm_has_one(kind, norm, of_encoder, of_decoder):
    """Of two numbers a pixel, on 5 x 7 pixels, which two strides make 2 x 2 of; the decoder's own bias comes last."""
    config = NetworkConfig(kind=kind, hidden=[3, 4], decoder_hidden=[5, 2], batch_norm=norm)
    encoder, decoder = Encoder(config, (5, 7), torch.arange(70.0)), Decoder(config, 6, (5, 7), torch.arange(70.0))
    assert told(encoder) == of_encoder.split()
    assert told(decoder) == of_decoder.split()
    assert encoder.num_features == {"mlp": 4, "conv": 16}[kind]
    for network, shape in ((encoder, (2, 70)), (decoder, (2, 6))):
        network.eval()
        before = network(torch.zeros(shape))
        (network.mean_image if network is encoder else network.bias).data.zero_()
        moved = network(torch.zeros(shape) - (torch.arange(70.0) if network is encoder else 0.0))
        torch.testing.assert_close(before, moved + (0.0 if network is encoder else torch.arange(70.0)))


@pytest.mark.parametrize("kind", ["mlp", "conv"])
def test_a_decoder_whose_widths_are_not_said_goes_back_through_the_encoder_s(kind):
    config = NetworkConfig(kind=kind, hidden=[3, 4], batch_norm=False)
    found = [layer.rstrip("+") for layer in told(Decoder(config, 6, (5, 7), torch.zeros(35))) if ">" in layer]
    wanted = {"mlp": "Linear6>4 Linear4>3 Linear3>35", "conv": "Linear6>16 ConvTranspose2d4>3 ConvTranspose2d3>1"}
    assert found == wanted[kind].split()


def test_strings_have_convolutions_of_one_axis():
    config = NetworkConfig(kind="conv", hidden=[3])
    encoder, decoder = Encoder(config, (5,), torch.zeros(20)), Decoder(config, 2, (5,), torch.zeros(20))
    assert told(encoder) == ["Unflatten", "Conv1d4>3", "BatchNorm1d", "SiLU", "Flatten"]
    assert told(decoder) == ["Linear2>9+", "SiLU", "Unflatten", "ConvTranspose1d3>4", "Flatten"]
    assert (encoder(torch.zeros(2, 20)).shape, decoder(torch.zeros(2, 2)).shape) == ((2, 9), (2, 20))
