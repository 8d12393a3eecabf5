"""From configuration to report: who writes what, and what is kept when a later part fails."""

import json
import re
import sys

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
