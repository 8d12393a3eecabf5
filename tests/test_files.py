import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qvae.errors import RunError
from qvae.files import atomic_write_bytes, atomic_write_text, clear_abandoned, from_here, from_user, reserve


def test_writes_and_replaces(tmp_path):
    file = tmp_path / "a.json"
    atomic_write_text(file, "Γ")
    atomic_write_text(file, "λ")
    assert file.read_text(encoding="utf-8") == "λ"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failure_leaves_the_old_file_and_no_litter(call, number, tmp_path, monkeypatch):
    file = tmp_path / "a.bin"
    atomic_write_bytes(file, b"old")

    def fail(*args):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(f"qvae.files.os.{call}", fail)
    with pytest.raises(RunError) as caught:
        atomic_write_bytes(file, b"n" * 2_500_000)
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]
    message = str(caught.value)
    assert str(file) in message
    assert os.strerror(number) in message
    assert "the file that was there before is intact" in message
    assert ("2.5 MB; " in message and "free some space" in message) == (number != errno.EIO)


def test_an_interrupt_leaves_the_old_file_and_no_litter(tmp_path, monkeypatch):
    file = tmp_path / "a.bin"
    atomic_write_bytes(file, b"old")

    def interrupt(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr("qvae.files.os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        atomic_write_bytes(file, b"new")
    assert file.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_the_system_refuses_to_write_more(tmp_path):
    """A real refusal in the middle of a write: a limit on the size of files stands in for a full disk."""
    code = """
import resource, sys
from qvae.errors import RunError
from qvae.files import atomic_write_bytes
atomic_write_bytes(sys.argv[1], b"old")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
try:
    atomic_write_bytes(sys.argv[1], bytes(1_000_000))
except RunError as error:
    print(error)
"""
    command = [sys.executable, "-c", code, tmp_path / "a.bin"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "File too large for its 1 MB; the file that was there before is intact" in result.stdout
    assert (tmp_path / "a.bin").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.bin"]


def test_a_missing_folder(tmp_path):
    with pytest.raises(RunError, match=r"No such file or directory; nothing is left behind; check its folder"):
        atomic_write_text(tmp_path / "no" / "a.txt", "x")


def test_no_permission(tmp_path, monkeypatch):
    def refuse(*args):  # a folder's mode would not stop root
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("qvae.files.os.replace", refuse)
    with pytest.raises(RunError, match="Permission denied; nothing is left behind; allow writing to its folder"):
        atomic_write_text(tmp_path / "a.txt", "x")
    assert not os.listdir(tmp_path)


def test_a_link_at_a_name_that_could_be_guessed_is_not_followed(tmp_path):
    (tmp_path / "start-file").write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    for name in (".a.json.part", "a.json"):
        (folder / name).symlink_to(tmp_path / "start-file")
    atomic_write_text(folder / "a.json", "new")
    assert (tmp_path / "start-file").read_text() == "mine"
    assert not (folder / "a.json").is_symlink()
    assert (folder / "a.json").read_text() == "new"


def test_each_write_has_a_temporary_file_of_its_own(tmp_path, monkeypatch):
    names, replace = [], os.replace
    monkeypatch.setattr("qvae.files.os.replace", lambda old, new: (names.append(str(old)), replace(old, new)))
    for _ in range(3):
        atomic_write_text(tmp_path / "a.json", "x")
    assert len(set(names)) == 3


def test_what_killed_writes_left_is_cleared_but_not_what_is_being_written(tmp_path):
    for name, age in ((".a.json.0f.part", 1000), (".b.json.1e.part", 0), ("mine.part", 1000)):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    clear_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".b.json.1e.part", "mine.part"]


def test_a_place_is_reserved_once(tmp_path):
    assert reserve(tmp_path / "a")
    assert not reserve(tmp_path / "a")
    (tmp_path / "b").symlink_to(tmp_path / "nowhere")
    assert not reserve(tmp_path / "b")
    with pytest.raises(RunError, match="can't be written"):
        reserve(tmp_path / "no" / "a")


def test_paths_of_a_user_hold_from_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    assert from_user("~/a") == tmp_path / "home" / "a"
    assert from_user("a") == tmp_path / "a"
    assert from_here(tmp_path / "a" / "b") == Path("a/b")
    assert from_here(tmp_path.parent) == tmp_path.parent
