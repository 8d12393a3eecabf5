"""Folders of runs: what is made goes again where nothing came of it, and only what was ours is begun anew."""

import json
import os
from contextlib import contextmanager

import pytest

from qvae.config.load import dump_config, load_config
from qvae.errors import RunError
from qvae.runs import folder as module
from qvae.runs.folder import existing_run, latest_run, new_folder, numbered
from qvae.runs.output import has_keys, output_folder


def test_a_new_folder_in_which_nothing_was_written_goes_again_with_those_above_it_that_were_made(tmp_path):
    config = load_config("digits")
    (tmp_path / "there").mkdir()
    with new_folder(tmp_path / "there" / "a" / "b", config) as made:
        assert made.is_dir()
    assert list((tmp_path / "there").iterdir()) == []
    with new_folder(tmp_path / "there" / "a" / "b", config) as made:
        (made / "kept").write_text("")
    assert (tmp_path / "there" / "a" / "b" / "kept").exists()
    (tmp_path / "empty").mkdir()
    with new_folder(tmp_path / "empty", config):
        pass
    assert (tmp_path / "empty").is_dir()  # which was its user's


def test_a_run_that_another_process_wrote_before_the_folder_was_held_is_not_written_over(tmp_path, monkeypatch):
    @contextmanager
    def late(folder):
        (folder / module.CHECKPOINT).write_text("")
        yield

    monkeypatch.setattr(module, "writing", late)
    with pytest.raises(RunError, match="already holds a run"), new_folder(tmp_path / "run", load_config("digits")):
        pytest.fail("it was begun")


@pytest.mark.parametrize(
    ("environment", "config", "is_ours"),
    [
        ('{"qvae": "1"}', None, True),
        ('{"qvae": "1"}', "as written", True),
        ('{"qvae": "1"}', "edited", False),
        ('{"qvae": "1"}', "{", False),
        ('{"other": "1"}', None, False),
        ('["qvae"]', None, False),
        (None, "as written", False),
    ],
)
def test_what_a_run_left_before_its_first_checkpoint_is_told_from_a_user_s_files(environment, config, is_ours, tmp_path):
    if environment is not None:
        (tmp_path / "environment.json").write_text(environment)
    if config is not None:
        text = dump_config(load_config("digits"))
        (tmp_path / "config.yaml").write_text({"as written": text, "edited": f"{text}# mine\n"}.get(config, config))
    assert module._was_begun(tmp_path) == is_ours
    if is_ours:
        with new_folder(tmp_path, load_config("digits")) as made:
            assert made == tmp_path
    else:
        with pytest.raises(RunError, match="not empty and not a run"), new_folder(tmp_path, load_config("digits")):
            pytest.fail("it was begun")


def test_runs_are_numbered_from_two_and_the_latest_is_that_of_the_last_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert numbered(tmp_path / "run") == tmp_path / "run"
    for name in ("run", "run-2"):
        (tmp_path / name).mkdir()
    assert numbered(tmp_path / "run") == tmp_path / "run"  # which holds no model
    (tmp_path / "run" / "model.safetensors").write_text("")
    assert numbered(tmp_path / "run") == tmp_path / "run-3"
    with pytest.raises(RunError, match="there is no run in ./runs to resume"):
        latest_run()
    for name, seconds in (("a", 100), ("b", 300), ("c", 200)):
        (tmp_path / "runs" / name).mkdir(parents=True)
        file = tmp_path / "runs" / name / "checkpoint.safetensors"
        file.write_text("")
        os.utime(file, (seconds, seconds))
    assert latest_run().name == "b"
    (tmp_path / "runs" / "c" / "config.yaml").write_text(dump_config(load_config("digits")))
    assert latest_run([load_config("digits")]).name == "c"
    with pytest.raises(RunError, match="no run of this configuration in ./runs"):
        latest_run([load_config("digits", ["training.seed=9"])])
    with pytest.raises(RunError, match="is not a run folder: it holds no config.yaml"):
        existing_run("runs/a")


def test_folders_that_can_t_be_made_are_told_from_where_one_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    config = load_config("digits")
    for begin, words in (
        (new_folder("file/run", config), "the run folder file/run can't be made: Not a directory"),
        (new_folder("file", config), "file is a file, so no run can be written there"),
        (output_folder("file/results", []), "the folder file/results can't be made: Not a directory"),
    ):
        with pytest.raises(RunError, match=f"^{words}; choose another --out"), begin:
            pytest.fail("it was begun")
    with pytest.raises(RunError, match=r"^there is no folder none; `qvae train` prints where its run folder is"):
        existing_run("none")


@pytest.mark.parametrize(
    ("content", "is_of_ours"),
    [('{"a": 1, "b": 2, "c": 3}', True), ('{"a": 1}', False), ('["a", "b"]', False), ("{", False), (None, False)],
)
def test_results_are_known_by_their_keys(content, is_of_ours, tmp_path):
    if content is not None:
        (tmp_path / "a.json").write_text(content)
    assert has_keys(tmp_path / "a.json", "a", "b") is is_of_ours


def test_runs_are_named_by_their_data_their_sampler_or_kind_and_their_time(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module.time, "strftime", lambda form: form)
    for config, name in (
        (load_config("digits", ["data.name=/data/faces.npy", "sampler=exact"]), "faces-exact"),
        (load_config("digits-vqvae"), "digits-vqvae"),
    ):
        first = module.choose_folder(None, config)
        assert first == tmp_path / "runs" / f"{name}-%Y%m%d-%H%M%S"
        first.mkdir(parents=True)
        assert module.choose_folder(None, config).name == f"{name}-%Y%m%d-%H%M%S-1"


@pytest.mark.parametrize(
    ("step", "kept"), [(0, []), (9, []), (10, [10]), (29, [10, 20]), (30, [10, 20, 30]), (99, [10, 20, 30])]
)
def test_epochs_after_a_checkpoint_are_dropped(step, kept, tmp_path):
    row = {
        "epoch": 1,
        "seconds": 1.0,
        "surrogate": 2.0,
        "reconstruction": 1.0,
        "kl": 1.0,
        "kl_weight": 1.0,
        "learning_rate": 0.1,
    }
    lines = [json.dumps(row | {"step": number}) for number in (10, 20, 30)]
    (tmp_path / "metrics.jsonl").write_text("\n".join([*lines, lines[0][:20]]))
    assert [found["step"] for found in module.read_metrics(tmp_path)] == [10, 20, 30]
    module.keep_metrics_until(tmp_path, step)
    assert [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == kept
    module.keep_metrics_until(tmp_path / "none", step)
    assert module.read_metrics(tmp_path / "none") == []
