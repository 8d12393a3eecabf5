"""Training measured: a process of its own, likelihood against time, results that are kept, and failures."""

import json
from pathlib import Path

import pytest

from qvae.config.backends import BackendSpec
from qvae.config.load import load_config
from qvae.errors import RunError
from qvae.measuring import training as module
from qvae.measuring.training import benchmark_training, training_table, write_training_report


@pytest.fixture
def no_process(monkeypatch):
    def refuse(*arguments):
        raise RunError("the process that trained ended with code -9")

    monkeypatch.setattr(module, "_train_apart", refuse)


def test_the_command_and_what_it_leaves(command, small, tmp_path, monkeypatch):
    seeds = {"prior_log_partition": [], "evaluate_likelihood": []}
    for name, found in seeds.items():
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args, of=function, found=found: found.append(args[-1]) or of(*args))
    arguments = ("benchmark", "training", "digits", "--seconds", 1, "--out", "t", *small, "--set", "evaluation.seed=7")
    code, out, err = command(*arguments, "--sampler", "gibbs:sweeps=2")
    assert (code, err) == (0, "")
    assert "gibbs:sweeps=2" in out
    assert "images/s" in out
    results = json.loads((tmp_path / "t" / "results.json").read_text())
    (row,) = results["samplers"]
    assert row["status"] == "measured"
    assert row["images_per_second"] > 0
    assert row["steps"] > 0
    assert row["seconds"] == pytest.approx(1, abs=0.5)
    assert set(row["milliseconds"]) == {"forward", "negative_phase", "backward", "optimizer"}
    assert row["peak_memory_mb"] is None or 50 < row["peak_memory_mb"] < 20_000
    curve = row["curve"]
    assert list(seeds.values()) == 2 * [len(curve) * [7]]
    assert [point["step"] for point in curve] == sorted(point["step"] for point in curve)
    assert curve[-1]["step"] == row["steps"]
    assert curve[-1]["seconds"] == pytest.approx(row["seconds"])
    assert all(point["log_likelihood"] < 0 and point["log_z_stderr"] is not None for point in curve)
    assert "all 297 test images" in out
    assert (tmp_path / "t" / "report.html").exists()

    monkeypatch.setattr(module, "_train_apart", lambda *arguments: pytest.fail("trained again"))
    code, _, _ = command(*arguments, "--sampler", "gibbs:sweeps=2")
    assert code == 0
    assert json.loads((tmp_path / "t" / "results.json").read_text())["samplers"] == results["samplers"]


def test_a_training_that_fails_is_told(no_process, tmp_path, monkeypatch):
    config = load_config("digits")
    results = benchmark_training(config, [BackendSpec(name="gibbs")], 1.0, tmp_path)
    assert results["samplers"][0]["status"] == "failed"
    assert "Failed: gibbs (the process that trained ended with code -9)" in training_table(results).note
    assert "Failed: gibbs" in write_training_report(results, tmp_path).read_text()
    assert config.training.max_seconds is None  # the caller's is left alone
    tried = []
    monkeypatch.setattr(module, "_train_apart", lambda *arguments: tried.append(arguments) or {}[""])
    with pytest.raises(KeyError):
        benchmark_training(config, [BackendSpec(name="gibbs")], 1.0, tmp_path)
    assert len(tried) == 1  # a failure isn't kept


def test_speed_is_that_after_the_first_epoch_and_parts_of_a_step_are_the_last_that_were_timed(monkeypatch):
    config = load_config("digits", ["training.batch_size=20"])
    parts = {"ms_forward": 1.0, "ms_negative_phase": 2.0, "ms_backward": 3.0, "ms_optimizer": 4.0}
    rows = [
        {"step": 10, "seconds": 2.0, "qpu_seconds": 0.5, "ms_forward": 9.0},
        {"step": 30, "seconds": 4.0, "qpu_seconds": 1.0} | parts,
        {"step": 50, "seconds": 7.0, "qpu_seconds": 1.5},
    ]
    monkeypatch.setattr(module, "_rows", lambda run: rows)
    expected = {"forward": 1.0, "negative_phase": 2.0, "backward": 3.0, "optimizer": 4.0}
    assert module._speed(Path("run"), config) == {
        "steps": 50, "seconds": 7.0, "images_per_second": 20 * 40 / 5.0, "milliseconds": expected, "qpu_seconds": 1.5,
    }  # fmt: skip
    del rows[1:]
    assert module._speed(Path("run"), config)["images_per_second"] == 20 * 10 / 2.0


def test_the_clock_ends_a_training_and_snapshots_are_even():
    config = load_config("digits", ["training.epochs=3", "evaluation.log_z_chains=50"])
    short = module._shortened(config, 8.0)
    assert (short.training.max_seconds, short.training.checkpoint_seconds) == (8.0, 8.0 / module.SNAPSHOTS)
    assert short.training.epochs >= 10**6
    assert (short.evaluation.log_z_chains, short.evaluation.log_z_temperatures) == (50, 500)
    assert config.training.epochs == 3


def test_seconds_between_two_ends_of_epochs():
    rows = [{"step": 0, "seconds": 0.0}, {"step": 10, "seconds": 2.0}, {"step": 20, "seconds": 3.0}]
    assert [module._seconds_at(step, rows) for step in (0, 5, 10, 15, 20, 30)] == [0.0, 1.0, 2.0, 2.5, 3.0, 3.0]
