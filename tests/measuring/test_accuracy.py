"""Errors, speeds and biases from repetitions, with numbers by hand; noise is hardly ever taken for a bias."""

import math
from types import SimpleNamespace

import pytest
import torch

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.accuracy import bias_of, biases, energy_r_hat, rates, summarize, temperature, time_to_goal
from qvae.measuring.repetition import Point
from qvae.measuring.truth import Truth, find_truth
from qvae.sampling.diagnostics import effective_beta, expected_total_variation, r_hat
from qvae.sampling.sampler import Moments, Samples


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


def test_bias_by_hand():
    """Its square is the mean product of two repetitions' errors, less that of the reference's own error."""
    one = torch.ones(8, 1, dtype=torch.float64)
    assert bias_of(torch.tensor([[1.0], [3.0]]).double()) == (pytest.approx(math.sqrt(3)), False)
    assert bias_of(torch.tensor([[1.0, 2.0], [3.0, -1.0], [5.0, 1.0]]).double())[0] == pytest.approx(math.sqrt(22 / 6))
    assert bias_of(torch.tensor([[1.0], [-3.0]]).double()) == (0.0, False)
    assert bias_of(2 * one, 1.0) == (pytest.approx(math.sqrt(3)), True)
    assert bias_of(2 * one, 1.5) == (pytest.approx(math.sqrt(1.75)), False)  # no larger than the reference's error
    assert bias_of(one[:7]) == (pytest.approx(1.0), False)  # 64 choices of signs are too few
    assert not bias_of(torch.cat([one[:7], -0.1 * one[:1]]))[1]  # longer with one sign turned
    assert not bias_of(torch.cat([one[:7], 0 * one[:1]]))[1]  # as long with one sign turned


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


def test_an_error_bar_near_nothing_is_the_root_of_that_of_the_square():
    """Errors of 0 and 0.2: squares of 0.02 on average, 0.02 being their own error; the truth's takes half of it off."""
    points = [point_of([0.0], []), point_of([0.2], [])]
    found = summarize(points, truth_of([0.0], [], errors=(0.1, 0.0)))
    assert found["means"] == pytest.approx(0.1)
    assert found["means_stderr"] == pytest.approx(math.sqrt(0.02))
    assert (found["correlations"], found["correlations_stderr"], found["correlations_floor"]) == (0.0, 0.0, 0.0)
    assert summarize(points[:1], truth_of([0.0], []))["means_stderr"] is None  # of one nothing is known


def test_the_total_variation_stands_beside_that_of_perfect_samples():
    truth = find_truth(IsingHamiltonian([0.3, 0.0], [(0, 1)], [-0.5]), 1.0)
    points = [point_of([0.0, 0.0], [0.0], samples=count) for count in (10, 31)]
    points[0].total_variation, points[1].total_variation = 0.25, 0.5
    found = summarize(points, truth)
    assert found["total_variation"] == 0.375
    assert found["total_variation_floor"] == expected_total_variation(truth.distribution, 20)  # 20.5, to the even


def test_rates_count_perfect_samples_with_the_scatter_of_repetitions():
    """Means of -0.5, 0 and 0.5 scatter as those of four perfect samples of a fair spin: three repetitions are worth twelve."""
    truth, points = truth_of([0.0], []), [point_of([mean], []) for mean in (-0.5, 0.0, 0.5)]
    runs = [SimpleNamespace(samples=50, seconds=2.0, cpu_seconds=2.0, wall_seconds=3.0)] * 3
    found = rates(points, [point_of([0.0], [place]) for place in range(3)], runs, truth)
    assert found["samples_per_second"] == 150 / 6
    assert found["effective_samples_per_second"] == pytest.approx(4 * 3 / 6)
    assert (found["samples"], found["cpu_seconds"], found["wall_seconds"], found["identical_repeats"]) == (150, 6.0, 9.0, False)
    assert rates(points, [point_of([0.0], [1])] * 3, runs, truth)["effective_samples_per_second"] is None
    assert rates(points[:2], points[:2], runs, truth)["effective_samples_per_second"] is None  # two have no scatter to speak of
    # Correlations that scatter twice as far are worth a quarter as much, and the smaller number counts.
    wide, truth = [point_of([mean], [2 * mean]) for mean in (-0.5, 0.0, 0.5)], truth_of([0.0], [0.0])
    assert rates(wide, wide, runs, truth)["effective_samples_per_second"] == pytest.approx(1 * 3 / 6)


def test_the_time_to_the_goal_lies_on_a_straight_line_in_logarithms():
    """The goal is the error of a thousand perfect samples; twice of it at 1 s and half of it at 4 s make 2 s."""
    truth, goal = truth_of([0.0], [0.0]), 1000**-0.5
    curve = [{"cpu": 1.0, "wall": 9.0, "means": 0.1 * goal, "correlations": 2 * goal},
             {"cpu": 4.0, "wall": 16.0, "means": goal / 2, "correlations": goal / 2}]  # fmt: skip
    assert time_to_goal(curve, truth, "cpu") == pytest.approx(2.0)
    assert time_to_goal(curve, truth, "wall") == pytest.approx(12.0)
    assert time_to_goal(curve[:1], truth, "cpu") is None
    assert time_to_goal(curve[1:], truth, "cpu") == 4.0
    # From four times of it at 1 s to half of it at 8 s, two thirds of the way: 4 s. Where all spins are fixed, none are asked.
    curve = [{"cpu": 1.0, "means": 4 * goal, "correlations": 0.0}, {"cpu": 8.0, "means": goal / 2, "correlations": 0.0}]
    assert time_to_goal(curve, truth, "cpu") == pytest.approx(4.0)
    assert time_to_goal([row | {"correlations": 0.1} for row in curve], truth_of([0.0], [1.0]), "cpu") == pytest.approx(4.0)
    assert time_to_goal([curve[0], curve[1] | {"means": goal}], truth, "cpu") == pytest.approx(8.0)
    assert time_to_goal([curve[0], curve[1] | {"means": 0.0}], truth, "cpu") == 8.0  # no logarithm


def test_biases_stand_under_the_names_of_their_moments():
    truth = truth_of([0.0], [0.0], energy=(1.0, 0.0, 2.0))
    found = biases([point_of([0.1], [-0.2], energy=1.6)] * 8, truth)
    assert {key: row["size"] for key, row in found.items()} == pytest.approx({"means": 0.1, "correlations": 0.2, "energy": 0.3})


def test_the_temperature_is_that_of_the_last_samples_of_all_repetitions():
    hamiltonian, generator = IsingHamiltonian([0.5, -0.2], [(0, 1)], [-0.4]), torch.Generator().manual_seed(0)
    draws = [(2 * torch.randint(2, (300, 2), generator=generator) - 1).to(torch.int8) for _ in range(2)]
    runs = [SimpleNamespace(last=Samples(spins)) for spins in draws]
    expected = effective_beta(torch.cat([spins[:256] for spins in draws]), hamiltonian)
    found = temperature([*runs, SimpleNamespace(last=None)], hamiltonian)
    assert found == {"effective_beta": expected.value, "effective_beta_stderr": expected.stderr}
    alone = temperature([SimpleNamespace(last=Samples(torch.tensor([[-1, -1]], dtype=torch.int8)))], hamiltonian)
    assert alone["effective_beta"] is None  # no spin stands against its field: infinite, which JSON has not


def test_chains_are_compared_where_the_first_repetition_has_enough_of_their_energies():
    energies = list(torch.randn(5, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64))

    def found(rows):
        return energy_r_hat([SimpleNamespace(energies=rows), SimpleNamespace(energies=[])])

    assert found(energies) == r_hat(torch.stack(energies))
    assert found(energies[:4]) is not None
    assert found(energies[:3]) is None
    assert found([*energies, energies[0][:5]]) is None
