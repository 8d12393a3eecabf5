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
