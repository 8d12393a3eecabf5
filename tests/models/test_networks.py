"""Networks as they are configured: activations, and connections past layers."""

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
