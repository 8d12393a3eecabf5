"""Networks made to vanish and to explode have their layers named, and a sound one has none."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from qvae.diagnosis.layers import GROWTH, judged
from qvae.training.gradient_norms import GradientNorms


def verdicts(model, steps=8, rate=0.0):
    """Of a few steps of gradient descent on random rows, by name."""
    optimizer = torch.optim.SGD([weight for weight in model.parameters() if weight.requires_grad], lr=rate)
    with GradientNorms(model) as norms:
        for _ in range(steps):
            optimizer.zero_grad()
            (model(torch.randn(32, 6)) - 1).square().mean().backward()
            optimizer.step()
            norms.end_step()
    return {layer.name: layer for layer in judged(norms, {name: weight.numel() for name, weight in model.named_parameters()})}


def deep(make, depth=12):
    torch.manual_seed(1)
    return nn.Sequential(*(part for _ in range(depth) for part in make()), nn.Linear(6, 1))


def test_a_deep_sigmoid_network_is_dead_at_its_beginning():
    found = verdicts(deep(lambda: (nn.Linear(6, 6), nn.Sigmoid())))
    assert found["0.weight"].verdict == found["2.bias"].verdict == "dead"
    assert "of the largest between the loss and it" in found["0.weight"].why
    assert found["24.weight"].verdict == found["22.weight"].verdict == "healthy"


class Sine(nn.Module):
    def forward(self, x):
        return x.sin()


def test_a_deep_network_of_bounded_units_and_large_weights_explodes_towards_its_beginning():
    model = deep(lambda: (nn.Linear(6, 6), Sine()))
    for layer in model[:-1:2]:
        nn.init.orthogonal_(layer.weight, gain=5.0)
    found = verdicts(model)
    assert found["0.bias"].verdict == "exploding"
    assert "nearest to the loss" in found["0.bias"].why
    assert found["22.bias"].verdict == "healthy"


@pytest.mark.parametrize(
    ("quarters", "explodes"),
    [((1, 1, 1, 1.1 * GROWTH), True), ((1, 2 * GROWTH, 2 * GROWTH, 1), False), ((1, 1, 1, 0.9 * GROWTH), False)],
)
def test_a_layer_explodes_whose_last_quarter_has_outgrown_its_first(quarters, explodes):
    series = torch.tensor([norm for norm in quarters for _ in range(2)])
    norms = SimpleNamespace(series=lambda: {"a": series}, reached={"a"}, names=["a"], silent=[], steps=tuple(range(1, 9)))
    (layer,) = judged(norms, {"a": 1})
    assert (layer.verdict == "exploding") == explodes


def test_a_training_that_runs_away_explodes_and_says_from_when_on():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), nn.Linear(6, 1))
    grows = verdicts(model, steps=8, rate=0.9)["0.weight"]
    assert grows.verdict == "exploding"
    found = verdicts(model, steps=60, rate=0.9)["0.weight"]
    assert found.why.startswith("its gradient is not finite from step")
    assert None in found.to_dict()["norms"]


def test_sound_frozen_and_unused_layers_are_what_they_are():
    model = deep(lambda: (nn.Linear(6, 6), nn.SiLU()), depth=2)
    model[0].requires_grad_(False)
    model.register_parameter("unused", nn.Parameter(torch.zeros(3)))
    found = verdicts(model)
    assert {name: layer.verdict for name, layer in found.items()} == {
        "0.weight": "frozen", "0.bias": "frozen", "2.weight": "healthy", "2.bias": "healthy", "4.weight": "healthy",
        "4.bias": "healthy", "unused": "unreached",
    }  # fmt: skip
    assert found["unused"].why.startswith("no gradient came")


def test_a_gradient_that_only_comes_up_to_those_near_the_loss_does_not_explode():
    steps = tuple(range(1, 9))
    by_layer = {"last": [1.0] * 8, "first": [1e-3] * 4 + [0.5] * 4, "other": [1e-3] * 4 + [2.0] * 4}
    series = {name: torch.tensor(values) for name, values in by_layer.items()}
    norms = SimpleNamespace(series=lambda: series, reached=set(by_layer), names=[], silent=[], steps=steps)
    found = {layer.name: layer.verdict for layer in judged(norms, dict.fromkeys(by_layer, 1))}
    assert found == {"last": "healthy", "first": "healthy", "other": "exploding"}
