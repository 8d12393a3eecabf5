"""Run folders: what they hold, resuming, and what is wrong with those that aren't runs."""

import errno
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
import yaml

import qvae
from qvae import workflow
from qvae.applications.generate import generate
from qvae.applications.reconstruct import reconstruct
from qvae.checkpoint import load_checkpoint, save_checkpoint
from qvae.errors import ConfigError, RunError
from qvae.runs.backends import make_sampler
from qvae.training.trainer import Trainer

SETTINGS = [
    "training.epochs=6", "model.latent.sizes=[3,3]", "model.network.hidden=[8]", "evaluation.num_test=20",
    "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0",
]  # fmt: skip


def config(*more):
    return qvae.load_config("digits", [*SETTINGS, *more])


def test_a_run_folder_holds_what_it_promises(trained):
    present = {p.relative_to(trained).as_posix() for p in trained.rglob("*") if p.is_file()}
    assert present >= {
        "config.yaml", "environment.json", "metrics.jsonl", "checkpoint.safetensors", "model.safetensors", "evaluation.json",
        "figures/losses.png", "figures/reconstructions.png", "figures/samples.png",
    }  # fmt: skip
    assert len((trained / "metrics.jsonl").read_text().splitlines()) == 3
    assert yaml.safe_load((trained / "config.yaml").read_text())["model"]["latent"]["sizes"] == [4, 4]
    assert json.loads((trained / "environment.json").read_text())["qvae"] == qvae.__version__


def test_the_model_of_a_run_has_the_averaged_weights(trained):
    state, model = load_checkpoint(trained / "checkpoint.safetensors"), qvae.load_run(trained).model
    named = dict(model.named_parameters())
    names = sorted(named, key=lambda name: name.startswith("prior."))  # networks first
    for name, average in zip(names, state["average"], strict=True):
        assert torch.equal(named[name], average), name
        assert not torch.equal(named[name], state["model"][name]), name
    saved = load_checkpoint(trained / "model.safetensors")
    assert (saved["step"], saved["image_shape"]) == (15, [8, 8])


def test_evaluation_has_the_promised_keys(trained):
    found = json.loads((trained / "evaluation.json").read_text())
    promised = {"elbo", "log_likelihood", "importance_samples", "log_z", "log_z_stderr", "log_z_method", "num_test"}
    assert promised <= set(found)
    assert found["num_test"] == 40
    assert found["elbo"] < found["log_likelihood"] < 0
    assert found["log_z_stderr"] == 0  # eight spins are enumerated
    assert "enumerat" in found["log_z_method"]


def test_a_run_opens_without_its_data_and_generates(trained):
    run = qvae.load_run(trained)
    assert not run.model.training
    images = run.model.generate(10, qvae.load_sampler("exact", seed=0))
    assert images.shape == (10, 8, 8)
    assert float(images.min()) >= 0
    assert float(images.max()) <= 1


def test_evaluating_again_gives_the_same_numbers(small_run):
    run = qvae.load_run(small_run)
    before = run.evaluation
    workflow.evaluate(run)
    assert {k: v for k, v in run.evaluation.items() if k != "seconds"} == {k: v for k, v in before.items() if k != "seconds"}


def test_resume_after_an_interrupt_ends_as_if_nothing_had_happened(tmp_path, monkeypatch):
    whole = qvae.train(config(), out=tmp_path / "whole")
    take = Trainer._train_step

    def interrupted(self, images):
        if self.step == 13:
            signal.raise_signal(signal.SIGINT)
        take(self, images)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train_step", interrupted)
        with pytest.raises(KeyboardInterrupt):
            qvae.train(config(), out=tmp_path / "cut")
    assert not (tmp_path / "cut" / "evaluation.json").exists()
    resumed = workflow.resume(tmp_path / "cut")
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    same = ("elbo", "log_likelihood", "log_z")
    assert [resumed.evaluation[k] for k in same] == [whole.evaluation[k] for k in same]
    rows = [
        [{k: v for k, v in row.items() if k != "seconds" and k[:3] != "ms_"} for row in run.metrics] for run in (whole, resumed)
    ]
    assert rows[0] == rows[1]


def test_a_killed_run_resumes_from_its_last_checkpoint(tmp_path):
    """SIGKILL at any moment: the folder opens, and resuming finishes it with the weights of an unbroken run."""
    whole = qvae.train(config("training.epochs=40"), out=tmp_path / "whole")
    code = "import qvae, sys; qvae.train(qvae.load_config('digits', sys.argv[2:]), out=sys.argv[1])"
    settings = [*SETTINGS, "training.epochs=40", "training.checkpoint_seconds=0.001"]
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "cut"), *settings], cwd=tmp_path)
    deadline = time.monotonic() + 60
    while not (tmp_path / "cut" / "model.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.15)
    process.send_signal(signal.SIGKILL)
    process.wait()
    qvae.load_run(tmp_path / "cut")
    resumed = workflow.resume(tmp_path / "cut", ["training.checkpoint_seconds=60"])
    for name, value in whole.model.state_dict().items():
        assert torch.equal(value, resumed.model.state_dict()[name]), name
    assert [row["step"] for row in resumed.metrics] == [row["step"] for row in whole.metrics]


def test_a_finished_run_goes_on_with_more_epochs_and_tells_of_its_new_weights(small_run):
    before = qvae.load_run(small_run).evaluation
    (small_run / "report.html").write_text("of the weights before")
    resumed = workflow.resume(small_run, ["training.epochs=5"])
    assert [row["epoch"] for row in resumed.metrics] == [1, 2, 3, 4, 5]
    assert resumed.evaluation["elbo"] != before["elbo"]
    assert ", 5 epochs in" in (small_run / "report.html").read_text()


def test_epochs_after_the_checkpoint_are_written_once(small_run):
    lines = (small_run / "metrics.jsonl").read_text().splitlines()
    ahead = json.dumps(json.loads(lines[-1]) | {"epoch": 4, "step": 20})  # of a run that was killed before its next save
    (small_run / "metrics.jsonl").write_text("\n".join([*lines, ahead, '{"epoch": 5, "st']))
    assert [row["epoch"] for row in qvae.load_run(small_run).metrics] == [1, 2, 3, 4]
    resumed = workflow.resume(small_run, ["training.epochs=4"])
    assert [row["epoch"] for row in resumed.metrics] == [1, 2, 3, 4]
    assert resumed.metrics[-1]["surrogate"] != json.loads(ahead)["surrogate"]


def test_a_run_goes_on_with_another_sampler(small_run):
    resumed = workflow.resume(small_run, ["training.epochs=4", "sampler.name=exact"])
    assert resumed.config.sampler.name == "exact"
    assert len(resumed.metrics) == 4


def test_the_model_of_a_run_can_t_be_changed_when_it_is_resumed(small_run):
    with pytest.raises(ConfigError, match="can't be changed"):
        workflow.resume(small_run, ["model.latent.sizes=[5,5]"])


def test_the_checkpoint_of_another_model_is_refused(small_run, tmp_path):
    other = qvae.train(config("training.epochs=1"), out=tmp_path / "other")
    for name in ("checkpoint.safetensors", "model.safetensors"):
        (small_run / name).write_bytes((other.path / name).read_bytes())
    with pytest.raises(RunError, match="another model"):
        workflow.resume(small_run)
    with pytest.raises(RunError, match="another model"):
        qvae.load_run(small_run)


@pytest.mark.parametrize("name", ["checkpoint.safetensors", "model.safetensors"])
@pytest.mark.parametrize("damage", ["truncated", "tampered"])
def test_a_damaged_file_is_refused_in_words(small_run, name, damage):
    content = bytearray((small_run / name).read_bytes())
    if damage == "truncated":
        content = content[: len(content) // 2]
    else:
        content[-100] ^= 1
    (small_run / name).write_bytes(content)
    work = workflow.resume if name.startswith("checkpoint") else qvae.load_run
    with pytest.raises(RunError, match=name):
        work(small_run)


def test_a_checkpoint_with_missing_parts_is_refused(small_run):
    state = load_checkpoint(small_run / "checkpoint.safetensors")
    del state["optimizer"]
    save_checkpoint(small_run / "checkpoint.safetensors", state)
    with pytest.raises(RunError, match="optimizer"):
        workflow.resume(small_run)


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(RunError, match="there is no folder"):
        qvae.load_run(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"holds no config\.yaml"):
        qvae.load_run(tmp_path)


def test_an_existing_run_is_not_overwritten(small_run, tmp_path):
    with pytest.raises(RunError, match="--resume"):
        qvae.train(config(), out=small_run)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("x")
    with pytest.raises(RunError, match="not empty"):
        qvae.train(config(), out=tmp_path / "full")
    with pytest.raises(RunError, match="is a file"):
        qvae.train(config(), out=tmp_path / "full" / "thesis.tex")


def test_a_full_disk_ends_in_words_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    saves, sync = [], os.fsync

    def full(descriptor):
        saves.append(descriptor)
        if len(saves) > 12:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        qvae.train(config("training.checkpoint_seconds=0.001", "training.epochs=50"), out=tmp_path / "run")
    monkeypatch.undo()
    qvae.load_run(tmp_path / "run")
    resumed = workflow.resume(tmp_path / "run", ["training.epochs=2", "training.checkpoint_seconds=60"])
    assert resumed.evaluation is not None
    assert not [p for p in (tmp_path / "run").rglob("*") if "tmp" in p.name]


def test_a_run_without_a_checkpoint_is_started_anew(small_run):
    for name in ("checkpoint.safetensors", "model.safetensors", "evaluation.json"):
        (small_run / name).unlink()
    with pytest.raises(RunError, match="leave --resume out"):
        workflow.resume(small_run)
    assert len(qvae.train(config("training.epochs=1"), out=small_run).metrics) == 1


@pytest.mark.parametrize(
    "change", ["training.seed=5", "training.batch_size=100", "data.binarize=dynamic", "training.validation=0.2"]
)
def test_what_the_steps_depend_on_can_t_be_changed_when_resuming(small_run, change):
    with pytest.raises(ConfigError, match="can't be changed"):
        workflow.resume(small_run, [change])


def test_generated_and_reconstructed_arrays(small_run):
    run = qvae.load_run(small_run)
    array, picture = generate(run, 7).files
    assert np.load(array)["images"].shape == (7, 8, 8)
    assert picture.read_bytes().startswith(b"\x89PNG")
    array, _ = reconstruct(run, 9).files
    loaded = np.load(array)
    assert loaded["originals"].shape == loaded["reconstructions"].shape == (9, 8, 8)
    assert set(np.unique(loaded["originals"])) <= {0.0, 1.0}


def test_the_sampler_s_seed_is_not_that_of_training_or_generation(tmp_path):
    settings = config()
    seeds = {make_sampler(settings.sampler, settings, tmp_path, purpose).seed for purpose in (1, 2)}
    assert len(seeds | {settings.training.seed}) == 3


@pytest.mark.parametrize("graph", [("complete", "[5]"), ("chimera", "[1]"), ("edges", "[6]")])
def test_every_kind_of_graph_trains(tmp_path, graph):
    kind, sizes = graph
    run = qvae.train(config(f"model.latent.graph={kind}", f"model.latent.sizes={sizes}", "training.epochs=1"), tmp_path / "r")
    assert np.isfinite(run.evaluation["log_likelihood"])


@pytest.mark.parametrize("relaxation", ["gumbel", "overlapping", "spike-exponential"])
@pytest.mark.parametrize("levels", [1, 3])
def test_every_relaxation_and_hierarchy_trains(tmp_path, relaxation, levels):
    settings = [f"model.relaxation.kind={relaxation}", f"model.posterior.levels={levels}", "training.epochs=1"]
    assert np.isfinite(qvae.train(config(*settings), tmp_path / "r").evaluation["elbo"])


def test_a_convolutional_network_and_a_quantum_prior_train(tmp_path):
    settings = ["model.network.kind=conv", "model.network.hidden=[4,8]", "model.latent.gamma=0.7", "sampler.name=exact"]
    run = qvae.train(config(*settings, "training.epochs=1"), tmp_path / "r")
    assert run.model.prior.hamiltonian().is_quantum
    assert "2^6 states" in run.evaluation["log_z_method"]


def test_tensorboard_events_are_written_when_asked_for(tmp_path):
    qvae.train(config("training.epochs=1", "training.tensorboard=true"), tmp_path / "r")
    assert list((tmp_path / "r" / "tensorboard").glob("events*"))
