"""How many runs of a sweep are made at once, how much of it is done, and what numbers make none."""

import json

import pytest

from qvae.config.grid import trials
from qvae.config.load import load_config
from qvae.errors import ConfigError, RunError
from qvae.progress import Progress
from qvae.reporting.sweep import SweptRun
from qvae.search import Search
from qvae.sweep import _in_words, _Sweep, make_run, sweep


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"seeds": 0}, "numbers of 1 or more"),
        ({"number": 0}, "numbers of 1 or more"),
        ({"jobs": 0}, "numbers of 1 or more"),
        ({"number": 1, "search": Search("random")}, "a search exclude each other; drop one, or search by the sampler random"),
    ],
)
def test_numbers_that_make_no_sweep(options, words, tmp_path):
    with pytest.raises(ConfigError, match=words):
        sweep("digits", {"training.epochs": [1]}, tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("jobs", "runs", "settled", "places", "threads"),
    [(None, 8, 0, 7, 1), (None, 2, 0, 2, 3), (8, 9, 0, 8, 1), (1, 5, 0, 1, 7), (3, 5, 4, 1, 2), (None, 5, 3, 2, 1)],
)
def test_as_many_at_once_as_there_are_processors_or_runs(jobs, runs, settled, places, threads, tmp_path, monkeypatch):
    """Threads are those of a sweep of which nothing is settled yet, whose bits a run has in any case."""
    asked, enter = [], _Sweep.enter

    def entered(self, chosen):
        todo = enter(self, chosen)
        for _ in range(settled):
            todo.popleft().status = "failed"
        return todo

    class Full(Exception):
        pass

    def take(number, threads):
        asked.append((number, threads))
        raise Full

    monkeypatch.setattr("qvae.sweep.Processes", take)
    monkeypatch.setattr("qvae.sweep.processors", lambda: 7)
    monkeypatch.setattr(_Sweep, "enter", entered)
    with pytest.raises(Full):
        sweep("digits", {"training.epochs": list(range(1, runs + 1))}, tmp_path / "out", jobs=jobs)
    assert asked == [(places, threads)]
    found = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert [run["status"] for run in found["runs"]] == ["failed"] * settled + ["waiting"] * (runs - settled)
    assert "search" not in found


def test_what_is_at_work_counts_by_its_epochs_or_its_clock(tmp_path, monkeypatch):
    """Of four runs two have ended; the others have done a quarter of their epochs, and half of their time."""
    keys = [["training.epochs=8"], ["training.epochs=100", "training.max_seconds=10"]]
    made = _Sweep(tmp_path, lambda trial: load_config("digits", keys[trial.seed % 2]), Progress(), None)
    todo = made.enter(trials({}, range(4)))
    made.runs[0].status, made.runs[1].status = "finished", "failed"
    rows = {"seed-2": [{"epoch": 2, "seconds": 1.0}], "seed-3": [{"epoch": 3, "seconds": 5.0}]}
    monkeypatch.setattr("qvae.sweep.read_metrics", lambda folder: rows.get(folder.name, []))
    assert (len(todo), made.size, made.num_settled) == (4, 4, 2)
    assert made._share(made.runs[2:]) == pytest.approx((2 + 0.25 + 0.5) / 4)
    rows["seed-2"] = [{"epoch": 9, "seconds": 1.0}]
    assert made._share(made.runs[2:3]) == pytest.approx(3 / 4)
    rows.clear()
    assert made._share(made.runs[2:]) == 2 / 4


def test_a_run_in_words():
    run = SweptRun(trials({}, [0])[0], "finished", figures={"log-likelihood, nats": -1.234, "ELBO, nats": -2.0}, seconds=75.2)
    assert _in_words(run) == "log-likelihood, nats -1.23, 1:15 of training"
    run.seconds = None
    assert _in_words(run) == "log-likelihood, nats -1.23"
    run.status, run.reason = "failed", "out of luck"
    assert _in_words(run) == "failed: out of luck"


def test_what_fails_on_a_worker_is_an_outcome_with_the_warnings_before_it(tmp_path, monkeypatch):
    for error, failure in (
        (KeyboardInterrupt(), "it was interrupted"),
        (ValueError("two\nlines."), "ValueError: two lines"),
        (SystemExit(3), "SystemExit: 3"),
        (RunError("no space."), "no space"),
        (None, ""),
    ):

        def make(config, folder, heard, observers, error=error):
            heard.warn("it looks odd")
            heard.say("not kept")
            if error is not None:
                raise error

        monkeypatch.setattr("qvae.sweep.make", make)
        outcome = make_run(None, str(tmp_path / "run"))
        assert (outcome.failure, outcome.warnings) == (failure, ["it looks odd"])


def test_a_run_that_can_t_be_sent_has_failed(tmp_path):
    said = []

    class Kept(Progress):
        def say(self, text):
            said.append(text)

    class Workers:
        def result(self, place, future):
            raise TypeError("it can't be pickled")

    made = _Sweep(tmp_path, lambda trial: load_config("digits"), Kept(), None)
    (run,) = made.enter(trials({}, [0]))
    assert made._is_settled(run, 0, None, Workers())
    assert (run.status, run.reason) == ("failed", "it couldn't be sent to a worker: TypeError: it can't be pickled")
    assert said == [f"1 of 1: seed-0: failed: {run.reason}"]
    assert json.loads((tmp_path / "sweep.json").read_text())["runs"][0]["status"] == "failed"


def test_a_finished_run_has_its_merits_and_the_seconds_of_its_last_epoch(tmp_path, monkeypatch):
    made = _Sweep(tmp_path, lambda trial: load_config("digits"), Progress(), None)
    (run,) = made.enter(trials({}, [4]))
    epochs = [{"epoch": 1, "seconds": 2.5}, {"epoch": 2, "seconds": 7.25}]
    monkeypatch.setattr("qvae.sweep.read_record", lambda file, kind: file)
    monkeypatch.setattr("qvae.sweep.merits", lambda found: {"ELBO, nats": -3.0} if found.parent.name == "seed-4" else {})
    monkeypatch.setattr("qvae.sweep.read_metrics", lambda folder: epochs if folder.name == "seed-4" else [])
    made._finish(run)
    assert (run.status, run.figures, run.seconds) == ("finished", {"ELBO, nats": -3.0}, 7.25)
    epochs.clear()
    made._finish(run)
    assert run.seconds is None
