"""The classifier: images of any shape, learnt in a moment, from the images alone."""

import pytest
import torch
from striped_images import striped

from qvae.evaluation import classifier
from qvae.evaluation.classifier import LeNet, train_classifier


@pytest.mark.parametrize("shape", [(8, 8), (9, 40), (28, 28), (64, 24), (3, 8, 11), (3, 32, 32)])
def test_network_takes_images_of_any_shape(shape):
    network = LeNet(shape, 5).eval()
    images = torch.rand(4, *shape)
    assert network.features(images).shape == (4, 84)
    assert network(images).shape == (4, 5)
    assert torch.equal(network.features(images.flatten(1)), network.features(images))
    heights = []
    pooling = next(layer for layer in network.layers if isinstance(layer, torch.nn.AdaptiveAvgPool2d))
    pooling.register_forward_pre_hook(lambda layer, inputs: heights.append(min(inputs[0].shape[-2:])))
    network(images)
    assert 4 <= heights[0] <= 6


@pytest.mark.parametrize(
    ("shape", "sizes"),
    [
        ((28, 28), [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (5, 84)]),
        ((3, 19, 40), [(18, 3, 5, 5), (48, 18, 3, 3), (120, 768), (84, 120), (5, 84)]),
        ((20, 20), [(6, 1, 5, 5), (16, 6, 5, 5), (120, 400), (84, 120), (5, 84)]),
    ],
)
def test_the_network_is_that_of_lecun_and_others(shape, sizes):
    network = LeNet(shape, 5)
    assert [tuple(weight.shape) for weight in network.parameters() if weight.ndim > 1] == sizes
    assert sum(isinstance(layer, torch.nn.ReLU) for layer in network.layers) == 4


def test_it_is_trained_for_80_epochs_or_2800_steps_at_a_rate_that_rises_for_a_fifth_of_them(monkeypatch):
    asked = []

    class Stopped(Exception):
        pass

    def recorded(optimizer, *arguments, **named):
        asked.append((type(optimizer), arguments, named))
        raise Stopped

    monkeypatch.setattr("torch.optim.lr_scheduler.OneCycleLR", recorded)
    for count in (128, 200, 128 * 36):
        with pytest.raises(Stopped):
            train_classifier(striped(count=count))
    assert asked == [(torch.optim.Adam, (4e-3,), {"total_steps": steps, "pct_start": 0.2}) for steps in (80, 80, 2800)]


@pytest.mark.parametrize("shape", [(8, 8), (28, 28), (3, 12, 16)])
def test_training_learns_grey_and_coloured_images(shape, quick):
    steps = []
    with torch.no_grad():
        classifier = train_classifier(striped(shape), lambda done, total: steps.append((done, total)))
    assert steps == [(k, 25) for k in range(1, 26)]
    assert classifier.classes == (-3, 7)
    assert classifier.test_accuracy > 0.9
    assert classifier.source == "trained"
    assert not classifier.network.training
    assert not classifier(torch.rand(3, *shape, dtype=torch.float64)).requires_grad


def test_training_depends_on_the_images_alone(quick):
    state = torch.get_rng_state()
    first = train_classifier(striped())
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(7)
    assert train_classifier(striped()).weights == first.weights
    assert train_classifier(striped(count=190)).weights != first.weights


def test_small_sets_end_after_a_number_of_epochs():
    steps = []
    train_classifier(striped(count=2), lambda done, total: steps.append(total))
    assert steps == [classifier._EPOCHS] * classifier._EPOCHS
