"""Sweeps: ordinary runs on workers, made once; what fails is a row, and what is interrupted goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import pytest
import torch
from children.sitecustomize import PIXEL
from conftest import SMALL

import qvae
from qvae.config.grid import trials
from qvae.config.load import load_config
from qvae.config.schema import Config
from qvae.errors import ConfigError, RunError
from qvae.progress import Progress
from qvae.reporting.sweep import SweptRun, failures_table, settings_table, write_sweep_report
from qvae.sweep import Outcome, make_run, sweep
from qvae.workers import Lost, Workers

GRID = {"sampler.name": ["gibbs", "nobody"]}


class Scripted(Workers):
    """One place, whose next outcomes are given; None makes the run, here."""

    def __init__(self, outcomes):
        self.scripted, self.renewed, self.configs, self.is_ended = list(outcomes), 0, [], False

    def __len__(self):
        return 1

    def submit(self, place, function, *arguments):
        future = Future()
        outcome = self.scripted.pop(0) if function.__name__ == "make_run" and self.scripted else None
        self.configs += [part for part in arguments if isinstance(part, Config)]
        if isinstance(outcome, signal.Signals):
            signal.raise_signal(outcome)
            outcome = None
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            future.set_result(outcome or function(*arguments))
        return future

    def renew(self, place):
        self.renewed += 1

    def close(self, now=False):
        self.is_ended = now


@pytest.fixture
def scripted(monkeypatch):
    """Have sweeps take workers whose outcomes are scripted."""

    def take(*outcomes):
        workers = Scripted(outcomes)
        monkeypatch.setattr("qvae.sweep.Processes", lambda number, threads: workers)
        return workers

    return take


class Kept(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)

    warn = say


def test_a_grid_is_run_folders_and_one_table(command, small, tmp_path):
    arguments = ["sweep", "digits", "--grid", "sampler.name=[gibbs,nobody]", "--seeds", 2, "--jobs", 2, *small]
    code, out, error = command(*arguments)
    assert code == 1, error
    assert "4 of 4: sampler.name-" in out
    found = json.loads((tmp_path / "sweep" / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in found] == ["finished", "failed", "finished", "failed"]
    assert found[1]["reason"].startswith("no installed sampler is called 'nobody'")
    values = [run["figures"]["log-likelihood, nats"] for run in found[::2]]
    mean, deviation = sum(values) / 2, abs(values[0] - values[1]) / 2**0.5
    assert f"{mean:.2f} ± {deviation:.2f}" in out
    assert "0 of 2" in out
    page = (tmp_path / "sweep" / "report.html").read_text()
    assert "sampler.name-nobody_seed-1" in page
    assert f"{mean:.2f} ± {deviation:.2f}" in page
    # Each is what `qvae train` makes of the same settings.
    alone = qvae.train(load_config("digits", [*SMALL, "training.seed=1"]), tmp_path / "alone")
    swept = qvae.load_run(tmp_path / "sweep" / "sampler.name-gibbs_seed-1")
    assert all(torch.equal(a, b) for a, b in zip(alone.model.parameters(), swept.model.parameters(), strict=True))


def test_what_is_finished_is_not_made_again_and_what_failed_is(scripted, tmp_path):
    scripted(None, Outcome("out of luck", ["a warning"]))
    progress = Kept()
    runs = sweep("digits", {"training.epochs": [1, 2]}, tmp_path / "out", overrides=SMALL, progress=progress)
    assert [run.status for run in runs] == ["finished", "failed"]
    assert failures_table(runs).rows == [("training.epochs-2_seed-0", "out of luck")]
    assert "training.epochs-2_seed-0: a warning" in progress.lines
    assert progress.lines[-1] == "2 of 2: training.epochs-2_seed-0: failed: out of luck"
    before = (tmp_path / "out" / "training.epochs-1_seed-0" / "model.safetensors").stat().st_mtime_ns
    scripted()
    runs = sweep("digits", {"training.epochs": [1, 2]}, tmp_path / "out", overrides=SMALL)
    assert [run.status for run in runs] == ["finished", "finished"]
    assert (tmp_path / "out" / "training.epochs-1_seed-0" / "model.safetensors").stat().st_mtime_ns == before
    table = settings_table(runs)
    assert [(row[0], row[-1]) for row in table.rows] == [("1", "1"), ("2", "1")]
    with pytest.raises(ConfigError, match="holds a run of another configuration"):
        sweep("digits", {"training.epochs": [1]}, tmp_path / "out", overrides=[*SMALL, "training.chains=64"])


def test_a_run_whose_worker_dies_is_tried_once_more(scripted, tmp_path):
    workers = scripted(Lost("worker 1 of 1"))
    progress = Kept()
    (run,) = sweep("digits", {}, tmp_path / "once", overrides=SMALL, progress=progress)
    assert (run.status, workers.renewed) == ("finished", 1)
    assert progress.lines[0] == "worker 1 of 1 died at seed-0; another one goes on with it"
    scripted(Lost("worker 1 of 1"), Lost("worker 1 of 1"))
    (run,) = sweep("digits", {}, tmp_path / "twice", overrides=SMALL)
    assert run.reason.startswith("its worker died 2 times")


def test_a_combination_that_makes_no_sense_is_a_row_and_all_of_them_an_error(scripted, tmp_path):
    scripted()
    refused, run = sweep("digits", {"model.posterior.levels": [99, 1]}, tmp_path / "out", overrides=SMALL)
    assert (refused.status, run.status) == ("failed", "finished")
    assert "posterior.levels is 99; it must be at most 8" in refused.reason
    with pytest.raises(ConfigError, match="epoch"):
        sweep("digits", {"training.epoch": [1, 2]}, tmp_path / "other")
    with pytest.raises(ConfigError, match="numbers of 1 or more"):
        sweep("digits", {}, tmp_path / "other", seeds=0)
    with pytest.raises(ConfigError, match="take --seeds NUMBER"):
        sweep("digits", {"training.seed": [1, 2]}, tmp_path / "other")


def test_a_folder_of_somebody_else_stays_as_it_is(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="is not empty and not of a sweep; choose another --out"):
        sweep("digits", {}, tmp_path)
    (tmp_path / "sweep.json").write_text("[]")
    with pytest.raises(RunError, match=r"holds a sweep\.json that is not of a sweep"):
        sweep("digits", {}, tmp_path)


def test_interrupted_runs_save_their_state_and_nobody_is_left(tmp_path, small):
    two = ["--seeds", "2", "--jobs", "2", "--out", "out", *small, "--set", "training.epochs=1000000"]
    arguments = [sys.executable, "-m", "qvae", "sweep", "digits", *two]
    done = subprocess.Popen(arguments, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    folders = [tmp_path / "out" / f"seed-{seed}" for seed in (0, 1)]
    deadline = time.monotonic() + 240
    while not all((folder / "metrics.jsonl").exists() for folder in folders) and time.monotonic() < deadline:
        time.sleep(0.1)
    holders = [int((folder / ".lock").read_text().split()[0]) for folder in folders]
    done.send_signal(signal.SIGINT)
    _, error = done.communicate(timeout=240)
    assert done.returncode == 130
    assert "interrupted; the same command goes on with what out holds" in error
    assert all((folder / "checkpoint.safetensors").exists() for folder in folders)
    for pid in holders:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_sweep_that_is_told_to_end_tells_its_workers(number, scripted, tmp_path):
    heard = []
    before = signal.signal(number, lambda *arguments: heard.append(number))
    workers = scripted(number)
    try:
        with pytest.raises(KeyboardInterrupt):
            sweep("digits", {}, tmp_path / "out", overrides=SMALL)
        signal.raise_signal(number)
    finally:
        signal.signal(number, before)
    assert workers.is_ended
    assert heard == [number]  # once more after the sweep, and not in it


def test_a_combination_wins_over_settings_and_seeds_count_from_the_configuration_s(scripted, tmp_path):
    """What each run is told of its time is that of its training's end."""
    scripted()
    runs = sweep("digits", {"training.epochs": [2]}, tmp_path / "out", seeds=2, overrides=[*SMALL, "training.seed=7"])
    assert [run.trial.name for run in runs] == ["training.epochs-2_seed-7", "training.epochs-2_seed-8"]
    for run in runs:
        metrics = qvae.load_run(tmp_path / "out" / run.trial.name).metrics
        assert [row["epoch"] for row in metrics] == [1, 2]
        assert run.seconds == metrics[-1]["seconds"]


def test_a_run_that_is_told_to_stop_does_so_and_a_later_sweep_goes_on_with_it(scripted, tmp_path):
    out = tmp_path / "out"
    scripted(Outcome("it was interrupted"))
    sweep("digits", {}, out, overrides=SMALL)
    (out / "stop").touch()
    config = load_config("digits", [*SMALL, "training.seed=0"])
    assert make_run(config, str(out / "seed-0")).failure == "it was interrupted"
    assert [row["epoch"] for row in map(json.loads, (out / "seed-0" / "metrics.jsonl").read_text().splitlines())] == [1]
    scripted()
    (run,) = sweep("digits", {}, out, overrides=SMALL)
    assert run.status == "finished"


def test_workers_have_the_users_word(scripted, tmp_path):
    workers = scripted(Outcome("out of luck"))
    (tmp_path / "mine.yaml").write_text("sampler: {name: 'a_module:Thing'}")
    sweep(tmp_path / "mine.yaml", {}, tmp_path / "out", trust=["a_module:Thing"])
    assert "a_module:Thing" in workers.configs[0].trust.words


def test_pictures_are_those_of_the_first_seed_s_finished_runs(tmp_path):
    runs = [SweptRun(trial, "finished") for trial in trials({"training.epochs": [1, 2, 3]}, [3, 4])]
    runs[1].status = "failed"
    for run in runs:
        (tmp_path / run.trial.name / "figures").mkdir(parents=True)
        (tmp_path / run.trial.name / "figures" / "samples.png").write_bytes(PIXEL)
    page = write_sweep_report(runs, tmp_path).read_text()
    assert page.count("<img") == 2
    assert "5 of 6 runs" in page
