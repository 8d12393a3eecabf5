"""One run of a study: trained, continued or only opened."""

import pytest
import torch
from conftest import SMALL

import qvae
from qvae import study
from qvae.config.load import load_config
from qvae.errors import ConfigError
from qvae.progress import Progress
from qvae.study import is_finished, make


def test_a_run_is_made_once(tmp_path):
    config = load_config("digits", [*SMALL, "training.checkpoint_seconds=0.001"])

    def stop(model, figures):
        if figures["epoch"] == 2:
            raise KeyboardInterrupt

    assert not is_finished(config, tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        make(config, tmp_path / "run", Progress(), [stop])
    assert not is_finished(config, tmp_path / "run")
    seen = []
    continued = make(config, tmp_path / "run", Progress(), [lambda model, figures: seen.append(figures["epoch"])])
    assert seen[-1] == 3
    assert is_finished(config, tmp_path / "run")
    whole = qvae.train(config, tmp_path / "whole")
    assert all(torch.equal(a, b) for a, b in zip(whole.model.parameters(), continued.model.parameters(), strict=True))
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    assert make(config, tmp_path / "run", Progress()).evaluation == continued.evaluation
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    (tmp_path / "run" / "report.html").unlink()  # as where it was killed while that was made
    assert not is_finished(config, tmp_path / "run")
    make(config, tmp_path / "run", Progress())
    assert is_finished(config, tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
    with pytest.raises(ConfigError, match="holds a run of another configuration; choose another --out"):
        make(load_config("digits", [*SMALL, "training.epochs=9"]), tmp_path / "run", Progress())


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ([], ("train", "observers")),
        (["checkpoint.safetensors"], ("resume", "observers")),
        (["checkpoint.safetensors", "evaluation.json"], ("load", "report")),
        (["checkpoint.safetensors", "evaluation.json", "report.html"], ("load",)),
    ],
)
def test_the_user_s_word_and_observers_go_wherever_a_run_is_made(files, expected, tmp_path, monkeypatch):
    """A run that begins has the words with its configuration."""
    for name in files:
        (tmp_path / name).touch()
    calls, config = [], load_config("digits").trusting(["a_module:Thing"])

    def told(name):
        def call(*given, trust=None, observers=None, **named):
            words = given[0].trust.words if name == "train" else trust
            assert "a_module:Thing" in words
            calls.append(name)
            calls.extend(observers or [])
            return "a run"

        return call

    monkeypatch.setattr(study, "is_finished", lambda config, folder: len(files) == 3)
    monkeypatch.setattr(study.workflow, "train", told("train"))
    monkeypatch.setattr(study.workflow, "resume", told("resume"))
    monkeypatch.setattr(study, "load_run", told("load"))
    monkeypatch.setattr(study.workflow, "report", lambda run, progress: calls.append("report"))
    assert make(config, tmp_path, Progress(), ["observers"]) == "a run"
    assert tuple(calls) == expected


def test_a_configuration_with_paths_from_here_is_that_of_its_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = load_config("digits", ["data.root=mine"])
    for name in ("checkpoint.safetensors", "evaluation.json", "report.html"):
        (tmp_path / name).touch()
    monkeypatch.setattr(study, "existing_run", lambda folder: folder)
    monkeypatch.setattr(study, "run_config", lambda folder: load_config("digits", [f"data.root={tmp_path / 'mine'}"]))
    assert is_finished(config, tmp_path)
    with pytest.raises(ConfigError, match="a run of another configuration"):
        is_finished(load_config("digits", ["data.root=other"]), tmp_path)
