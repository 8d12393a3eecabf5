"""Nothing in a run folder leads out of it: links, pipes and devices are refused, and what they lead to is left alone."""

import os

import pytest
from trust.commands import COMMANDS, commands_on

from qvae.errors import RunError
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
    with pytest.raises(RunError, match=rf"{name} is a link; a run folder holds its files themselves"):
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


def test_a_pipe_is_refused_and_not_waited_for(small_run):
    (small_run / "evaluation.json").unlink()
    os.mkfifo(small_run / "evaluation.json")
    with pytest.raises(RunError, match=r"evaluation.json is no file, but a device or pipe"):
        existing_run(small_run)


def test_nothing_is_trained_into_a_folder_with_links(tmp_path):
    from qvae import load_config

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    (tmp_path / "run" / "metrics.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match="is a link"):
        choose_folder(tmp_path / "run", load_config())
