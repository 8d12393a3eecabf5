"""Whether freed memory is kept where it may be; each case in a process of its own, whose allocator is as it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import CHILDREN

from qvae import memory
from qvae.errors import DataError, RunError

needs_glibc = pytest.mark.skipif(not memory._has_glibc(), reason="the allocator isn't glibc's")

FAULTS = """
import resource
from qvae.memory import expect_large_blocks, keep_freed_memory
{line}
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [bytearray(b"x") * {size} for _ in range(48 * 2**20 // {size})]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _environment() -> dict[str, str]:
    """Without what a user may have set for the allocator, and what else processes of tests import at their start."""
    found = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    return found | {"PYTHONPATH": found["PYTHONPATH"].removeprefix(CHILDREN)}


@needs_glibc
@pytest.mark.parametrize(
    ("line", "size", "variables", "is_kept"),
    [
        ("keep_freed_memory()", 48 * 2**20, {}, True),
        ("expect_large_blocks()", 2**19, {}, True),
        ("", 48 * 2**20, {}, False),
        ("", 2**19, {}, False),
        ("keep_freed_memory()", 48 * 2**20, {"MALLOC_MMAP_THRESHOLD_": "131072"}, False),
        ("keep_freed_memory()", 48 * 2**20, {"GLIBC_TUNABLES": "glibc.malloc.mmap_threshold=131072"}, False),
        ("expect_large_blocks()", 2**19, {"MALLOC_MMAP_THRESHOLD_": "131072"}, False),
    ],
)
def test_freed_memory_is_kept_unless_the_user_says_otherwise(
    line: str, size: int, variables: dict[str, str], is_kept: bool
) -> None:
    command = [sys.executable, "-c", FAULTS.format(line=line, size=size)]
    ran = subprocess.run(command, env=_environment() | variables, capture_output=True, text=True, check=True)
    first, *later = map(int, ran.stdout.split())
    assert sum(later) < first / 2 if is_kept else min(later) > first / 2  # pages that went back are faulted in again


@pytest.mark.parametrize("error", [AttributeError, ValueError, OSError(22, "Invalid argument")])  # the last one is musl's
def test_other_libraries_are_left_alone(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def refuse(name: str) -> str:
        raise error

    monkeypatch.setattr(os, "confstr", refuse, raising=False)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: pytest.fail("it has no mallopt"))
    for name in os.environ.keys() - _environment().keys():
        monkeypatch.delenv(name)
    memory.keep_freed_memory()


HEAP = """
import re
from qvae.memory import keep_freed_memory
{line}
held = bytearray(b"x") * 2**25
mappings = re.split(r"\\n(?=[0-9a-f]+-[0-9a-f]+ )", open("/proc/self/smaps").read())
heap = [text for text in mappings if "[heap]" in text]
print(sum(int(re.search(r"Size: +(\\d+)", text)[1]) for text in heap if re.search("VmFlags:.* hg( |$)", text)))
"""


@needs_glibc
@pytest.mark.skipif(not Path("/sys/kernel/mm/transparent_hugepage").exists(), reason="the system has no huge pages")
@pytest.mark.parametrize(("line", "kilobytes"), [("keep_freed_memory()", 2**19), ("", 0)])
def test_what_is_kept_lies_in_huge_pages(line: str, kilobytes: int) -> None:
    command = [sys.executable, "-c", HEAP.format(line=line)]
    ran = subprocess.run(command, env=_environment(), capture_output=True, text=True, check=True)
    assert 0.95 * kilobytes <= int(ran.stdout) <= 1.1 * kilobytes


def test_what_is_as_large_as_the_memory_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "total_memory", lambda: 2_340_000_000)
    memory.require_memory(2_340_000_000, "a table", "take fewer rows")
    with pytest.raises(RunError, match=r"^a table takes 2.4 GB of memory, more than this machine has; take fewer rows\.$"):
        memory.require_memory(2_360_000_000, "a table", "take fewer rows")
    with pytest.raises(DataError):
        memory.require_memory(2_340_000_001, "a table", "take fewer rows", DataError)


@pytest.mark.parametrize(
    ("limit", "expected"), [("max\n", 4096_000), ("5000\n", 5000), ("9999999\n", 4096_000), (None, 4096_000)]
)
def test_memory_is_the_machine_s_or_its_control_group_s(
    limit: str | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(path: Path, encoding: str) -> str:
        assert str(path) == "/sys/fs/cgroup/memory.max"
        if limit is None:
            raise FileNotFoundError
        return limit

    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__, raising=False)
    monkeypatch.setattr(Path, "read_text", read)
    assert memory.total_memory.__wrapped__() == expected


def test_on_a_gpu_its_own_memory_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    device = torch.device("cuda", 1)
    asked = []
    found = SimpleNamespace(total_memory=10**9)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda which: asked.append(which) or found)
    monkeypatch.setattr(memory, "total_memory", lambda: 2 * 10**9)
    memory.require_memory(10**9, "a state", "take fewer qubits", RunError, device)
    with pytest.raises(RunError, match="more than cuda:1 has; take fewer"):
        memory.require_memory(1.5e9, "a state", "take fewer qubits", RunError, device)
    memory.require_memory(1.5e9, "a state", "take fewer qubits", RunError, torch.device("cpu"))
    assert asked == [device, device]
