import errno
import os
import subprocess
import sys

import pytest

from qvae.errors import RunError
from qvae.files import atomic_write_bytes, atomic_write_text


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
