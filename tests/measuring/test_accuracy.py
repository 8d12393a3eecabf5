"""The bias of repetitions: noise is hardly ever taken for one, and a known one has its size."""

import math

import pytest
import torch

from qvae.measuring.accuracy import bias_of


def test_bias_of_noise_is_rarely_certain():
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 10, 20, generator=generator, dtype=torch.float64)
    sizes, certain = zip(*(bias_of(errors) for errors in noise), strict=True)
    assert sum(certain) <= 5  # of 300, each with probability 1/512: more than 5 happens once in 10,000 times
    # Noise of variance 1 must not leak in, which would be a tenth of it.
    assert sum(size**2 for size in sizes) / len(sizes) < 0.03
    size, is_certain = bias_of(noise[0] + 1)
    assert is_certain
    assert size == pytest.approx(1, rel=0.3)
    assert not bias_of(noise[0] + 1, reference_error=1.0)[1]  # it may as well be the reference's
    assert math.isnan(bias_of(noise[0][:1])[0])
