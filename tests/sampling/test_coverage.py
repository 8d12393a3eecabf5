"""Precision, recall, density and coverage beside their definitions, spelled out, and on sets of which they are known."""

import pytest
import torch

from qvae.sampling import coverage as module
from qvae.sampling.coverage import coverage, nearest_distances


def spelled_out(data, samples, k):
    """The four numbers, one ball and one point at a time."""

    def radius(rows, place):
        return sorted(float((rows[place] - other).norm()) for other in rows)[k]

    def is_inside(point, rows, place):
        return float((point - rows[place]).norm()) <= radius(rows, place) + 1e-9

    size = range(len(data))
    inside = [[is_inside(samples[j], data, i) for j in size] for i in size]
    precision = sum(any(inside[i][j] for i in size) for j in size) / len(data)
    recall = sum(any(is_inside(data[i], samples, j) for j in size) for i in size) / len(data)
    density = sum(map(sum, inside)) / (k * len(data))
    return precision, recall, density, sum(map(any, inside)) / len(data)


def test_they_are_what_they_are_defined_to_be(monkeypatch):
    monkeypatch.setattr(module, "_AT_ONCE", 7)  # in several pieces
    generator = torch.Generator().manual_seed(0)
    data, samples = torch.randn(30, 2, generator=generator), 0.7 * torch.randn(30, 2, generator=generator) + 0.8
    found = coverage(data.double(), samples.double(), neighbours=3)
    expected = spelled_out(data.double(), samples.double(), 3)
    assert (found.precision, found.recall, found.density, found.coverage) == pytest.approx(expected, abs=1e-6)


def test_samples_of_the_data_are_dense_and_cover_as_they_should():
    generator = torch.Generator().manual_seed(0)
    data, samples = torch.randn(2, 2000, 4, generator=generator)
    found = coverage(data, samples, neighbours=5)
    # A ball with k of N - 1 others holds none of N with probability about 2**-k (Naeem et al. 2020, lemma 2).
    assert abs(found.coverage - (1 - 2**-5)) < 0.02
    assert abs(found.density - 1) < 0.1
    assert found.num_samples == 2000


def test_one_mode_of_two_is_precise_and_recalls_half():
    generator = torch.Generator().manual_seed(0)
    data = torch.randn(1000, 3, generator=generator)
    data[500:] += 20
    found = coverage(data, torch.randn(1000, 3, generator=generator))
    assert found.precision > 0.9
    assert 0.35 < found.recall < 0.51
    assert 0.35 < found.coverage < 0.51


def test_one_point_is_a_collapse():
    data = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    found = coverage(data, torch.zeros(300, 3))
    assert found.recall == 0
    assert found.coverage < 0.2


def test_distances_to_the_nearest():
    assert nearest_distances(torch.tensor([[0.0], [5.0]]), torch.tensor([[1.0], [7.0]])).tolist() == [1.0, 2.0]
