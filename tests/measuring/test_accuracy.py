"""Errors, speeds and biases from repetitions, with numbers by hand; noise is hardly ever taken for a bias."""

import math
from types import SimpleNamespace

import pytest
import torch

from qvae.measuring.accuracy import bias_of, biases, rates, summarize, time_to_goal
from qvae.measuring.repetition import Point
from qvae.measuring.truth import Truth
from qvae.sampling.sampler import Moments


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


def truth_of(spins, pairs, errors=(0.0, 0.0), energy=(0.0, 0.0, 2.0)):
    """The truth of so many spins and couplings, with its errors, and the energy's mean, error and spread."""
    moments = Moments(torch.tensor(spins).double(), torch.tensor(pairs).double())
    wrong = (torch.full_like(part, error) for part, error in zip((moments.spins, moments.pairs), errors, strict=True))
    return Truth("by hand", moments, *wrong, *energy, None, 0.0)


def point_of(means, pairs, energy=0.0, samples=100, seconds=(1.0, 2.0)):
    return Point(samples, *seconds, torch.tensor(means).double(), torch.tensor(pairs).double(), energy, None)


def test_errors_are_root_mean_squares_beside_those_of_perfect_samples():
    """Means are off by 0.3 and 0.1, then by 0.5 twice: squares of 0.05 and 0.25, of which the truth's own 0.0025 goes off."""
    truth = truth_of([0.0, 0.6], [0.8], errors=(0.05, 0.0))
    later = {"energy": -1.0, "samples": 300, "seconds": (3.0, 4.0)}
    points = [point_of([0.3, 0.7], [0.8], energy=1.0), point_of([0.5, 0.1], [0.4], **later)]
    found = summarize(points, truth)
    assert (found["samples"], found["cpu_seconds"], found["wall_seconds"]) == (200, 2.0, 3.0)
    assert found["means"] == pytest.approx(math.sqrt(0.15 - 0.0025))
    assert found["means_stderr"] == pytest.approx(0.2 / math.sqrt(2) / math.sqrt(2) / (2 * found["means"]))
    assert found["means_floor"] == pytest.approx(math.sqrt((1 + 0.64) / 2 / 200))
    assert found["correlations"] == pytest.approx(math.sqrt(0.16 / 2))
    assert found["correlations_floor"] == pytest.approx(math.sqrt(0.36 / 200))
    assert found["energy"] == pytest.approx(0.5)  # in standard deviations
    assert found["energy_floor"] == pytest.approx(200**-0.5)
    assert found["total_variation"] is None


def test_rates_count_perfect_samples_with_the_scatter_of_repetitions():
    """Means of -0.5, 0 and 0.5 scatter as those of four perfect samples of a fair spin: three repetitions are worth twelve."""
    truth, points = truth_of([0.0], []), [point_of([mean], []) for mean in (-0.5, 0.0, 0.5)]
    runs = [SimpleNamespace(samples=50, seconds=2.0, cpu_seconds=2.0, wall_seconds=3.0)] * 3
    found = rates(points, [point_of([0.0], [place]) for place in range(3)], runs, truth)
    assert found["samples_per_second"] == 150 / 6
    assert found["effective_samples_per_second"] == pytest.approx(4 * 3 / 6)
    assert (found["samples"], found["cpu_seconds"], found["wall_seconds"], found["identical_repeats"]) == (150, 6.0, 9.0, False)
    assert rates(points, [point_of([0.0], [1])] * 3, runs, truth)["effective_samples_per_second"] is None


def test_the_time_to_the_goal_lies_on_a_straight_line_in_logarithms():
    """The goal is the error of a thousand perfect samples; twice of it at 1 s and half of it at 4 s make 2 s."""
    truth, goal = truth_of([0.0], [0.0]), 1000**-0.5
    curve = [{"cpu": 1.0, "wall": 9.0, "means": 0.1 * goal, "correlations": 2 * goal},
             {"cpu": 4.0, "wall": 16.0, "means": goal / 2, "correlations": goal / 2}]  # fmt: skip
    assert time_to_goal(curve, truth, "cpu") == pytest.approx(2.0)
    assert time_to_goal(curve, truth, "wall") == pytest.approx(12.0)
    assert time_to_goal(curve[:1], truth, "cpu") is None
    assert time_to_goal(curve[1:], truth, "cpu") == 4.0


def test_biases_stand_under_the_names_of_their_moments():
    truth = truth_of([0.0], [0.0], energy=(1.0, 0.0, 2.0))
    found = biases([point_of([0.1], [-0.2], energy=1.6)] * 8, truth)
    assert {key: row["size"] for key, row in found.items()} == pytest.approx({"means": 0.1, "correlations": 0.2, "energy": 0.3})
