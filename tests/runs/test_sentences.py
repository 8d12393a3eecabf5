"""What a user is told of a run's size and place, and what stands in its evaluation after a measurement."""

import json
from types import SimpleNamespace

import pytest
import torch

from qvae import workflow
from qvae.config.load import load_config
from qvae.errors import ConfigError, ExecutorError, RunError
from qvae.models.vqgan import VQGAN
from qvae.progress import Progress
from qvae.runs import environment
from qvae.runs.on_executor import losses_before
from qvae.runs.run import load_run


@pytest.mark.parametrize(
    ("rows", "steps", "held_out", "is_game", "told"),
    [
        (2560, 10, 0, False, None),
        (
            2304,
            9,
            0,
            False,
            "2,304 training rows make 9 steps an epoch, so figures of one epoch are rough; --set training.valid",
        ),
        (
            200,
            1,
            0,
            False,
            "200 training rows make 1 step an epoch, so figures of one epoch are rough; --set training.validation",
        ),
        (200, 1, 20, False, "200 training rows make 1 step an epoch, so figures of one epoch are rough"),
        (200, 1, 0, True, "200 training rows make 1 step an epoch, so figures of one epoch are rough"),
    ],
)
def test_small_sets(rows, steps, held_out, is_game, told):
    model = VQGAN.__new__(VQGAN) if is_game else None
    trainer = SimpleNamespace(rows=range(rows), steps_per_epoch=steps, held_out=range(held_out), model=model)
    found = workflow.remarks_on_size(trainer)
    if told is None:
        assert found == []
    else:
        (text,) = found
        assert text.startswith(told)
        assert ("validation" in text) is ("validation" in told or "valid" in told)


@pytest.mark.parametrize(
    ("step", "told"),
    [
        (0, "step 0 of 30"),
        (30, "step 30 of 30"),
        (31, "step 31, which is beyond the 30 that training.epochs=3 asks for, and steps that are made stay made"),
    ],
)
def test_where_a_training_stands(step, told):
    trainer = SimpleNamespace(step=step, total_steps=30, config=SimpleNamespace(epochs=3))
    assert workflow._place(trainer) == told


def test_a_comparison_needs_two_runs_and_draws_those_without_pictures(tmp_path, monkeypatch):
    drawn, written = [], []
    monkeypatch.setattr(workflow, "report", lambda run: drawn.append(run.path.name))
    monkeypatch.setattr(workflow, "write_comparison", lambda runs, out: written.append((len(runs), out.name)))
    runs = []
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        runs.append(SimpleNamespace(path=tmp_path / name))
    (tmp_path / "b" / "report.html").touch()
    with pytest.raises(RunError, match="a comparison needs two runs or more: qvae compare RUN RUN"):
        workflow.compare(runs[:1], "out")
    workflow.compare(runs[:2], "out")
    assert (drawn, written) == (["a"], [(2, "out")])


def test_a_measurement_takes_the_place_of_an_older_one_on_the_same_executor(tmp_path, monkeypatch):
    rows = [{"executor": "aer", "loss": 1.0}, {"executor": "qiskit", "loss": 2.0}]
    asked = []

    def measured(run, executor, settings, progress):
        asked.append((executor, settings))
        return SimpleNamespace(executor="aer", to_dict=lambda: {"executor": "aer", "loss": 9.0})

    run = SimpleNamespace(path=tmp_path, config=SimpleNamespace(evaluation="its own"))
    monkeypatch.setattr(workflow, "evaluated", lambda run: {"elbo": -1.0, "executors": rows})
    monkeypatch.setattr(workflow, "measured_loss", measured)
    workflow.measure(run, "aer")
    workflow.measure(run, "aer", "others")
    found = json.loads((tmp_path / "evaluation.json").read_text())
    assert found == {"elbo": -1.0, "executors": [rows[1], {"executor": "aer", "loss": 9.0}]}
    assert asked == [("aer", "its own"), ("aer", "others")]


def test_an_executor_that_fails_costs_its_own_measurement(tmp_path, monkeypatch):
    warned, written = [], []

    class Kept(Progress):
        def warn(self, text):
            warned.append(text)

    def fails(run):
        raise ExecutorError("it is far away.")

    run = SimpleNamespace(path=tmp_path, config=SimpleNamespace(evaluation="its own"), model=None, dataset=None)
    monkeypatch.setattr(workflow, "evaluate_model", lambda *given: SimpleNamespace(to_dict=lambda: {"elbo": -1.0}))
    monkeypatch.setattr(workflow, "losses_before", lambda run: [{"executor": "aer"}])
    monkeypatch.setattr(workflow, "measures_here", fails)
    monkeypatch.setattr(workflow, "_write_evaluation", lambda run, found: written.append(found))
    workflow.evaluate(run, progress=Kept())
    assert warned == ["the run's own executor wasn't measured (it is far away)"]
    assert written == [{"elbo": -1.0, "executors": [{"executor": "aer"}]}]


def test_a_sampler_is_given_to_a_prior():
    config = SimpleNamespace(model=SimpleNamespace(has_boltzmann_prior=False), sampler=None)
    with pytest.raises(ConfigError, match="a sampler is given, but the model has no Boltzmann prior that it could sample"):
        workflow._give(config, object())
    config.model.has_boltzmann_prior = True
    mine = object()
    workflow._give(config, mine)
    assert (config.sampler.name, config.sampler.options, config.sampler.given) == ("memory", {"class": "object"}, mine)


def test_several_processes_are_told_of(monkeypatch):
    said = []

    class Kept(Progress):
        def say(self, text):
            said.append(text)

    monkeypatch.setattr(workflow.ranks, "join", lambda: None)
    for count, is_first, told in ((1, True, 0), (3, True, 1), (3, False, 0)):
        said.clear()
        monkeypatch.setattr(workflow.ranks, "count", lambda count=count: count)
        monkeypatch.setattr(workflow.ranks, "is_first", lambda is_first=is_first: is_first)
        workflow._joined(Kept())
        assert said == ["3 processes train together, each with its part of every batch"] * told


def test_what_was_measured_before_is_nothing_where_the_file_is_damaged():
    class Damaged(SimpleNamespace):
        @property
        def evaluation(self):
            raise RunError("it is damaged.")

    assert losses_before(Damaged()) == losses_before(SimpleNamespace(evaluation=None)) == []
    assert losses_before(SimpleNamespace(evaluation={"executors": [1]})) == [1]


def test_a_run_without_a_model_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.runs.run.existing_run", lambda path: tmp_path)
    monkeypatch.setattr("qvae.runs.run.run_config", lambda *given: load_config("digits"))
    with pytest.raises(RunError, match="holds no model.safetensors: the run ended before its first checkpoint; train it anew"):
        load_run(tmp_path)


def test_packages_that_are_missing_are_left_out_of_the_environment(monkeypatch):
    def version(name):
        if name != "numpy":
            raise environment.PackageNotFoundError(name)
        return "9.9"

    monkeypatch.setattr(environment, "version", version)
    found = environment.environment(torch.device("cpu"))
    assert found["packages"] == {"numpy": "9.9"}
    assert found["device"] == f"cpu, {torch.get_num_threads()} threads"
