"""Nothing in a run folder leads out of it: links, pipes and devices are refused, and what they lead to is left alone."""

import os

import pytest
from trust.commands import COMMANDS, commands_on

import qvae
from qvae.checkpoint import load_checkpoint
from qvae.errors import RunError
from qvae.reporting.page import Picture, Section, render_page
from qvae.runs.folder import choose_folder, existing_run

FILES = (
    "config.yaml",
    "environment.json",
    "evaluation.json",
    "metrics.jsonl",
    "model.safetensors",
    "checkpoint.safetensors",
    "prior_samples.safetensors",
    "report.html",
    "generated.npz",
    "annealer.json",
    ".annealer.json.lock",
    ".evaluation.json.part",
    "figures/samples.png",
)


@pytest.mark.parametrize("name", FILES)
def test_a_link_is_refused_whatever_its_name(name, small_run, tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("kept: true")
    (small_run / name).unlink(missing_ok=True)
    (small_run / name).symlink_to(outside)
    with pytest.raises(RunError, match=rf"{name} is a link; such a folder holds its files themselves"):
        existing_run(small_run)


@pytest.mark.parametrize("name", sorted({*COMMANDS} - {"train", "dry-run"}))  # which open no folder
def test_no_command_follows_a_link(name, small_run, tmp_path, command):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "samples.png").write_bytes(b"theirs")
    for file in (small_run / "figures").iterdir():
        file.unlink()
    (small_run / "figures").rmdir()
    (small_run / "figures").symlink_to(outside)
    code, _, errors = command(*commands_on(small_run)[name])
    assert [file.name for file in outside.iterdir()] == ["samples.png"]
    assert (outside / "samples.png").read_bytes() == b"theirs"
    assert (code, "is a link" in errors) == (2, True)


@pytest.mark.parametrize("kind", ["link", "pipe"])
def test_what_comes_after_the_run_was_opened_is_not_read_either(kind, small_run, tmp_path):
    run = qvae.load_run(small_run)
    for name in ("evaluation.json", "environment.json", "metrics.jsonl", "checkpoint.safetensors", "prior_samples.safetensors"):
        (small_run / name).rename(tmp_path / name)
        (small_run / name).symlink_to(tmp_path / name) if kind == "link" else os.mkfifo(small_run / name)
    words = "it is a link" if kind == "link" else "a device or pipe"
    for work in (lambda: run.evaluation, lambda: run.environment, lambda: run.metrics, lambda: run.training_state):
        with pytest.raises(RunError, match=words):
            work()
    with pytest.raises(RunError, match=words):
        load_checkpoint(small_run / "prior_samples.safetensors")
    for work in (lambda: qvae.workflow.evaluate(run), lambda: qvae.workflow.report(run)):
        with pytest.raises(RunError, match="such a folder holds its files themselves"):
            work()
    picture = tmp_path / "a.png"
    picture.symlink_to(tmp_path / "evaluation.json") if kind == "link" else os.mkfifo(picture)
    with pytest.raises(RunError, match=words):
        render_page("", "", [Section("", pictures=[Picture(picture, "a picture")])])


@pytest.mark.parametrize("kind", ["link", "pipe"])
@pytest.mark.parametrize("name", ["results.json", "report.html", "figures/a.png", "pieces/a.json", "truth/a.safetensors"])
def test_nothing_leads_out_of_a_benchmark_s_folder(name, kind, tmp_path, command):
    outside, file = tmp_path / "outside", tmp_path / "b" / name
    outside.write_text("{}")
    file.parent.mkdir(parents=True)
    file.symlink_to(outside) if kind == "link" else os.mkfifo(file)
    options = ["--problem", "glass", "--sampler", "exact", "--budget", "0.01", "--out", tmp_path / "b"]
    code, _, errors = command("benchmark", "samplers", *options)
    assert (code, "is a link" in errors or "device or pipe" in errors) == (2, True)
    assert outside.read_text() == "{}"


def test_a_pipe_is_refused_and_not_waited_for(small_run):
    (small_run / "evaluation.json").unlink()
    os.mkfifo(small_run / "evaluation.json")
    with pytest.raises(RunError, match=r"evaluation.json is no file, but a device or pipe"):
        existing_run(small_run)


def test_nothing_is_trained_into_a_folder_with_links(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        choose_folder(tmp_path / "run", qvae.load_config())
