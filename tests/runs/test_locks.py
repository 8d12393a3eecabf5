"""One process writes into a folder at a time; runs are neither mixed nor lost, and nothing of the user's is replaced."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

import qvae
from qvae import locks, workflow
from qvae.config.load import dump_config
from qvae.errors import RunError
from qvae.runs.folder import latest_run, new_folder
from qvae.runs.lock import LOCK, writing

HOLD = """
import sys, time
from pathlib import Path
from qvae.runs.lock import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
SETTINGS = [
    "training.epochs=2", "model.latent.sizes=[3,3]", "model.network.hidden=[8]", "evaluation.num_test=20",
    "evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0", "evaluation.importance_samples=2",
]  # fmt: skip


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a folder."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_who_writes_is_said_and_one_that_is_gone_holds_nothing(tmp_path, holder):
    with pytest.raises(RunError, match=rf"is being written by process {holder.pid} on "), writing(tmp_path):
        pass
    holder.kill()
    holder.wait()
    assert (tmp_path / LOCK).exists()
    with writing(tmp_path), writing(tmp_path):  # a thread that holds it may go on
        assert str(os.getpid()) in (tmp_path / LOCK).read_text()
    assert not (tmp_path / LOCK).exists()


def test_another_thread_is_another_writer(tmp_path):
    found = []

    def write():
        try:
            with writing(tmp_path):
                found.append("wrote")
        except RunError as error:
            found.append(str(error))

    with writing(tmp_path):
        thread = threading.Thread(target=write)
        thread.start()
        thread.join()
    assert f"by process {os.getpid()} on" in found[0]


@pytest.mark.skipif(sys.platform == "win32", reason="has other locks")
def test_where_the_system_has_no_locks_the_file_is_one(tmp_path, monkeypatch, holder):
    def refuse(*arguments):
        raise OSError(locks._NO_SUCH_LOCKS[0], "no locks available")

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(RunError, match=f"process {holder.pid} on"), writing(tmp_path):
        pass
    holder.kill()
    holder.wait()
    with writing(tmp_path):
        pass
    (tmp_path / LOCK).write_text("1 another-host")
    with pytest.raises(RunError, match="process 1 on another-host"), writing(tmp_path):
        pass


def _count(folder, number, times):
    for _ in range(times):
        while True:
            try:
                with writing(folder):
                    file = folder / "count"
                    value = int(file.read_text())
                    time.sleep(0.001)
                    file.write_text(str(value + 1))
                break
            except RunError:
                time.sleep(0.001)


def test_eight_writers_lose_nothing(tmp_path):
    (tmp_path / "count").write_text("0")
    context = multiprocessing.get_context("fork" if "fork" in multiprocessing.get_all_start_methods() else "spawn")
    writers = [context.Process(target=_count, args=(tmp_path, number, 25)) for number in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(50)
    assert (tmp_path / "count").read_text() == "200"


def test_new_folders_are_one_process_s_own(tmp_path, monkeypatch):
    """As many at one moment as there are: each has its own name."""
    monkeypatch.chdir(tmp_path)
    config = qvae.load_config("digits", SETTINGS)
    start, found = threading.Barrier(15), []

    def make():
        start.wait()
        with new_folder(None, config) as folder:
            (folder / "something").touch()
            found.append(folder)

    threads = [threading.Thread(target=make) for _ in range(15)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(found)) == 15


def test_a_folder_that_nothing_came_of_goes_again(tmp_path, command):
    code, _, _ = command("train", "--sampler", "exact", "--set", "model.latent.sizes=[30,30]")
    assert code == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["train", "resume", "evaluate", "report"])
def test_nobody_writes_into_a_run_that_is_being_written(small_run, name):
    before = {file: file.read_bytes() for file in small_run.rglob("*") if file.is_file()}
    process = subprocess.Popen([sys.executable, "-c", HOLD, small_run], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout.readline() == "held\n"
        work = {
            "train": lambda: qvae.train(qvae.load_config("digits", SETTINGS), small_run),
            "resume": lambda: workflow.resume(small_run, ["training.epochs=4"]),
            "evaluate": lambda: workflow.evaluate(qvae.load_run(small_run)),
            "report": lambda: workflow.report(qvae.load_run(small_run)),
        }
        words = "already holds a run" if name == "train" else f"is being written by process {process.pid} on"
        with pytest.raises(RunError, match=words):
            work[name]()
    finally:
        process.kill()
        process.wait()
    (small_run / LOCK).unlink()
    assert {file: file.read_bytes() for file in small_run.rglob("*") if file.is_file()} == before


# What is the user's ---------------------------------------------------------------------------------------------------


def test_a_configuration_in_the_folder_is_not_replaced(command, small, tmp_path):
    (tmp_path / "config.yaml").write_text("training: {epochs: 2}  # mine\n")
    code, _, err = command("train", "config.yaml", "--out", ".", *small)
    assert code == 2
    assert "not empty and not a run" in err
    assert [file.name for file in tmp_path.iterdir()] == ["config.yaml"]
    assert (tmp_path / "config.yaml").read_text() == "training: {epochs: 2}  # mine\n"


def test_a_run_that_was_killed_early_is_begun_anew_but_not_where_its_configuration_was_edited(small_run):
    for name in ("checkpoint.safetensors", "model.safetensors"):
        (small_run / name).unlink()
    config = small_run / "config.yaml"
    written = config.read_text()
    config.write_text(f"# mine\n{written}")
    with pytest.raises(RunError, match="not a run"):
        qvae.train(qvae.load_config("digits", SETTINGS), small_run)
    config.write_text(written)
    assert len(qvae.train(qvae.load_config("digits", SETTINGS), small_run).metrics) == 2


def test_a_link_in_a_run_folder_is_not_followed(small_run, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for file in (small_run / "figures").iterdir():
        file.unlink()
    (small_run / "figures").rmdir()
    (small_run / "figures").symlink_to(elsewhere)
    with pytest.raises(RunError, match="figures is a link"):
        workflow.report(qvae.load_run(small_run))
    with pytest.raises(RunError, match="figures is a link"):
        workflow.resume(small_run, ["training.epochs=4"])
    assert not list(elsewhere.iterdir())
    (small_run / "figures").unlink()
    (tmp_path / "start-file").write_text("mine")
    (small_run / ".evaluation.json.part").symlink_to(tmp_path / "start-file")
    with pytest.raises(RunError, match="is a link"):
        workflow.evaluate(qvae.load_run(small_run))
    (small_run / ".evaluation.json.part").unlink()
    os.link(tmp_path / "start-file", small_run / LOCK)
    with pytest.raises(RunError, match="not one that qvae made"):
        workflow.evaluate(qvae.load_run(small_run))
    assert (tmp_path / "start-file").read_text() == "mine"


def test_a_finished_run_says_so_and_keeps_its_evaluation(command, small_run):
    assert command("evaluate", small_run, "--set", "importance_samples=11")[0] == 0
    before = {file.name: file.read_bytes() for file in small_run.iterdir() if file.is_file()}
    code, out, _ = command("train", "--resume", "--out", small_run)
    assert code == 0
    assert "is finished, at step 15 of 15" in out.replace("\n", " ")
    assert "training.epochs=NUMBER" in out
    assert {file.name: file.read_bytes() for file in small_run.iterdir() if file.is_file()} == before
    assert json.loads((small_run / "evaluation.json").read_text())["importance_samples"] == 11
    (small_run / "report.html").unlink()
    run = workflow.resume(small_run)
    assert (small_run / "report.html").exists()
    assert run.evaluation["importance_samples"] == 11


# Which run is resumed -------------------------------------------------------------------------------------------------


def test_the_latest_run_of_a_configuration_is_known_by_the_configuration(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    configs = {
        name: qvae.load_config("digits", [f"training.learning_rate={rate}"])
        for name, rate in (("faces", 0.1), ("faces[1]", 0.2), ("faces-rotated", 0.3))
    }
    for age, (name, config) in enumerate(configs.items()):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(dump_config(config))
        (folder / "checkpoint.safetensors").touch()
        os.utime(folder / "checkpoint.safetensors", (age, age))
    for name, config in configs.items():
        assert latest_run([config]).name == name
    assert latest_run().name == "faces-rotated"
    assert latest_run([configs["faces"], configs["faces[1]"]]).name == "faces[1]"
    with pytest.raises(RunError, match=r"no run of this configuration in \./runs"):
        latest_run([qvae.load_config("digits")])
    (tmp_path / "runs" / "faces" / "config.yaml").write_text("nonsense: 1")
    with pytest.raises(RunError, match="no run of this configuration"):
        latest_run([configs["faces"]])


def test_resume_by_name_takes_the_run_of_that_configuration(command, small, small_run, tmp_path):
    (tmp_path / "runs").mkdir()
    small_run.rename(tmp_path / "runs" / "a")
    code, _, err = command("train", "digits", "--resume")
    assert code == 2
    assert "no run of this configuration" in err
    code, out, err = command("train", "digits", "--resume", *small)
    assert (code, err) == (0, "")
    assert "runs/a is finished" in out.replace("\n", " ")
    (tmp_path / "mine.yaml").write_text((tmp_path / "runs" / "a" / "config.yaml").read_text())
    code, out, err = command("train", "mine.yaml", "--resume", "--set", "training.epochs=4")  # it has 3 till now
    assert (code, err) == (0, "")
    assert "resuming runs/a at step 15 of 20" in out


# Paths ----------------------------------------------------------------------------------------------------------------


def test_a_tilde_in_out_is_the_home(command, small, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    assert command("train", "--out=~/a", *small)[0] == 0
    assert (tmp_path / "home" / "a" / "report.html").exists()
    assert not (tmp_path / "~").exists()
    assert qvae.load_run("~/a").path == tmp_path / "home" / "a"


def test_paths_given_to_an_opened_run_hold_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("before.npy", np.random.default_rng(0).random((60, 4, 4)))
    qvae.train(qvae.load_config("digits", [*SETTINGS, "data.name=before.npy"]), "run")
    os.rename("before.npy", "after.npy")
    run = qvae.load_run("run", ["data.name=after.npy"])
    monkeypatch.chdir("/")
    assert run.dataset.shape == (4, 4)


# Parallel and killed --------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs signals")
def test_trainings_at_once_into_one_folder_leave_one_whole_run(tmp_path):
    code = "import sys; from qvae.cli.main import main; sys.argv = ['qvae', 'train', 'digits', *sys.argv[1:]]; main()"
    settings = [part for text in SETTINGS for part in ("--set", text)]
    command = [sys.executable, "-c", code, "--out", "same", *settings]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, cwd=tmp_path, env=environment, **pipes) for _ in range(3)]
    ended = [(process.communicate(timeout=100), process.returncode) for process in processes]
    assert sorted(code for _, code in ended) == [0, 2, 2]
    for (_, err), code in ended:
        if code:
            assert "is being written by process" in err or "already holds a run" in err
    run = qvae.load_run(tmp_path / "same")
    assert [row["epoch"] for row in run.metrics] == [1, 2]
    assert not [file.name for file in run.path.iterdir() if file.name.startswith(".")]
