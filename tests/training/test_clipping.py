"""Clipped gradients: those of torch's own function, bit by bit."""

import copy

import pytest
import torch
from torch import nn

from qvae.training.clipping import clip_gradients


@pytest.mark.parametrize("largest", [0.1, 1e9])
def test_as_torch_clips_them(largest):
    model = nn.Sequential(nn.Linear(5, 7), nn.BatchNorm1d(7), nn.Linear(7, 3))
    model(torch.randn(11, 5)).square().sum().backward()
    model[2].bias.grad = None  # what a step didn't reach stays without
    other = copy.deepcopy(model)
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        theirs.grad = None if mine.grad is None else mine.grad.clone()
    clip_gradients(model.parameters(), largest)
    before = nn.utils.clip_grad_norm_(other.parameters(), largest)
    assert before > 0.1
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        assert (mine.grad is None) == (theirs.grad is None)
        assert mine.grad is None or torch.equal(mine.grad, theirs.grad)


def test_nothing_to_clip():
    clip_gradients([nn.Parameter(torch.ones(2))], 1.0)
