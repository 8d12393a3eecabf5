"""Lock files: held, waited for, taken over, and the same where the system is another one."""

import errno
import importlib.util
import multiprocessing
import os
import subprocess
import sys
import types

import pytest

from qvae import locks
from qvae.errors import RunError
from qvae.locks import Taken, held


def _count(file, times):
    for _ in range(times):
        with held(file.with_name(".lock"), wait=True):
            value = int(file.read_text())
            os.sched_yield()
            file.write_text(str(value + 1))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_who_waits_loses_nothing_and_no_lock_is_left(tmp_path):
    (tmp_path / "count").write_text("0")
    writers = [multiprocessing.get_context("fork").Process(target=_count, args=(tmp_path / "count", 50)) for _ in range(8)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert (tmp_path / "count").read_text() == "400"
    assert os.listdir(tmp_path) == ["count"]


def test_what_is_no_lock_is_left_alone(tmp_path):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    os.link(tmp_path / "mine", tmp_path / "twin")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "twin", "pipe", "no/lock"):
        with pytest.raises(RunError), held(tmp_path / name):
            pass
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_number_that_no_process_has_holds_nothing(number, tmp_path, monkeypatch):
    def refuse(*arguments):
        raise OSError(number, "no locks available")

    monkeypatch.setattr(locks, "fcntl", types.SimpleNamespace(flock=refuse, LOCK_EX=0, LOCK_NB=0), raising=False)
    (tmp_path / ".lock").write_text(f"{'9' * 40} {locks.socket.gethostname()}")
    with held(tmp_path / ".lock"):
        pass


# Another system -------------------------------------------------------------------------------------------------------


def _is_open(descriptor, file):
    try:
        return os.fstat(descriptor).st_ino == file
    except OSError:
        return False


@pytest.fixture
def windows(monkeypatch):
    """The module as Windows has it: without fcntl, with a msvcrt that locks bytes of open files."""
    taken = {}

    def locking(descriptor, mode, count):
        assert os.lseek(descriptor, 0, os.SEEK_CUR) == locks._LOCKED_BYTE
        file = os.fstat(descriptor).st_ino
        if taken.get(file, descriptor) != descriptor and _is_open(taken[file], file):
            raise PermissionError
        taken[file] = descriptor

    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", types.SimpleNamespace(locking=locking, LK_NBLCK=2))
    monkeypatch.setattr(sys, "platform", "win32")
    spec = importlib.util.spec_from_file_location("locks_of_windows", locks.__file__)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_locks_of_windows(windows, tmp_path):
    with windows.held(tmp_path / ".lock"):
        with pytest.raises(windows.Taken, match=f"process {os.getpid()} on"), windows.held(tmp_path / ".lock"):
            pass
        with open(tmp_path / "part", "wb") as file:
            assert windows.take(file.fileno())
            file.write(b"from the start")
    assert (tmp_path / "part").read_bytes() == b"from the start"
    with windows.held(tmp_path / ".lock"):
        pass


ELSEWHERE = """
import os, signal, sys, types
import torch, PIL.Image, matplotlib.pyplot, sklearn.manifold, typer, rich.live
del os.O_NOFOLLOW, os.O_NONBLOCK, os.sysconf, signal.SIGHUP, signal.setitimer
sys.modules["fcntl"] = sys.modules["resource"] = None
sys.modules["msvcrt"] = types.SimpleNamespace(locking=lambda *arguments: None, LK_NBLCK=2)
sys.platform = "win32"
import qvae.locks
sys.platform = "linux"
from qvae.cli.main import main
sys.argv = ["qvae", "train", "digits", "--out", sys.argv[1], *sys.argv[2:]]
main()
"""


def test_trains_without_what_only_some_systems_have(tmp_path, small):
    """As far as it can be told from here: Windows has no fcntl, no flags against links, and fewer signals."""
    command = [sys.executable, "-c", ELSEWHERE, tmp_path / "run", *small]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()
    assert not [name for name in os.listdir(tmp_path / "run") if name.startswith(".")]


def test_taken_says_who(tmp_path):
    with held(tmp_path / ".lock"), pytest.raises(Taken, match=f"process {os.getpid()} on"), held(tmp_path / ".lock"):
        pass


def test_who_waits_looks_again_until_it_is_free(tmp_path, monkeypatch):
    slept, answers = [], iter([False, False, True])
    monkeypatch.setattr(locks, "_is_free", lambda descriptor: next(answers))
    monkeypatch.setattr(locks.time, "sleep", slept.append)
    with held(tmp_path / ".lock", wait=True):
        assert (tmp_path / ".lock").read_text() == f"{os.getpid()} {locks.socket.gethostname()}"
    assert slept == [locks._PAUSE] * 2
    monkeypatch.setattr(locks, "_is_free", lambda descriptor: False)
    with pytest.raises(Taken, match="^another process$"), held(tmp_path / ".lock"):
        pass


def test_a_lock_that_was_removed_meanwhile_is_made_anew(tmp_path, monkeypatch):
    take, seen = locks.take, []

    def late(descriptor):
        if not seen:
            (tmp_path / ".lock").unlink()
        seen.append(descriptor)
        return take(descriptor)

    monkeypatch.setattr(locks, "take", late)
    with held(tmp_path / ".lock"):
        assert len(seen) == 2
        assert (tmp_path / ".lock").exists()


@pytest.mark.parametrize(
    ("text", "error", "lives"),
    [
        ("12 HERE", None, True),
        ("12 HERE", ProcessLookupError, False),
        ("12 HERE", PermissionError, True),  # somebody else's
        ("12 elsewhere", ProcessLookupError, True),
        ("x HERE", ProcessLookupError, True),
        ("", None, False),
    ],
)
def test_whether_a_lock_s_process_goes_on(text, error, lives, tmp_path, monkeypatch):
    def kill(pid, number):
        assert (pid, number) == (12, 0)
        if error is not None:
            raise error

    (tmp_path / ".lock").write_text(text.replace("HERE", locks.socket.gethostname()))
    monkeypatch.setattr(locks.os, "kill", kill)
    descriptor = os.open(tmp_path / ".lock", os.O_RDWR)
    try:
        assert locks._names_a_living_process(descriptor) is lives
    finally:
        os.close(descriptor)
