"""Benchmarks in a folder: their results, their report, and runs that go on where they ended."""

import json

import pytest

from qvae.errors import SamplerError
from qvae.measuring import benchmark as module
from qvae.measuring.benchmark import run_benchmark
from qvae.measuring.problems import make_problem
from qvae.measuring.report import overview_table, sampler_table, write_sampler_report
from qvae.sampling.sampler import Capabilities, LatentSampler, Samples


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
    assert [(row["spins"], row["couplings"]) for row in (first, second)] == [
        (problem.hamiltonian.num_spins, len(problem.hamiltonian.J)) for problem in problems
    ]
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
    assert page.count('<img src="data:image/png;base64,') == 2
    assert "RBM with Gaussian couplings" in page


def test_progress_counts_truths_and_samplers_which_get_what_was_asked_for(known, made, small_problem, tmp_path, monkeypatch):
    told, asked = [], []

    def measured(make, hamiltonian, truth, budget, seed, progress):
        asked.append((make.args[0].label, hamiltonian.num_spins, truth.method, budget, seed))
        progress(0.5)
        return {"qpu_seconds": 7200.0}

    def found_truth(hamiltonian, fingerprint, folder, seconds, seed, progress):
        asked.append((fingerprint, folder.name, seconds, seed))
        progress(0.5)
        return module.Truth(fingerprint, *[None] * 3, 0.0, 0.0, 0.0, None, 0.0)

    monkeypatch.setattr(module, "measure_sampler", measured)
    monkeypatch.setattr(module, "cached_truth", found_truth)
    monkeypatch.setattr(module, "_describe", lambda problem, truth: {"spec": problem.spec, "samplers": []})
    problems = [small_problem, make_problem("glass:n=5")]
    specs = [made(known(), name) for name in ("a", "b", "c")]
    found = run_benchmark(
        problems, specs, tmp_path, 4.0, seed=3, qpu_price=90.0, report=lambda share, text: told.append((share, text))
    )
    steps = [f"{problem.spec}: {what}" for problem in problems for what in ("truth", "a", "b", "c")]
    shares = [(place / 2 / len(steps), steps[place // 2]) for place in range(2 * len(steps))]
    assert told == [*shares, (1.0, "done")]
    assert asked == [
        row
        for problem in problems
        for row in (
            (problem.fingerprint, "truth", 20.0, 3),  # five times the budget
            *((name, problem.hamiltonian.num_spins, problem.fingerprint, 4.0, 3) for name in ("a", "b", "c")),
        )
    ]
    settings = {"budget": 4.0, "reference_seconds": 20.0, "seed": 3, "device": "cpu", "qpu_price": 90.0}
    assert found["settings"] == settings
    assert found["problems"][1]["samplers"][2]["qpu_cost"] == 180.0  # two hours
    asked.clear()
    again = run_benchmark(problems[:1], specs[:1], tmp_path, 4.0, 20.0, seed=3)
    assert (len(asked), again["problems"][0]["samplers"][0]["qpu_seconds"]) == (1, 7200.0)  # what is kept has no price
    assert "qpu_cost" not in again["problems"][0]["samplers"][0]
    for other in ({"budget": 5.0}, {"reference_seconds": 21.0}, {"seed": 4}):
        asked.clear()
        run_benchmark(problems[:1], specs[:1], tmp_path, **({"budget": 4.0, "reference_seconds": 20.0, "seed": 3} | other))
        assert len(asked) == 2, other


def test_what_is_said_of_a_problem_and_its_truth(small_problem, small_truth):
    found = module._describe(small_problem, small_truth)
    assert (found["spins"], found["couplings"], found["transverse_field"]) == (8, 16, False)
    assert (found["spec"], found["fingerprint"]) == (small_problem.spec, small_problem.fingerprint)
    assert found["truth"] == {
        "method": "enumeration of 2^8 states", "is_exact": True, "means_error": 0.0, "correlations_error": 0.0,
        "energy_error": 0.0, "energy": small_truth.energy, "energy_sd": small_truth.energy_sd, "r_hat": None,
        "cpu_seconds": small_truth.cpu_seconds,
    }  # fmt: skip


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
