"""What is not the work costs itself alone: displays, films, probes, pictures, reports, closing; and how work is stopped."""

import functools
import os
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

import qvae
from qvae import workflow
from qvae.evaluation import evaluate
from qvae.evaluation.tsne import LatentFilm
from qvae.progress import Progress, Sturdy
from qvae.reporting import pictures
from qvae.sampling.sampler import LatentSampler

SETTINGS = [
    "training.epochs=2", "model.latent.sizes=[3,3]", "model.network.hidden=[8]", "evaluation.num_test=20",
    "evaluation.num_generated=20", "evaluation.probes=true", "evaluation.tsne_every=1", "evaluation.importance_samples=2",
]  # fmt: skip
QUIET = ["evaluation.num_generated=0", "evaluation.probes=false", "evaluation.tsne_every=0"]


class Listening(Progress):
    """Remembers warnings."""

    def __init__(self):
        self.warned = []

    def warn(self, text):
        self.warned.append(text)


def fails(*arguments, **options):
    raise RuntimeError("out of paint")


def leaves(*arguments, **options):
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("place", "name", "does", "words"),
    [(LatentFilm, "observe", fails, "couldn't be looked at in epoch 1"),
     (evaluate, "frechet_distances", fails, "no Frechet distances"),
     (pictures, "_drawn", fails, "the picture 'losses' can't be drawn (RuntimeError: out of paint)"),
     (pictures, "_film_bytes", fails, "the film can't be drawn"),
     (workflow, "write_report", fails, "there is no report"),
     (LatentSampler, "close", fails, "couldn't be closed"),
     (LatentSampler, "close", leaves, "couldn't be closed (SystemExit: 3)")],
)  # fmt: skip
def test_what_is_decoration_costs_itself(tmp_path, monkeypatch, place, name, does, words):
    listening = Listening()
    monkeypatch.setattr(place, name, does)
    run = qvae.train(qvae.load_config("digits", [*SETTINGS, "evaluation.probes=false"]), tmp_path / "run", listening)
    assert any(words in text for text in listening.warned)
    assert run.evaluation["log_likelihood"] < 0
    assert len(run.metrics) == 2
    assert (run.path / "report.html").exists() == (name != "write_report")


def test_probes_that_fail_cost_themselves(tmp_path, monkeypatch):
    monkeypatch.setattr("qvae.evaluation.latents.probe", fails)
    listening = Listening()
    run = qvae.train(qvae.load_config("digits", [*SETTINGS, "evaluation.tsne_every=0"]), tmp_path / "run", listening)
    assert "the labels couldn't be read from the codes (RuntimeError: out of paint)" in listening.warned
    assert "probes" not in run.evaluation["latents"]
    assert run.evaluation["latents"]["units"] == 6


def test_the_state_is_saved_before_the_last_map_is_drawn(tmp_path, monkeypatch):
    seen = []

    def look(film, model, epoch, loss):
        file = tmp_path / "run" / "checkpoint.safetensors"
        seen.append((epoch, file.exists() and qvae.load_run(tmp_path / "run").training_state["step"]))

    monkeypatch.setattr(LatentFilm, "observe", look)
    qvae.train(qvae.load_config("digits", [*SETTINGS, *QUIET[:2]]), tmp_path / "run")
    assert seen == [(1, False), (2, 10)]


class Broken(Progress):
    """Fails wherever it is told to."""

    def __init__(self, where, error):
        self.where, self.error = where, error

    def work(self, name):
        if self.where == "work":
            raise self.error
        return super().work(name)

    def say(self, text):
        if self.where == "say":
            raise self.error


@pytest.mark.parametrize("where", ["work", "say"])
def test_a_display_that_fails_costs_itself(tmp_path, where, caplog):
    display = Sturdy.around(Broken(where, ValueError("no such column")))
    display.say("begins")
    run = qvae.train(qvae.load_config("digits", [*SETTINGS, *QUIET]), tmp_path / "run", display)
    assert run.evaluation is not None
    assert "no such column" in str(display.failure)
    assert caplog.text.count("the display of progress failed") == 1


class Watched(Progress):
    """Fails at a report, and counts the ends of its work."""

    ended = 0

    @contextmanager
    def work(self, name):
        yield lambda share, figures: 1 / 0
        self.ended += 1


def test_a_display_that_failed_is_told_the_end_and_an_interrupt_passes():
    watched = Watched()
    display = Sturdy(watched)

    def work():
        with display.work("training") as report:
            report(0.5, "")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert watched.ended == 1
    assert isinstance(display.failure, ZeroDivisionError)


# Stopped from outside -------------------------------------------------------------------------------------------------

TRAIN = "import sys; from qvae.cli.main import main; sys.argv = ['qvae', 'train', 'digits', *sys.argv[1:]]; main()"
LONG = [*SETTINGS, *QUIET, "training.epochs=100000"]
HANGS = """
import time
from qvae.sampling.sampler import LatentSampler, Samples
import torch
class Hangs(LatentSampler):
    calls = 0
    def _sample(self, hamiltonian, num_samples):
        self.calls += 1
        if self.calls > 20:
            print("hangs", flush=True)
            time.sleep(60)
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))
"""


def started(folder, *settings, **pipes):
    """``qvae train --out run`` in a process of its own."""
    arguments = [part for text in settings for part in ("--set", text)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{folder}{os.pathsep}{os.environ['PYTHONPATH']}"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True} | pipes
    return subprocess.Popen([sys.executable, "-c", TRAIN, "--out", "run", *arguments], cwd=folder, env=environment, **pipes)


def wait_for(file, seconds=60):
    end = time.monotonic() + seconds
    while not file.exists():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="needs SIGHUP")
def test_a_terminal_that_is_closed_saves_and_stops(tmp_path):
    heard = functools.partial(signal.signal, signal.SIGHUP, signal.SIG_DFL)  # under nohup nobody hears it
    process = started(tmp_path, *LONG, preexec_fn=heard)
    wait_for(tmp_path / "run" / "metrics.jsonl")
    process.send_signal(signal.SIGHUP)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "qvae train --resume --out run" in out
    assert "Traceback" not in out + err
    assert qvae.load_run(tmp_path / "run").training_state["step"] > 0
    assert not (tmp_path / "run" / ".lock").exists()


def test_a_reader_that_leaves_saves_and_stops(tmp_path):
    """As under ``| head -1``."""
    process = started(tmp_path, *LONG[:-1], "training.epochs=1000")  # a line at each tenth
    assert process.stdout.readline()
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) == 141
    assert "nobody reads the output any more" in err
    assert "qvae train --resume --out run" in err
    assert "Traceback" not in err
    assert "Exception ignored" not in err
    assert 0 < qvae.load_run(tmp_path / "run").training_state["step"] < 5000


def test_a_sampler_that_hangs_is_interrupted_by_one_more_ctrl_c(tmp_path):
    (tmp_path / "hanging.py").write_text(HANGS)
    (tmp_path / "hangs-0.1.dist-info").mkdir()
    (tmp_path / "hangs-0.1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: hangs\nVersion: 0.1\n")
    (tmp_path / "hangs-0.1.dist-info" / "entry_points.txt").write_text("[qvae.samplers]\nhangs = hanging:Hangs\n")
    process = started(tmp_path, *LONG, "sampler.name=hangs", "training.checkpoint_seconds=0.0001")
    while process.stdout.readline() != "hangs\n":
        assert process.poll() is None, process.stderr.read()
    before = qvae.load_run(tmp_path / "run").training_state["step"]
    for _ in range(2):
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "qvae train --resume --out run" in out
    assert "Traceback" not in out + err
    assert qvae.load_run(tmp_path / "run").training_state["step"] == before > 0


HANGS_IN_C = HANGS.replace(
    "time.sleep(60)",
    """
            import ctypes
            lock, library = ctypes.create_string_buffer(256), ctypes.CDLL(None)
            library.pthread_mutex_lock(lock)
            library.pthread_mutex_lock(lock)  # for ever
""",
)


@pytest.mark.skipif(sys.platform != "linux", reason="knows how a mutex begins there")
def test_a_sampler_that_hangs_in_c_is_ended_by_a_third_ctrl_c(tmp_path):
    (tmp_path / "hanging.py").write_text(HANGS_IN_C)
    settings = [*LONG, "training.checkpoint_seconds=0.0001"]
    process = started(tmp_path, *settings, "sampler.name=hanging:Hangs")
    while process.stdout.readline() != "hangs\n":
        assert process.poll() is None, process.stderr.read()
    before = qvae.load_run(tmp_path / "run").training_state["step"]
    for words in ("2 times more ends the process", "once more ends the process"):
        process.send_signal(signal.SIGINT)
        while words not in (line := process.stdout.readline()):
            assert line, process.stderr.read()
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert qvae.load_run(tmp_path / "run").training_state["step"] == before > 0
    workflow.resume(tmp_path / "run", ["sampler.name=gibbs", "training.epochs=5"])


def test_the_trainer_tells_a_reader_that_left_from_an_interrupt(tmp_path):
    display = Sturdy(Broken("work", BrokenPipeError()))
    with pytest.raises(BrokenPipeError):
        qvae.train(qvae.load_config("digits", LONG), tmp_path / "run", display)
    assert qvae.load_run(tmp_path / "run").training_state["step"] == 1
