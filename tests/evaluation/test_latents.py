"""Information of latent units against enumeration, and probes that find what is there and nothing else."""

import numpy as np
import pytest

from qvae.evaluation.latents import bit_information, pca, probe


def test_information_of_a_unit_is_the_mutual_information():
    means = np.random.default_rng(0).random((50, 3))
    joint = np.stack([means, 1 - means]) / 50  # p(z, x) with x uniform
    marginal = joint.sum(1, keepdims=True)
    expected = (joint * np.log(joint / (marginal / 50))).sum((0, 1))
    assert np.allclose(bit_information(means), expected, atol=1e-12)


def test_information_of_certain_and_of_dead_units():
    means = np.array([[0.0, 1.0, 0.3], [1.0, 1.0, 0.3]])
    assert np.allclose(bit_information(means), [np.log(2), 0, 0], atol=1e-9)


def test_probes_read_labels_that_are_there():
    generator = np.random.default_rng(1)
    labels = generator.integers(0, 3, 600)
    features = np.eye(3)[labels] + 0.1 * generator.normal(size=(600, 3))
    found = probe("codes", features[:400], labels[:400], features[400:], labels[400:])
    assert found.linear > 0.95
    assert found.mlp > 0.95
    assert found.dimensions == 3
    best = (200 * max(found.linear, found.mlp) + 0.5) / 201
    assert found.stderr == pytest.approx(np.sqrt(best * (1 - best) / 200))  # of test images
    # 200 test images with labels at chance: a third, within five standard errors.
    chance = probe("noise", generator.normal(size=(400, 3)), labels[:400], generator.normal(size=(200, 3)), labels[400:])
    assert abs(chance.linear - 1 / 3) < 5 * np.sqrt(2 / 9 / 200) + 0.05


def test_the_mlp_probe_sees_what_no_line_separates():
    generator = np.random.default_rng(2)
    bits = generator.integers(0, 2, (2000, 2))
    labels = bits[:, 0] ^ bits[:, 1]
    found = probe("xor", bits[:1500].astype(float), labels[:1500], bits[1500:].astype(float), labels[1500:])
    assert found.mlp > 0.95
    assert found.linear < 0.8


def test_pca_keeps_at_most_what_there_is():
    train, test = np.random.default_rng(3).random((20, 5)), np.zeros((4, 5))
    assert [part.shape for part in pca(train, test, 64)] == [(20, 5), (4, 5)]
    assert [part.shape for part in pca(train, test, 2)] == [(20, 2), (4, 2)]


def test_probes_take_one_unit_and_a_seed_of_any_size():
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 2, 200)
    codes = (labels + 0.1 * generator.standard_normal(200)).reshape(-1, 1)
    found = probe("codes", codes[:100], labels[:100], codes[100:], labels[100:], seed=2**62 + 3)
    assert found == probe("codes", codes[:100], labels[:100], codes[100:], labels[100:], seed=3)
    assert found.linear > 0.95
