"""Searches: proposals that find what is good, go on where they were, and are ordinary runs of a sweep."""

import json
import math
import sys
from concurrent.futures import Future
from pathlib import Path

import pytest

from qvae.config.load import dump_value
from qvae.config.ranges import Range
from qvae.errors import ConfigError, RunError
from qvae.progress import Progress
from qvae.reporting.sweep import SweptRun
from qvae.search import AIMS, Proposals, Search, _distribution, _value, parse_search
from qvae.sweep import Outcome, sweep
from qvae.workers import Workers

pytest.importorskip("optuna", reason="needs the extra: pip install -e '.[optuna]'")

RATE, SIZES, CHAINS = "training.learning_rate", "model.latent.sizes", "training.chains"
SPACE = {RATE: Range(1e-5, 1e-1, is_log=True), SIZES: [[4, 4], [8, 8]], CHAINS: Range(10, 200)}


def height(settings, best=1e-3):
    """A hill over the settings: 0 at the best rate, [8, 8] and 100 chains."""
    rate, sizes, chains = settings[RATE], settings[SIZES], settings[CHAINS]
    return -(math.log10(rate / best) ** 2) - (sizes == [4, 4]) - ((chains - 100) / 100) ** 2


def climb(proposals, best=1e-3, at_work=0, runs=None):
    """Runs of all proposals, each with its height, which is known when so many later ones have begun."""
    runs = [] if runs is None else runs
    while more := proposals.more(runs):
        runs += [SweptRun(trial) for trial in more]
        for run in runs[: len(runs) - at_work]:
            run.status, run.figures = "finished", {"log-likelihood, nats": height(run.trial.settings, best)}
    return runs


def reached(sampler, trials, best):
    runs = climb(Proposals(Search(sampler, trials), SPACE, [0]), best)
    return max(height(run.trial.settings, best) for run in runs)


def test_the_best_of_many_proposals_is_better_than_the_best_at_random():
    """For hills with their tops at seven places; of one place alone, luck may say otherwise."""
    tops = [10**exponent for exponent in (-4.5, -4, -3.5, -3, -2.5, -2, -1.5)]
    informed, blind = (sum(reached(sampler, 20, top) for top in tops) / len(tops) for sampler in ("tpe", "random"))
    assert informed > blind / 2  # both are negative


def test_a_gaussian_process_finds_a_top():
    assert reached("gp", 13, 1e-3) > -0.3 > reached("random", 13, 1e-3)


def test_what_is_less_is_better_where_that_is_the_aim():
    proposals = Proposals(Search("tpe", 30, aim="frechet"), {RATE: SPACE[RATE]}, [0])
    runs = []
    while more := proposals.more(runs):
        rate = more[0].settings[RATE]
        figures = {"Frechet distance (ours): reconstructions": -rate, "Frechet distance (ours): samples of the prior": rate}
        runs.append(SweptRun(more[0], "finished", figures=figures))
    rates = [run.trial.settings[RATE] for run in runs]
    assert sum(rate < 1e-4 for rate in rates[15:]) > 7  # a quarter would be, at random
    assert f"learning_rate={dump_value(min(rates))};" in proposals.in_words(runs)


@pytest.mark.parametrize("sampler", ["tpe", "random"])
def test_proposals_go_on_as_if_they_had_never_been_cut_short(sampler):
    whole = climb(Proposals(Search(sampler, 25), SPACE, [0, 1]))
    for cut in (1, 2, 30, 31):
        before = whole[:cut]
        resumed = Proposals(Search(sampler, 25), SPACE, [0, 1])
        resumed.recall(json.loads(json.dumps([dict(run.trial.settings) for run in before])))
        again = [SweptRun(trial) for trial in resumed.trials]
        for run in again:
            run.status, run.figures = "finished", {"log-likelihood, nats": height(run.trial.settings)}
        assert [run.trial for run in climb(resumed, runs=again)] == [run.trial for run in whole]


def test_a_search_has_as_many_runs_as_trials_and_seeds_and_its_ends_are_those_of_all_ranges():
    proposals = Proposals(Search("random", 5, aim="elbo"), SPACE, [0, 1, 2])
    assert proposals.size == 15
    assert proposals.corners == [{RATE: 1e-5, SIZES: [4, 4], CHAINS: 10}, {RATE: 1e-1, SIZES: [4, 4], CHAINS: 200}]
    assert proposals.record["sampler"] == "random"
    points = [{RATE: 1e-3, SIZES: [8, 8], CHAINS: chains} for chains in range(20, 27)]
    proposals.recall([*points, points[0]])
    assert proposals.size == len(proposals.trials) == 21  # more than were asked for are there already
    with pytest.raises(ValueError, match="isn't in"):
        proposals.recall([{RATE: 1.0, SIZES: [8, 8], CHAINS: 20}])


def test_several_at_once_are_different_and_in_the_space():
    runs = climb(Proposals(Search("tpe", 30), SPACE, [0]), at_work=4)
    points = [run.trial.settings for run in runs]
    assert len({str(point) for point in points}) == 30
    for point in points:
        assert 1e-5 <= point[RATE] <= 1e-1
        assert float(f"{point[RATE]:.4g}") == point[RATE]
        assert point[SIZES] in SPACE[SIZES]
        assert 10 <= point[CHAINS] <= 200
        assert type(point[CHAINS]) is int


def test_a_search_ends_where_nothing_is_new():
    proposals = Proposals(Search("tpe", 100), {SIZES: SPACE[SIZES], "training.epochs": Range(1, 3)}, [5])
    runs = []
    while more := proposals.more(runs):
        runs.append(SweptRun(more[0], "finished", figures={"log-likelihood, nats": 0.0}))
    assert len(runs) == proposals.size <= 6
    assert len({run.trial.name for run in runs}) == len(runs)


def test_a_run_without_the_figure_is_one_that_failed_as_long_as_others_have_it():
    proposals, runs = Proposals(Search("random", 3), {RATE: SPACE[RATE]}, [0]), []
    for figures in ({"log-likelihood, nats": -1.0}, {}, {"log-likelihood, nats": math.nan}):
        (trial,) = proposals.more(runs)
        runs.append(SweptRun(trial, "finished", figures=figures))
    assert proposals.in_words(runs).startswith("the best of 1 by log_likelihood, -1.00: ")
    with pytest.raises(ConfigError, match="have no log_likelihood to optimise; as aim take nothing that is evaluated here"):
        proposals.more(runs[1:2])


def test_values_that_look_alike_have_folders_of_their_own():
    proposals = Proposals(Search("random", 2), {"data.name": ["a b", "a-b"]}, [0])
    proposals.recall([{"data.name": "a b"}, {"data.name": "a-b"}])
    assert len({trial.name for trial in proposals.trials}) == 2


# As a sweep ---------------------------------------------------------------------------------------------------------------


class Hill(Workers):
    """One place, where a run is a file in its folder; the ``ends``-th call is interrupted."""

    def __init__(self, ends=None):
        self.ends, self.calls = ends, []

    def __len__(self):
        return 1

    def submit(self, place, function, config, folder):
        self.calls.append(config)
        if len(self.calls) == self.ends:
            raise KeyboardInterrupt
        failure = "out of luck" if config.training.chains < 60 else ""
        if not failure:
            Path(folder).mkdir()
            (Path(folder) / "done").touch()
        future = Future()
        future.set_result(Outcome(failure))
        return future

    def renew(self, place):
        pass

    def close(self, now=False):
        pass


class Kept(Progress):
    def __init__(self):
        self.lines = []

    def say(self, text):
        self.lines.append(text)


@pytest.fixture
def hill(monkeypatch):
    """Runs of sweeps are of a hill: their log-likelihood is the height of their settings."""

    def finish(made, run):
        found = {RATE: made.configs[run.trial.name].training.learning_rate, SIZES: [8, 8], CHAINS: 100}
        run.status, run.figures = "finished", {"log-likelihood, nats": height(found) + 0.1 * run.trial.seed}

    def take(ends=None):
        workers = Hill(ends)
        monkeypatch.setattr("qvae.sweep.Processes", lambda number, threads: workers)
        return workers

    monkeypatch.setattr("qvae.sweep._Sweep._finish", finish)
    monkeypatch.setattr("qvae.sweep.is_finished", lambda config, folder: (folder / "done").exists())
    return take


GRID = {RATE: SPACE[RATE], CHAINS: SPACE[CHAINS]}


def test_an_interrupted_search_goes_on_to_the_same_end_and_failures_are_rows(hill, tmp_path):
    hill()
    whole = sweep("digits", GRID, tmp_path / "whole", seeds=2, search=Search(trials=12), jobs=1)
    assert {run.status for run in whole} == {"finished", "failed"}
    assert all(run.reason == "out of luck" for run in whole if run.status == "failed")
    for ends in (2, 21):
        hill(ends)
        with pytest.raises(KeyboardInterrupt):
            sweep("digits", GRID, tmp_path / f"cut-{ends}", seeds=2, search=Search(trials=12), jobs=1)
        workers = hill()
        found = sweep("digits", GRID, tmp_path / f"cut-{ends}", seeds=2, search=Search(trials=12), jobs=1)
        assert found == whole
        assert len(workers.calls) < 24 - ends + 2 + sum(run.status == "failed" for run in whole)
    recorded = json.loads((tmp_path / "whole" / "sweep.json").read_text())
    assert len(recorded["runs"]) == 24
    assert recorded["search"]["space"] == {RATE: "log:1e-05..0.1", CHAINS: "10..200"}


def test_more_trials_may_be_asked_for_but_not_another_search(hill, tmp_path):
    hill()
    few = sweep("digits", GRID, tmp_path / "out", search=Search(trials=3))
    kept = Kept()
    more = sweep("digits", GRID, tmp_path / "out", search=Search(trials=5), progress=kept)
    assert kept.lines[0] == f"{sum(run.status == 'finished' for run in few)} of 5 runs are finished already"
    assert [run.trial for run in more[:3]] == [run.trial for run in few]
    assert len(more) == 5
    for grid, search in (({RATE: GRID[RATE]}, Search()), (GRID, Search("random")), (GRID, Search(aim="elbo"))):
        with pytest.raises(ConfigError, match="is of another sweep or search; choose another --out"):
            sweep("digits", grid, tmp_path / "out", search=search)
    with pytest.raises(ConfigError, match="is of another sweep or search"):
        sweep("digits", {RATE: [1e-3]}, tmp_path / "out")
    results = tmp_path / "out" / "sweep.json"
    recorded = json.loads(results.read_text())
    recorded["runs"][0]["settings"][CHAINS] = 1000
    results.write_text(json.dumps(recorded))
    with pytest.raises(RunError, match="is damaged: .* isn't in"):
        sweep("digits", GRID, tmp_path / "out", search=Search())


def test_ends_that_are_refused_and_settings_that_are_none_cost_nothing(hill, tmp_path):
    workers = hill()
    for grid, message in (
        ({RATE: Range(-1.0, 1.0)}, "learning_rate"),
        ({"training.epoch": Range(1, 3)}, "epoch"),
        ({}, "nowhere to look"),
    ):
        with pytest.raises(ConfigError, match=message):
            sweep("digits", grid, tmp_path / "out", search=Search())
    with pytest.raises(ConfigError, match="exclude each other"):
        sweep("digits", GRID, tmp_path / "out", search=Search(), number=3)
    with pytest.raises(ConfigError, match="a range, where only a search looks"):
        sweep("digits", GRID, tmp_path / "out")
    assert not workers.calls
    assert not (tmp_path / "out").exists()


def test_trials_are_runs_and_what_they_lack_as_an_aim_is_said(command, small, tmp_path, monkeypatch):
    class Here(Hill):
        def submit(self, place, function, *arguments):
            future = Future()
            future.set_result(function(*arguments))
            return future

    monkeypatch.setattr("qvae.sweep.Processes", lambda number, threads: Here())
    grid = ["--grid", f"{RATE}=log:1e-3..1e-2", *small]
    code, out, error = command("sweep", "digits", *grid, "--search", "tpe:trials=2", "--out", "out")
    assert code == 0, error
    assert "the best of 2 by log_likelihood, -" in out
    recorded = json.loads((tmp_path / "out" / "sweep.json").read_text())["runs"]
    assert [run["status"] for run in recorded] == ["finished", "finished"]
    assert all((tmp_path / "out" / run["name"] / "report.html").exists() for run in recorded)
    code, out, error = command("sweep", "digits", *grid, "--search", "tpe:trials=2,aim=frechet", "--out", "other")
    assert code == 2
    assert " ".join(error.split()) == "qvae: the runs have no frechet to optimise; as aim take log_likelihood, elbo."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tpee", "knows no sampler 'tpee': did you mean 'tpe'"),
        ("tpe:aim=likelihood", "knows no aim 'likelihood': did you mean 'log_likelihood'"),
        ("tpe:trails=3", "knows no option 'trails': did you mean 'trials'"),
        ("tpe:trials=0", "trials is 0; it must be a whole number of 1 or more"),
        ("tpe:trials=many", "trials is 'many'"),
    ],
)
def test_a_search_that_is_none(text, message):
    with pytest.raises(ConfigError, match=message):
        parse_search(text)


def test_without_optuna_the_line_that_installs_it_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"needs the module optuna.*pip install -e '\.\[optuna\]'"):
        Proposals(Search(), SPACE, [0])


def test_a_search_says_by_itself_what_it_looks_for():
    assert parse_search("gp") == Search("gp", 20, "log_likelihood")
    assert Search() == Search("tpe", 20, "log_likelihood")
    assert parse_search("random:trials=1").trials == 1
    with pytest.raises(ConfigError, match=r"nowhere to look; name a key with values or a range, as in --grid training.learn"):
        Proposals(Search(), {}, [0])


def test_aims_are_taken_from_the_names_of_tables():
    figures = {
        "log-likelihood, nats": 1.0, "ELBO, nats": 2.0, "Q-ELBO, nats": 3.0, "reconstruction, nats": 4.0,
        "Frechet distance (ours): reconstructions": 5.0, "Frechet distance (ours): samples of the prior": 6.0,
        "FID: reconstructions": 7.0, "FID: samples of the prior": 8.0,
    }  # fmt: skip
    assert {name: (aim.of(figures), aim.direction) for name, aim in AIMS.items()} == {
        "log_likelihood": (1.0, "maximize"), "elbo": (2.0, "maximize"), "q_elbo": (3.0, "maximize"),
        "reconstruction": (4.0, "maximize"), "frechet": (6.0, "minimize"), "fid": (8.0, "minimize"),
    }  # fmt: skip


def test_the_best_is_said_with_its_mean_and_spread_over_seeds():
    proposals = Proposals(Search("random", 3), {CHAINS: [10, 20, 30]}, [0, 1])
    proposals.recall([{CHAINS: chains} for chains in (10, 20, 30)])
    values = [(-3.0, -1.0), (-1.5, -2.0), (-0.5, None)]  # what lacks one of its runs isn't compared
    runs = [
        SweptRun(trial, "finished", figures={} if value is None else {"log-likelihood, nats": value})
        for trial, value in zip(proposals.trials, sum(values, ()), strict=True)
    ]
    assert proposals.in_words(runs) == (
        "the best of 2 by log_likelihood, -1.75 ± 0.35: training.chains=20; test rows chose it, so other data would find it a "
        "little worse"
    )
    assert proposals.in_words([SweptRun(trial, "failed") for trial in proposals.trials]) == "no combination came to its end"


@pytest.mark.parametrize(
    ("statuses", "state"),
    [
        (("finished", "finished"), "COMPLETE"),
        (("finished", "waiting"), "RUNNING"),
        (("waiting", "waiting"), "RUNNING"),
        (("failed", "waiting"), "FAIL"),
        (("waiting", "failed"), "FAIL"),
        (("finished", "failed"), "FAIL"),
    ],
)
def test_a_combination_has_failed_as_soon_as_one_of_its_runs_has(statuses, state):
    proposals = Proposals(Search("random", 3), SPACE, [0, 1])
    point = {RATE: 1e-3, SIZES: [8, 8], CHAINS: 20}
    proposals.recall([point])
    values = {"finished": {"log-likelihood, nats": -3.0}, "failed": {}, "waiting": {}}
    runs = [SweptRun(trial, status, figures=values[status]) for trial, status in zip(proposals.trials, statuses, strict=True)]
    runs[-1].figures = {name: value - 2 for name, value in runs[-1].figures.items()}
    told = proposals._told(point, runs)
    assert (told.state.name, told.value) == (state, -4.0 if state == "COMPLETE" else None)
    assert told.params == {RATE: 1e-3, SIZES: "[8, 8]", CHAINS: 20}


def test_rounded_numbers_stay_between_the_ends():
    part = Range(1.00004, 1.98765)
    assert [_value(part, found) for found in (1.00004, 1.23456, 1.98765)] == [1.00004, 1.235, 1.98765]
    assert _value(Range(1, 5000), 4321) == 4321
    assert _value(SPACE[SIZES], "[4, 4]") == [4, 4]


def test_what_may_be_proposed_is_between_the_ends_or_one_of_the_values():
    rate, chains, sizes = (_distribution(part) for part in (SPACE[RATE], SPACE[CHAINS], [[4, 4], [8, 8], [4, 4]]))
    assert (type(rate).__name__, rate.low, rate.high, rate.log) == ("FloatDistribution", 1e-5, 1e-1, True)
    assert (type(chains).__name__, chains.low, chains.high, chains.log) == ("IntDistribution", 10, 200, False)
    assert _distribution(Range(2, 64, is_log=True)).log
    assert sizes.choices == ("[4, 4]", "[8, 8]")  # one as likely as the other


def test_an_attempt_at_something_new_has_a_seed_of_its_own(monkeypatch):
    """Twenty at each combination; none of them is the one of another combination."""
    proposals, seeds = Proposals(Search("random", 30), {CHAINS: [10, 20, 30]}, [0]), []
    proposals.recall([{CHAINS: 10}])
    points = iter([*[{CHAINS: 10}] * 5, {CHAINS: 20}, *[{CHAINS: 10}] * 30])
    monkeypatch.setattr(Proposals, "_proposed", lambda self, tried, seed: seeds.append((len(tried), seed)) or next(points))
    runs = [SweptRun(trial) for trial in proposals.trials]
    (more,) = proposals.more(runs)
    assert more.settings == {CHAINS: 20}
    assert proposals.more([*runs, SweptRun(more)]) == []
    assert [tried for tried, _ in seeds] == [1] * 6 + [2] * 20
    assert len({seed for _, seed in seeds}) == len(seeds)
    assert proposals.size == 2
