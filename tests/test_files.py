import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from qvae.errors import RunError
from qvae.files import (
    append_text,
    atomic_write_bytes,
    atomic_write_text,
    clear_abandoned,
    from_here,
    from_user,
    read_plain,
    replacing,
    reserve,
)
from qvae.locks import take


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
    kept = [f".b.json.{'1' * 12}.part", f".c.json.{'2' * 12}.part", ".mine.part", "mine.part"]
    (tmp_path / "figures").mkdir()
    (tmp_path / "link").symlink_to(tmp_path.parent)
    for name in (f".a.json.{'0' * 12}.part", f"figures/.a.png.{'0' * 12}.part", *kept):
        (tmp_path / name).touch()
        if name != kept[0]:
            os.utime(tmp_path / name, (time.time() - 10,) * 2)
    with open(tmp_path / kept[1], "r+b") as file:
        assert take(file.fileno())
        clear_abandoned(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [*kept[:3], "figures", "link", "mine.part"]
    assert not os.listdir(tmp_path / "figures")


def test_a_write_holds_its_temporary_file(tmp_path, monkeypatch):
    """So that it isn't cleared, however long it takes."""

    def clear(descriptor):
        os.utime(descriptor, (time.time() - 10,) * 2)
        clear_abandoned(tmp_path)

    monkeypatch.setattr("qvae.files.os.fsync", clear)
    monkeypatch.setattr("qvae.files._sync_folder", lambda folder: None)
    atomic_write_text(tmp_path / "a.json", "x")
    assert os.listdir(tmp_path) == ["a.json"]


def test_no_link_is_read_or_added_to_and_no_pipe_waited_for(tmp_path, monkeypatch):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    (tmp_path / "dangling").symlink_to(tmp_path / "made")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe", "dangling"):
        for work in (read_plain, lambda file: append_text(file, "more")):
            with pytest.raises(OSError):
                work(tmp_path / name)
    with monkeypatch.context() as patch:
        patch.setattr("qvae.files.os.path.islink", lambda file: False)  # as if it had come to be a moment later
        with pytest.raises(OSError):
            read_plain(tmp_path / "link")
    monkeypatch.delattr("os.O_NOFOLLOW")
    with pytest.raises(OSError, match="it is a link"):
        read_plain(tmp_path / "link")
    with pytest.raises(IsADirectoryError):
        read_plain(tmp_path)
    append_text(tmp_path / "mine", ", too")
    assert read_plain(tmp_path / "mine") == b"mine, too"
    assert read_plain(tmp_path / "mine", 4) == b"mine"
    assert not (tmp_path / "made").exists()


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


@pytest.mark.parametrize(
    ("age", "has_locks", "stays"), [(59, False, True), (61, False, False), (0.5, True, True), (2, True, False)]
)
def test_how_old_what_was_left_must_be(age, has_locks, stays, tmp_path, monkeypatch):
    """A second, or a minute where nothing tells whether somebody holds it."""
    name = f".a.json.{'0' * 12}.part"
    (tmp_path / name).touch()
    os.utime(tmp_path / name, (1000.0, 1000.0))
    monkeypatch.setattr("qvae.files.time.time", lambda: 1000.0 + age)
    if not has_locks:
        monkeypatch.setattr("qvae.files.take", lambda descriptor: (_ for _ in ()).throw(OSError(38, "no locks")))
    clear_abandoned(tmp_path)
    assert (name in os.listdir(tmp_path)) is stays


@pytest.mark.parametrize(
    ("error", "reason"),
    [(OSError(28, "No space left on device"), "No space left on device"), (OSError("it broke"), "it broke")],
)
def test_what_replaces_a_file_leaves_the_old_one_where_it_fails(error, reason, tmp_path):
    def write():
        with replacing(tmp_path / "a") as new:
            new.write_text("half")
            raise error

    (tmp_path / "a").write_text("old")
    with pytest.raises(RunError, match=f"a can't be written: {reason}; free some space or choose another --out"):
        write()
    assert (os.listdir(tmp_path), (tmp_path / "a").read_text()) == (["a"], "old")
    with replacing(tmp_path / "a") as new:
        new.write_text("new")
    assert (os.listdir(tmp_path), (tmp_path / "a").read_text()) == (["a"], "new")
