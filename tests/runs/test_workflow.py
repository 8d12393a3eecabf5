"""From configuration to report: who writes what, and what is kept when a later part fails."""

import json
import re
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest

import qvae
from qvae import workflow
from qvae.runs.plan import plan
from qvae.training.trainer import Trainer

SETTINGS = [
    "training.epochs=2", "model.latent.sizes=[3,3]", "model.network.hidden=[8]", "evaluation.num_test=20",
    "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0",
]  # fmt: skip


class Listening(qvae.Progress):
    """Remembers what it was told."""

    def __init__(self):
        self.said, self.warned, self.works = [], [], []

    def work(self, name):
        self.works.append(name)
        return super().work(name)

    def say(self, text):
        self.said.append(text)

    def warn(self, text):
        self.warned.append(text)


def config(*more):
    return qvae.load_config("digits", [*SETTINGS, *more])


def test_whoever_watches_hears_of_every_part(tmp_path):
    listening = Listening()
    qvae.train(config(), tmp_path / "run", listening)
    assert listening.works == [
        "training",
        "log Z of the prior",
        "likelihood",
        "what the latents hold",
        "drawing pictures",
    ]
    qvae.resume(tmp_path / "run", ["training.epochs=3"], listening)
    assert f"resuming {tmp_path / 'run'} at step 10 of 15" in listening.said
    assert any("training rows make 5 steps an epoch, so figures of one epoch are rough" in text for text in listening.said)


def test_numbers_are_kept_when_drawing_fails(tmp_path, monkeypatch):
    def fails(run, progress, warn):
        raise RuntimeError("no fonts")

    listening = Listening()
    with monkeypatch.context() as patch:
        patch.setattr(workflow, "draw_pictures", fails)
        qvae.train(config(), tmp_path / "run", listening)
    assert "no report (RuntimeError: no fonts); make it with: qvae report" in listening.warned[-1]
    found = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    assert "pictures" not in found["seconds"]
    run = qvae.load_run(tmp_path / "run")
    workflow.report(run)
    after = run.evaluation
    assert after["seconds"].pop("pictures") > 0
    assert after == found


def test_a_run_s_path_is_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    qvae.train(config(), "run")
    run = qvae.load_run("run")
    monkeypatch.chdir("/")
    assert run.path == tmp_path / "run"
    assert run.evaluation is not None


def test_a_plan_writes_nothing(tmp_path):
    found = plan(config("generation.sampler={name: exact}"), tmp_path / "run")
    assert found["latent spins"] == 6
    assert found["training"] == "10 steps and 2 looks at the sampler"
    assert not (tmp_path / "run").exists()


def test_at_a_prompt_a_call_made_again_prints_lines_and_takes_a_new_folder(tmp_path, monkeypatch, capsys):
    chosen = config()
    assert workflow.train(chosen, tmp_path / "run").path == tmp_path / "run"
    assert capsys.readouterr().out == ""
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert workflow.train(chosen, tmp_path / "run").path == tmp_path / "run-2"
    printed = capsys.readouterr().out
    assert f"{tmp_path / 'run'} holds a run already; this one goes to {tmp_path / 'run-2'}" in printed
    assert re.search(r"^100%  \d:\d\d  epoch 2", printed, re.MULTILINE)
    assert workflow.train(chosen, tmp_path / "run").path == tmp_path / "run-3"


def test_a_plan_of_a_local_sampler_tells_the_time_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Trainer, "seconds_of_step", lambda self: 0.25)
    assert plan(config())["time of the training"].startswith("about 2 s here, at 250.0 ms a step")
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    assert "ms a step" in plan(config())["time of the training"]
    assert list(tmp_path.iterdir()) == []


def test_a_run_that_is_asked_for_less_than_it_has_done_says_so(small_run):
    said = []

    class Listener(workflow.Progress):
        def say(self, text):
            said.append(text)

    workflow.resume(small_run, ["training.epochs=1"], Listener())
    assert "at step 15, which is beyond the 5 that training.epochs=1 asks for" in said[0]
    assert "of 5" not in said[0]


@pytest.mark.parametrize(
    ("change", "begun_anew"),
    [
        ("sampler.options.sweeps=9", ["sampler"]),
        ("executor=qiskit", ["executor"]),
        ("executor.options.seed=5", ["executor"]),
        ("training.epochs=9", []),
    ],
)
def test_a_backend_goes_on_from_its_state_unless_it_is_another_one(change, begun_anew, tmp_path, monkeypatch):
    taken = []
    state = {"config": None, "data": "known", "sampler": {"chains": 1}, "executor": {"calls": 2}, "step": 3}
    trainer = SimpleNamespace(load_state_dict=taken.append)
    for name, result in (
        ("load_checkpoint", dict(state)), ("require_same_model", None), ("require_resumable", None),
        ("require_same_data", None), ("shape_of", ((2,), None, None)),
        ("assemble", SimpleNamespace(trainer=trainer, dataset=None)),
    ):  # fmt: skip
        monkeypatch.setattr(workflow, name, lambda *given, result=result, **named: result)
    (tmp_path / "checkpoint.safetensors").touch()
    before = qvae.load_config("digits-vqvae")
    after = qvae.load_config("digits-vqvae", [change]) if "sampler" not in change else before.model_copy(deep=True)
    if "sampler" in change:
        after.sampler.options["sweeps"] = 9
    workflow._resumed_parts(tmp_path, after, before, qvae.Progress(), None)
    (found,) = taken
    assert {name: found[name] for name in state} == state | {name: {} for name in begun_anew}


@pytest.mark.parametrize("has_trained", [True, False])
def test_an_evaluation_is_of_the_weights_until_a_step_is_made(has_trained, tmp_path, monkeypatch):
    """What is interrupted before its first step saves what it had."""
    for name in ("evaluation.json", "report.html"):
        (tmp_path / name).touch()
    saved = []
    trainer = SimpleNamespace(step=5, save=saved.append, model=None)

    def fit():
        trainer.step += has_trained
        trainer.save(trainer)
        raise KeyboardInterrupt

    trainer.fit = fit
    closed = []
    parts = SimpleNamespace(trainer=trainer, objective=SimpleNamespace(device=None), close=closed.append)
    monkeypatch.setattr(workflow, "threads_for", lambda *given: nullcontext())
    monkeypatch.setattr(workflow, "needed_words", lambda *given: set())
    with pytest.raises(KeyboardInterrupt):
        workflow._fit_and_evaluate(tmp_path, config(), parts, qvae.Progress())
    assert (saved, len(closed)) == ([trainer], 1)
    there = [(tmp_path / name).exists() for name in ("evaluation.json", "report.html")]
    assert there == [not has_trained] * 2


def test_other_settings_of_an_evaluation_are_those_of_the_executor_s_measurement_too(tmp_path, monkeypatch):
    asked = []
    own, other = config().evaluation, config("evaluation.seed=7").evaluation
    run = SimpleNamespace(path=tmp_path, model="model", dataset="data", config=SimpleNamespace(evaluation=own))
    found = SimpleNamespace(to_dict=lambda: {"elbo": 1.0})
    monkeypatch.setattr(workflow, "evaluate_model", lambda *given: asked.append(given[:3]) or found)
    monkeypatch.setattr(workflow, "losses_before", lambda run: [{"executor": "aer"}])
    monkeypatch.setattr(workflow, "measures_here", lambda run: True)
    monkeypatch.setattr(workflow, "measure", lambda run, settings, progress: asked.append(settings))
    for settings, expected in ((None, own), (other, other)):
        asked.clear()
        assert workflow.evaluate(run, settings) is found
        assert asked == [("model", "data", expected), expected]
    assert json.loads((tmp_path / "evaluation.json").read_text()) == {"elbo": 1.0, "executors": [{"executor": "aer"}]}


def test_a_measurement_takes_the_place_of_that_of_the_same_executor_alone(tmp_path, monkeypatch):
    losses = {"aer": 1.0, "aer:shots=5": 2.0, "qiskit": 3.0}
    before = {"elbo": -1.0, "executors": [{"executor": name, "loss": loss} for name, loss in losses.items()]}
    run, asked = SimpleNamespace(path=tmp_path, config=SimpleNamespace(evaluation="own")), []
    loss = SimpleNamespace(executor="aer:shots=5", to_dict=lambda: {"executor": "aer:shots=5", "loss": 9.0})
    monkeypatch.setattr(workflow, "evaluated", lambda run: before)
    monkeypatch.setattr(
        workflow, "measured_loss", lambda run, name, settings, progress: asked.append((name, settings)) or loss
    )
    for given in (None, "other"):
        workflow.measure(run, "aer:shots=5", given)
    assert asked == [("aer:shots=5", "own"), ("aer:shots=5", "other")]
    rows = json.loads((tmp_path / "evaluation.json").read_text())["executors"]
    assert {row["executor"]: row["loss"] for row in rows} == losses | {"aer:shots=5": 9.0}
    assert len(rows) == 3


@pytest.mark.parametrize(
    ("change", "is_fixed"),
    [
        ("model.circuit.layers=2", True),
        ("data.binarize=dynamic", True),
        ("training.seed=5", True),
        ("training.batch_size=31", True),
        ("training.validation=0.25", True),
        ("training.optimizer.options={eps: 0.5}", True),
        ("training.circuit_gradient=spsa", True),
        ("training.epochs=9", False),
        ("training.learning_rate=0.5", False),
        ("executor=qiskit", False),
        ("data.root=elsewhere", False),
    ],
)
def test_what_steps_depend_on_stays_while_a_run_goes_on(change, is_fixed):
    before, after = (workflow._fixed(qvae.load_config("digits-vqvae", keys)) for keys in ([], [change]))
    assert (before != after) == is_fixed


def test_paths_that_are_said_when_a_run_is_opened_or_goes_on_hold_from_anywhere(small_run, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert qvae.load_run(small_run, ["data.root=mine"]).config.data.root == str(tmp_path / "here" / "mine")
    asked = []

    class Stop(Exception):
        pass

    def parts(path, config, *others):
        asked.append(config.data.root)
        raise Stop

    monkeypatch.setattr(workflow, "_resumed_parts", parts)
    with pytest.raises(Stop):
        workflow.resume(small_run, ["data.root=mine"])
    monkeypatch.setattr(workflow, "assemble", lambda folder, config, *others: parts(folder, config))
    with pytest.raises(Stop):
        workflow.train(config("data.root=mine"), tmp_path / "run")
    assert asked == [str(tmp_path / "here" / "mine")] * 2
