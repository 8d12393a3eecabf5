"""Samplers measured: perfect ones stay at the floor, and faulty ones are seen as such."""

import math
from functools import partial

import pytest
import torch

from qvae.config.backends import BackendSpec
from qvae.errors import SamplerError
from qvae.measuring import samplers as module
from qvae.measuring.problems import make_problem
from qvae.measuring.repetition import CHAINS, Repetition
from qvae.measuring.samplers import REPEATS, measure_sampler
from qvae.measuring.specs import make_seeded
from qvae.measuring.truth import find_truth
from qvae.sampling.sampler import Capabilities, Samples

SIGMAS = 5.0


def test_a_perfect_sampler_stays_at_the_floor(known, small_problem, small_truth):
    found = measure_sampler(known(), small_problem.hamiltonian, small_truth, budget=20.0)
    samples = [point["samples"] for point in found["curve"]]
    assert samples == pytest.approx([16, 32, 64, 128, 256, 512, 1024, 2000], abs=2)  # a share of two seconds is 2,000 samples
    assert found["repeats"] == REPEATS
    for key in ("means", "correlations", "energy"):
        for point in found["curve"]:
            # Ten repetitions of one quantity scatter most: the energy's mean square has 10 degrees of freedom.
            assert 0.3 < point[key] / point[f"{key}_floor"] < 2.2
        first, last = found["curve"][0], found["curve"][-1]
        slope = math.log(first[key] / last[key]) / math.log(last["samples"] / first["samples"])
        assert slope == pytest.approx(0.5, abs=0.25)
        assert not found["bias"][key]["is_certain"]
    for point in found["curve"]:
        assert point["total_variation"] == pytest.approx(point["total_variation_floor"], rel=0.15)
    assert found["samples_per_second"] == pytest.approx(1000)
    # Its variance, over ten repetitions of 8 means and more correlations, is known to about 20 %.
    assert 400 < found["effective_samples_per_second"] < 1600
    assert 0.5 < found["seconds_to_goal"] < 2
    assert abs(found["effective_beta"] - 1) < SIGMAS * found["effective_beta_stderr"]
    assert found["qpu_seconds"] is found["r_hat"] is None


@pytest.mark.parametrize("remote", [False, True])
def test_repetitions_share_the_budget_and_have_seeds_of_their_own(remote, known, small_problem, small_truth, monkeypatch):
    """The first sampler is asked what it can; one that is remote serves all repetitions, as it is to connect once."""
    seeds, shares, function = [], [], known(call=0.0, each=0.01)

    def make(seed):
        seeds.append(seed)
        sampler = function(seed)
        sampler.capabilities = Capabilities(remote=remote)
        return sampler

    monkeypatch.setattr(module, "time_to_goal", lambda curve, truth, clock: clock)
    found = measure_sampler(make, small_problem.hamiltonian, small_truth, 40.0, seed=2, progress=shares.append)
    assert found["seconds_to_goal"] == ("wall_seconds" if remote else "cpu_seconds")
    assert seeds == ([20] if remote else [20, 0, *range(21, 30)])  # one is made to load what is loaded once
    assert shares == pytest.approx([number / 10 for number in range(1, 11)], abs=2e-3)  # to a sample
    assert (found["clock"], found["repeats"]) == ("wall" if remote else "cpu", 10)
    assert found["samples"] == pytest.approx(4000, abs=10)


def test_averages_of_a_repetition_are_those_of_all_its_samples(known, small_problem, small_truth):
    """Two calls of weighted samples, of different sizes, by hand."""
    hamiltonian, draws = small_problem.hamiltonian, []
    run = Repetition(known()(0), hamiltonian, small_truth)
    for count, weights in ((3, [0.5, 0.25, 0.25]), (1, None)):
        spins = 2 * torch.randint(2, (count, 8), generator=torch.Generator().manual_seed(count)).to(torch.int8) - 1
        run._add(Samples(spins, None if weights is None else torch.tensor(weights)))
        draws += [(spin.double(), weight * count / 4) for spin, weight in zip(spins, weights or [1.0], strict=True)]
    point = run.point()
    edges = hamiltonian.edges
    assert point.samples == 4
    assert point.means.tolist() == pytest.approx(sum(spins * weight for spins, weight in draws).tolist())
    products = sum(spins[edges[:, 0]] * spins[edges[:, 1]] * weight for spins, weight in draws)
    assert point.pairs.tolist() == pytest.approx(products.tolist())
    energies = [float(spins @ hamiltonian.h.double() + (spins[edges[:, 0]] * spins[edges[:, 1]]) @ hamiltonian.J.double())
                for spins, _ in draws]  # fmt: skip
    assert point.energy == pytest.approx(sum(energy * weight for energy, (_, weight) in zip(energies, draws, strict=True)))
    states = small_truth.distribution.spins().tolist()
    drawn = [sum(weight for spins, weight in draws if spins.tolist() == state) for state in states]
    exact = small_truth.distribution.probabilities.tolist()
    assert point.total_variation == pytest.approx(sum(abs(p - q) for p, q in zip(drawn, exact, strict=True)) / 2)


def test_the_clock_of_samplers_that_work_elsewhere_is_that_of_the_wall(known, small_problem, small_truth):
    for options, clock in (({}, "cpu"), ({"remote": True}, "wall"), ({"computes_here": False}, "wall")):
        sampler = known()(0)
        sampler.capabilities = Capabilities(**options)
        run = Repetition(sampler, small_problem.hamiltonian, small_truth)
        run.cpu_seconds, run.wall_seconds = 1.0, 2.0
        assert (run.clock, run.seconds) == (clock, {"cpu": 1.0, "wall": 2.0}[clock])


def test_calls_with_a_price_of_their_own_are_not_shrunk(known, small_problem, small_truth):
    found = measure_sampler(known(call=0.5, each=0.0), small_problem.hamiltonian, small_truth, budget=20.0)
    assert [point["samples"] for point in found["curve"]] == [16, 32, 64, 128]  # four calls in each share


def test_a_sampler_at_another_temperature_is_seen(known, small_problem, small_truth):
    found = measure_sampler(known(beta=0.7), small_problem.hamiltonian, small_truth, budget=20.0)
    assert abs(found["effective_beta"] - 0.7) < SIGMAS * found["effective_beta_stderr"]
    tempered = make_problem("rbm-critical:4x4,beta=0.7")
    shift = find_truth(tempered.hamiltonian, 1.0).moments.pairs - small_truth.moments.pairs
    bias = found["bias"]["correlations"]
    assert bias["is_certain"]
    assert bias["size"] == pytest.approx(float(shift.square().mean().sqrt()), rel=0.2)
    assert found["seconds_to_goal"] is None
    last = found["curve"][-1]
    assert last["total_variation"] > last["total_variation_floor"] + 0.05


def test_a_known_bias_is_measured(known, small_problem, small_truth):
    def spoil(spins):
        spins[::5, 0] = 1  # a fifth of the samples has its first spin up
        return spins

    found = measure_sampler(known(spoil=spoil), small_problem.hamiltonian, small_truth, budget=40.0)
    expected = (1 - float(small_truth.moments.spins[0])) / 5 / math.sqrt(8)
    assert found["bias"]["means"]["is_certain"]
    assert found["bias"]["means"]["size"] == pytest.approx(expected, rel=0.25)


def test_correlated_chains_are_worth_fewer_samples(known, chains, small_problem, small_truth):
    found = measure_sampler(known(chains, each=1e-4), small_problem.hamiltonian, small_truth, budget=20.0)
    assert found["persistent"]
    assert found["curve"][-1]["samples"] % CHAINS == 0
    assert 0.1 < found["effective_samples_per_second"] / found["samples_per_second"] < 0.6  # a quarter is new
    assert found["r_hat"] is not None


def test_the_same_samples_every_time_are_told(known, small_problem, small_truth):
    make = known()
    found = measure_sampler(lambda seed: make(0), small_problem.hamiltonian, small_truth, budget=5.0)
    assert found["identical_repeats"]
    assert found["effective_samples_per_second"] is None


def test_one_slow_call_is_made_whatever_it_takes(known, small_problem, small_truth):
    found = measure_sampler(known(call=100.0), small_problem.hamiltonian, small_truth, budget=1.0)
    assert (found["repeats"], len(found["curve"])) == (1, 1)
    assert found["effective_samples_per_second"] is None


def test_what_are_no_samples_are_refused(known, small_problem, small_truth):
    for spoil, message in ((lambda spins: spins[:-1], "spins of shape"), (lambda spins: 0 * spins, "they must be -1 or")):
        with pytest.raises(SamplerError, match=message):
            measure_sampler(known(spoil=spoil), small_problem.hamiltonian, small_truth, budget=1.0)


def test_registered_backends_are_measured(small_problem, small_truth):
    for name in ("gibbs", "exact"):
        make = partial(make_seeded, BackendSpec(name=name))
        found = measure_sampler(make, small_problem.hamiltonian, small_truth, budget=0.2)
        assert found["clock"] == "cpu"
        assert not found["bias"]["correlations"]["is_certain"]
        assert abs(found["effective_beta"] - 1) < 6 * found["effective_beta_stderr"]
