"""Samplers measured: perfect ones stay at the floor, faulty ones are seen as such, and runs go on where they ended."""

import json
import math
from functools import partial

import pytest
import torch

from qvae.config.schema import BackendSpec
from qvae.errors import ConfigError, SamplerError
from qvae.measuring.problems import make_problem
from qvae.measuring.report import overview_table, sampler_table, write_sampler_report
from qvae.measuring.samplers import (
    CHAINS,
    REPEATS,
    bias_of,
    local_samplers,
    make_seeded,
    measure_sampler,
    parse_sampler,
    run_benchmark,
)
from qvae.measuring.truth import find_truth
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples

SIGMAS = 5.0


@pytest.fixture(scope="module")
def small_problem():
    return make_problem("rbm-critical:4x4")


@pytest.fixture(scope="module")
def small_truth(small_problem):
    return find_truth(small_problem.hamiltonian, 1.0)


# Measuring ------------------------------------------------------------------------------------------------------------


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


def test_registered_backends_are_measured(small_problem, small_truth):
    for name in ("gibbs", "exact"):
        make = partial(make_seeded, BackendSpec(name=name))
        found = measure_sampler(make, small_problem.hamiltonian, small_truth, budget=0.2)
        assert found["clock"] == "cpu"
        assert not found["bias"]["correlations"]["is_certain"]
        assert abs(found["effective_beta"] - 1) < 6 * found["effective_beta_stderr"]


# Specifications -------------------------------------------------------------------------------------------------------


def test_samplers_with_options():
    spec = parse_sampler("gibbs:sweeps=50,persistent=false")
    assert (spec.name, spec.options) == ("gibbs", {"sweeps": 50, "persistent": False})
    assert parse_sampler(BackendSpec(name="gibbs", options={"sweeps": 50, "persistent": False}).label).options == spec.options
    nested = parse_sampler("dimod:parameters={beta_range: [0.1, 1.0], num_sweeps: 10},held=0.5")
    assert nested.options == {"parameters": {"beta_range": [0.1, 1.0], "num_sweeps": 10}, "held": 0.5}
    with pytest.raises(SamplerError, match="no installed sampler is called 'gibs'"):
        parse_sampler("gibs")
    with pytest.raises(SamplerError, match="has no option 'sweep'"):
        parse_sampler("gibbs:sweep=3")
    with pytest.raises(ConfigError):
        parse_sampler("gibbs:sweeps")


def test_only_local_samplers_take_part_unnamed(monkeypatch):
    from qvae.measuring import samplers as module
    from qvae.plugins import PluginInfo

    infos = [
        PluginInfo("here", "p", "1", Capabilities()),
        PluginInfo("far", "p", "1", Capabilities(remote=True)),
        PluginInfo("broken", "p", "1", None, "needs the module x"),
    ]
    monkeypatch.setattr(module, "sampler_infos", lambda: infos)
    chosen, left_out = local_samplers()
    assert [spec.name for spec in chosen] == ["here"]
    assert left_out["broken"] == "needs the module x"
    assert "may cost money" in left_out["far"]


# The benchmark --------------------------------------------------------------------------------------------------------


class Remote(LatentSampler):
    """A remote sampler that says what it took of a QPU."""

    capabilities = Capabilities(remote=True, max_spins=10)

    def __init__(self, inner):
        self.inner = inner

    def _sample(self, hamiltonian, num_samples):
        return Samples(self.inner.sample(hamiltonian, num_samples).spins, info={"qpu_seconds": 0.5})


def test_results_and_report(known, made, small_problem, tmp_path):
    def fail(seed):
        raise RuntimeError("the machine is on fire.")

    specs = [
        made(known(), "good"),
        made(known(beta=0.7), "hot"),
        made(fail, "burning"),
        made(lambda seed: Remote(known()(seed)), "far"),
    ]
    problems = [small_problem, make_problem("glass:n=11")]
    results = run_benchmark(problems, specs, tmp_path, budget=40.0, qpu_price=3600.0)
    assert json.loads((tmp_path / "results.json").read_text()) == results
    assert set(results) == {"schema", "qvae", "created", "environment", "settings", "left_out", "problems"}
    first, second = results["problems"]
    assert {"spec", "origin", "size", "spins", "couplings", "transverse_field", "fingerprint"} < set(first)
    good, _, burning, far = first["samplers"]
    assert [row["status"] for row in first["samplers"]] == ["measured", "measured", "failed", "measured"]
    assert burning["reason"] == "RuntimeError: the machine is on fire"
    assert {"clock", "repeats", "seconds_to_goal", "curve", "bias", "effective_beta", "qpu_seconds"} <= set(good)
    assert far["clock"] == "wall"
    assert far["qpu_seconds"] == far["qpu_cost"] > 0
    excluded = second["samplers"][3]
    assert (excluded["status"], excluded["reason"]) == ("excluded", "it takes at most 10 spins")
    table = sampler_table(first)
    assert table.header[-2:] == ("QPU s", "price")
    assert "burning (RuntimeError: the machine is on fire)" in table.note
    assert "hot samples at another temperature: beta = 0." in table.note
    assert "hot is biased" in table.note
    assert "good is biased" not in table.note
    assert overview_table(results).rows[0][1] in ("good", "far")
    page = write_sampler_report(results, tmp_path).read_text()
    assert page.count("<img src=\"data:image/png;base64,") == 2
    assert "RBM with Gaussian couplings" in page


def test_an_interrupted_benchmark_goes_on(known, made, small_problem, tmp_path):
    calls = []

    def counted(name, make, interrupt=False):
        def function(seed):
            if interrupt:
                raise KeyboardInterrupt
            calls.append(name)
            return make(seed)

        return made(function, name)

    with pytest.raises(KeyboardInterrupt):
        run_benchmark([small_problem], [counted("a", known()), counted("b", known(), True)], tmp_path, budget=1.0)
    assert set(calls) == {"a"}
    calls.clear()
    specs = [counted("a", known()), counted("b", known())]
    first = run_benchmark([small_problem], specs, tmp_path, budget=1.0)
    assert set(calls) == {"b"}
    calls.clear()
    again = run_benchmark([small_problem], specs, tmp_path, budget=1.0)
    assert again["problems"][0]["samplers"] == first["problems"][0]["samplers"]
    assert calls == []
    run_benchmark([small_problem], specs, tmp_path, budget=2.0)
    assert set(calls) == {"a", "b"}


def test_a_failure_is_tried_again(known, made, small_problem, tmp_path):
    def fail(seed):
        raise SamplerError("not today.")

    result = run_benchmark([small_problem], [made(fail, "a")], tmp_path, budget=1.0)
    assert result["problems"][0]["samplers"][0]["status"] == "failed"
    result = run_benchmark([small_problem], [made(known(), "a")], tmp_path, budget=1.0)
    assert result["problems"][0]["samplers"][0]["status"] == "measured"


def test_the_command(command, tmp_path):
    arguments = ("benchmark", "samplers", "--problem", "glass:n=4", "--sampler", "exact", "--sampler", "gibbs:sweeps=2")
    code, out, err = command(*arguments, "--budget", 0.05, "--out", "b")
    assert (code, err) == (0, "")
    assert "gibbs:sweeps=2" in out
    assert "enumeration of 2^4 states" in out
    assert (tmp_path / "b" / "report.html").exists()
    code, _, err = command("benchmark", "samplers", "--problem", "glas")
    assert code == 2
    assert "did you mean 'glass'" in err
    code, _, err = command(*arguments, "--device", "tpu")
    assert code == 2
    assert "it must be auto, cpu, cuda" in err
