"""Statistics of the digits as each likelihood sees them, against NumPy's of scikit-learn's own numbers."""

import numpy as np
import torch

from qvae.config.schema import DataConfig
from qvae.data.load import load_data
from qvae.models.likelihoods.likelihood import Statistics


def test_statistics_are_those_of_what_the_likelihood_sees():
    pixels = load_data(DataConfig(), "counts").train.numpy().astype(float)  # 0..16
    for kind, mean, variance in (
        ("counts", pixels.mean(0), pixels.var(0)),
        ("categories", pixels.mean(0), pixels.var(0)),
        ("reals", (pixels.mean(0) + 0.5) / 17, (pixels.var(0) + 1 / 12) / 17**2),  # uniform noise over each step
        ("bits", (pixels >= 8).mean(0), (pixels >= 8).var(0)),
    ):
        found = Statistics.of(load_data(DataConfig(), kind))
        np.testing.assert_allclose(found.mean, mean, atol=5e-5)
        np.testing.assert_allclose(found.std, np.sqrt(variance), atol=5e-5)


def test_frequencies_are_those_of_each_category():
    dataset = load_data(DataConfig(), "categories")
    expected = np.stack([(dataset.train.numpy() == level).mean(0) for level in range(17)])
    np.testing.assert_allclose(Statistics.of(dataset).frequencies, expected, atol=1e-6)
    assert torch.allclose(Statistics.of(dataset).frequencies.sum(0), torch.ones(8, 8))
