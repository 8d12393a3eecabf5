"""A benchmark's folder: one process's, and nothing there is replaced that isn't of a benchmark."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qvae.config.backends import BackendSpec
from qvae.config.load import load_config
from qvae.errors import RunError
from qvae.measuring import training as module
from qvae.measuring.folder import benchmark_folder
from qvae.measuring.training import benchmark_training
from qvae.runs.lock import writing

START = """
import sys
from pathlib import Path
from qvae.config.load import load_config
from qvae.config.backends import BackendSpec
from qvae.measuring.training import benchmark_training
if __name__ == "__main__":
    settings = ["model.latent.sizes=[3,3]", "model.network.hidden=[8]"]
    benchmark_training(load_config("digits", settings), [BackendSpec(name="gibbs")], 60.0, Path(sys.argv[1]))
"""


def nothing_trains(monkeypatch):
    def refuse(*arguments):
        raise RunError("nothing trains here")

    monkeypatch.setattr(module, "_train_apart", refuse)


def test_runs_in_the_folder_are_left_alone(small_run, tmp_path, monkeypatch):
    nothing_trains(monkeypatch)
    (tmp_path / "runs").mkdir()
    run = small_run.rename(tmp_path / "runs" / "gibbs")
    before = {file: file.read_bytes() for file in run.rglob("*") if file.is_file()}
    benchmark_training(load_config("digits"), [BackendSpec(name="gibbs")], 1.0, tmp_path)
    assert {file: file.read_bytes() for file in run.rglob("*") if file.is_file()} == before
    (tmp_path / "trainings").mkdir(exist_ok=True)
    for file in (tmp_path / "trainings").iterdir():
        file.rmdir()
    run.rename(tmp_path / "trainings" / "gibbs")
    with pytest.raises(RunError, match="holds files that are not of a benchmark"):
        benchmark_training(load_config("digits"), [BackendSpec(name="gibbs")], 1.0, tmp_path)
    assert (tmp_path / "trainings" / "gibbs" / "model.safetensors").exists()


@pytest.mark.parametrize("name", ["results.json", "report.html", "figures"])
def test_files_of_somebody_else_are_not_replaced(tmp_path, name, monkeypatch):
    nothing_trains(monkeypatch)
    (tmp_path / "mine").symlink_to(tmp_path)  # which a benchmark doesn't touch
    (tmp_path / name).write_text("[]")
    with pytest.raises(RunError, match=f"holds a {name} that is not of a benchmark"):
        benchmark_training(load_config("digits"), [BackendSpec(name="gibbs")], 1.0, tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == sorted(["mine", name])


def test_a_folder_of_a_benchmark_goes_on_and_has_one_writer(tmp_path, monkeypatch):
    nothing_trains(monkeypatch)
    for _ in range(2):
        benchmark_training(load_config("digits"), [BackendSpec(name="gibbs")], 1.0, tmp_path / "b")
    assert "schema" in json.loads((tmp_path / "b" / "results.json").read_text())
    monkeypatch.setattr("qvae.runs.lock.threading.get_ident", lambda: -1)  # as if it were another thread
    with writing(tmp_path / "b"):
        monkeypatch.undo()
        with pytest.raises(RunError, match="is being written by process"), benchmark_folder(tmp_path / "b"):
            pass


def _children_of(pid):
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(status.parent.name))
    return found


def _is_gone(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_children_end_with_their_parent(tmp_path, number):
    (tmp_path / "start.py").write_text(START)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "start.py", tmp_path / "b"], env=os.environ | {"OMP_NUM_THREADS": "1"}
    )
    end = time.monotonic() + 60
    while not (tmp_path / "b" / "trainings" / "gibbs" / "run" / "metrics.jsonl").exists():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.05)
    children = _children_of(process.pid)
    assert children
    process.send_signal(number)
    process.wait()
    end = time.monotonic() + 20
    while not all(map(_is_gone, children)):
        assert time.monotonic() < end
        time.sleep(0.05)
