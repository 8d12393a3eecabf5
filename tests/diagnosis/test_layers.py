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


def verdicts_of(by_layer, steps=(1, 4, 7, 10)):
    series = {name: torch.tensor(values, dtype=torch.float64) for name, values in by_layer.items()}
    norms = SimpleNamespace(series=lambda: series, reached=list(by_layer), names=list(by_layer), silent=[], steps=steps)
    return {layer.name: (layer.verdict, layer.why) for layer in judged(norms, dict.fromkeys(by_layer, 1))}


def test_a_layer_is_dead_below_a_ten_thousandth_of_the_largest_before_it():
    """One that explodes isn't what others are held against, and neither is one that is farther from the loss."""
    found = verdicts_of({
        "last": [1.0] * 4, "near": [0.5] * 4, "alive": [1.1e-4] * 4, "tall": [2e3] * 4, "small": [0.15] * 4, "dead": [9e-5] * 4,
        "larger": [2.0] * 4, "below": [1.4e-4] * 4, "still": [0.0, 0.0, 0.0, 5.0],
    })  # fmt: skip
    assert {name: verdict for name, (verdict, _) in found.items() if verdict != "healthy"} == {
        "tall": "exploding", "dead": "dead", "below": "dead", "still": "dead",
    }  # fmt: skip
    assert found["dead"][1] == "its gradient is 9e-05 of the largest between the loss and it"
    assert found["below"][1] == "its gradient is 7e-05 of the largest between the loss and it"
    assert found["still"][1] == "its gradient is 0"
    assert found["tall"][1] == "its gradient is 2e+03 times that of the tensors nearest to the loss"


def test_a_layer_explodes_above_a_thousand_times_the_largest_of_the_three_nearest_to_the_loss():
    found = verdicts_of({"a": [0.1] * 4, "b": [1.0] * 4, "c": [0.5] * 4, "d": [999.0] * 4, "e": [1001.0] * 4})
    assert [verdict for verdict, _ in found.values()] == ["healthy", "healthy", "healthy", "healthy", "exploding"]
    assert verdicts_of({"a": [0.0] * 4, "b": [5.0] * 4})["b"][0] == "healthy"  # three are nearest, of which there are two


def test_what_explodes_in_a_training_says_when_and_how_much():
    nan, infinite = float("nan"), float("inf")
    found = verdicts_of({"a": [1.0, 2.0, nan, nan], "b": [0.5, 9.0, 9.0, 150.0], "c": [0.1] * 4})
    assert found["a"] == ("exploding", "its gradient is not finite from step 7 on")
    assert found["b"] == ("exploding", "its gradient grows 3e+02 times in 10 steps")
    grows = verdicts_of({"a": [1.0, infinite, 2.0, 1.0]})
    assert grows["a"] == ("exploding", "its gradient is not finite from step 4 on")
    assert verdicts_of({"a": [7.0]}, (1,))["a"][0] == "healthy"  # one step has no end to be held against its beginning
