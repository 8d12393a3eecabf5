"""Pieces of a benchmark: samplers that are closed, what is excluded, a training in a process of its own, and the machine."""

import json
import threading
import time
from types import SimpleNamespace

import pytest
import torch

from qvae.config.load import load_config
from qvae.errors import CapabilityError, ConfigError, RunError
from qvae.measuring import benchmark, candidates, machine, recommend, training
from qvae.measuring.samplers import REPEATS, measure_sampler
from qvae.sampling.sampler import Capabilities


@pytest.mark.parametrize(("is_remote", "number"), [(False, REPEATS), (True, 1)])
def test_every_sampler_is_closed(is_remote, number, known, small_problem, small_truth):
    make, made, closed = known(), [], []

    def closing(seed):
        sampler = make(seed)
        sampler.capabilities = Capabilities(remote=is_remote)
        sampler.close = lambda: closed.append(seed)
        made.append(seed)
        return sampler

    shares = []
    found = measure_sampler(closing, small_problem.hamiltonian, small_truth, 1.0, 3, shares.append)
    seeds = [REPEATS * 3 + repeat for repeat in range(number)]
    assert closed == seeds
    assert [seed for seed in made if seed] == seeds  # and one of seed 0 that warms up
    assert (len(made), found["repeats"]) == (number + (not is_remote), REPEATS)
    assert shares == sorted(shares)
    assert 0 < shares[0] <= shares[-1] <= 1


def test_a_sampler_that_fails_is_closed(known, small_problem, small_truth):
    sampler, closed = known()(0), []
    sampler.close = lambda: closed.append(True)
    sampler._sample = lambda *given: None
    with pytest.raises(Exception, match="returned no samples"):
        measure_sampler(lambda seed: sampler, small_problem.hamiltonian, small_truth, 1.0, 0, lambda share: None)
    assert closed == [True]


def test_a_sampler_that_finds_out_late_is_excluded_too(known, small_problem, small_truth, monkeypatch):
    def refuse(*given):
        raise CapabilityError("it can't embed it.")

    monkeypatch.setattr(benchmark, "measure_sampler", refuse)
    settings = {"device": "cpu", "budget": 1.0, "seed": 0}
    found = benchmark._outcome(small_problem, known(), small_truth, settings, lambda share: None)
    assert found == {"status": "excluded", "reason": "it can't embed it"}

    def fail(*given):
        raise ValueError

    monkeypatch.setattr(benchmark, "measure_sampler", fail)
    found = benchmark._outcome(small_problem, known(), small_truth, settings, lambda share: None)
    assert found == {"status": "failed", "reason": "ValueError"}


def test_a_prior_that_no_sampler_draws_needs_no_recommendation(monkeypatch):
    def refuse(*given, **options):
        raise ConfigError("model: it needs a run.")

    monkeypatch.setattr(recommend, "make_model", refuse)
    with pytest.raises(ConfigError, match=r"^model: it needs a run; or give the folder of a run\.$"):
        recommend._prior("digits", 1.0, [], [])


def test_candidates_are_closed_after_each_repetition(known, small_problem, small_truth):
    closed, make = [], known()

    def closing(spec, seed):
        sampler = make(seed)
        sampler.close = lambda: closed.append(seed)
        return sampler

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(candidates, "make_seeded", closing)
        found = list(candidates._repetitions(None, small_problem.hamiltonian, small_truth, 10, 0.0, 1e9, []))
        assert (len(found), closed) == (8, list(range(1000, 1008)))
        patch.setattr(candidates, "_call", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            next(candidates._repetitions(None, small_problem.hamiltonian, small_truth, 10, 0.0, 1e9, []))
    assert closed[8:] == [1000]


# A training in a process of its own ---------------------------------------------------------------------------------------


class Process:
    """One that ends at its third look, unless it is killed; it leaves an outcome behind, if there is one."""

    exitcode = -9

    def __init__(self, target, args):
        self.looks, self.killed, (self.config, self.folder) = 0, 0, args

    def start(self):
        pass

    def is_alive(self):
        return self.looks < 3 and not self.killed

    def join(self, seconds=None):
        self.looks += 1

    def terminate(self):
        self.killed += 1


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        ({"peak_memory_mb": 5.0}, None),
        ({"error": "SamplerError: no."}, "^SamplerError: no.$"),
        (None, "^the process that trained ended with code -9$"),
    ],
)
def test_what_a_process_leaves(outcome, expected, tmp_path, monkeypatch):
    now, shares, made = [0.0], [], []

    def look():
        now[0] += 1.0
        return now[0]

    monkeypatch.setattr(training.time, "perf_counter", look)
    context = SimpleNamespace(Process=lambda **given: made.append(Process(**given)) or made[0])
    monkeypatch.setattr(training.multiprocessing, "get_context", lambda kind: context if kind == "spawn" else None)
    if outcome is not None:
        (tmp_path / "outcome.json").write_text(json.dumps(outcome))
    if expected is None:
        assert training._train_apart("config", tmp_path, 2.0, shares.append) == outcome
        assert shares == [0.5, 1.0, 1.0]
    else:
        with pytest.raises(RunError, match=expected):
            training._train_apart("config", tmp_path, 2.0, shares.append)
    assert (made[0].config, made[0].folder, made[0].killed) == ("config", tmp_path, 0)


def test_an_interrupted_training_is_ended(tmp_path, monkeypatch):
    made = []

    def interrupted(share):
        raise KeyboardInterrupt

    context = SimpleNamespace(Process=lambda **given: made.append(Process(**given)) or made[0])
    monkeypatch.setattr(training.multiprocessing, "get_context", lambda kind: context)
    with pytest.raises(KeyboardInterrupt):
        training._train_apart("config", tmp_path, 2.0, interrupted)
    assert made[0].killed == 1


@pytest.mark.parametrize(("fails", "taken", "told"), [(True, 0, None), (False, 0, None), (False, 3 * 2**20, 3.0)])
def test_every_model_that_is_saved_is_kept_and_errors_are_told(fails, taken, told, tmp_path, monkeypatch):
    def train(config, out):
        out.mkdir()
        for content in ("first", "second"):
            training.atomic_write_text(out / training.MODEL, content)
            for _ in range(500):
                if content in kept():
                    break
                time.sleep(0.01)
        if fails:
            raise ValueError("two\n lines")

    def kept():
        return [file.read_text() for file in sorted((tmp_path / "models").glob(f"*/{training.MODEL}"))]

    monkeypatch.setattr(training.qvae, "train", train)
    monkeypatch.setattr(training, "_end_with_parent", lambda: None)
    monkeypatch.setattr(training, "_peak_memory", lambda: 7.5)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: taken)
    training._train(None, tmp_path)
    outcome = json.loads((tmp_path / "outcome.json").read_text())
    memory = {"peak_memory_mb": 7.5, "peak_device_memory_mb": told}
    assert outcome == ({"error": "ValueError: two lines"} if fails else memory)
    assert kept() == ["first", "second"]
    assert not [thread for thread in threading.enumerate() if thread.name.endswith("(_keep_models)")]


def test_the_peak_of_a_process_in_megabytes(monkeypatch):
    class Status:
        text = "Name:\tpython\nVmPeak:\t  999 kB\nVmHWM:\t    2048 kB\n"

        def read_text(self, encoding):
            return self.text

    monkeypatch.setattr(training, "Path", lambda path: Status() if path == "/proc/self/status" else None)
    assert training._peak_memory() == 2.0
    import resource

    Status.text = "Name:\tpython\n"
    monkeypatch.setattr(resource, "getrusage", lambda who: SimpleNamespace(ru_maxrss=3 * 2**20))
    for platform, expected in (("linux", 3 * 1024.0), ("darwin", 3.0)):
        monkeypatch.setattr(training, "sys", SimpleNamespace(platform=platform))
        assert training._peak_memory() == expected


def test_a_training_that_is_short_keeps_its_own_smaller_numbers():
    keys = ["training.epochs=2000000", "evaluation.log_z_chains=900", "evaluation.log_z_temperatures=30"]
    short = training._shortened(load_config("digits", keys), 8.0)
    assert short.training.epochs == 2_000_000
    found = short.evaluation
    assert (found.log_z_chains, found.log_z_temperatures) == (200, 30)
    assert (found.num_test, found.importance_samples, found.num_generated, found.probes, found.tsne_every) == (
        20,
        2,
        0,
        False,
        0,
    )


def test_the_machine(monkeypatch):
    found = machine.environment(torch.device("cpu"))
    assert found["device"] == "cpu"
    assert found["threads"] == torch.get_num_threads()
    assert found["qvae"] == benchmark.qvae.__version__
    for text, expected in (("vendor\t: x\nmodel name\t: A: chip \nmodel name\t: B\n", "A: chip"), ("vendor\t: x\n", "other")):
        monkeypatch.setattr(machine, "Path", lambda path, text=text: SimpleNamespace(read_text=lambda encoding: text))
        monkeypatch.setattr(machine.platform, "processor", lambda: "other")
        assert machine._processor() == expected

    def none(path):
        raise FileNotFoundError

    monkeypatch.setattr(machine, "Path", none)
    assert machine._processor() == "other"
