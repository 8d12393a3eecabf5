"""Whether freed memory is kept where it may be; each case in a process of its own, whose allocator is as it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

FAULTS = """
import resource
from qvae.memory import expect_large_blocks, keep_freed_memory
{line}
for _ in range(6):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [bytearray(b"x") * {size} for _ in range(48 * 2**20 // {size})]
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif("CS_GNU_LIBC_VERSION" not in getattr(os, "confstr_names", {}), reason="the allocator isn't glibc's")
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
    others = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_TUNABLES"))}
    command = [sys.executable, "-c", FAULTS.format(line=line, size=size)]
    ran = subprocess.run(command, env=others | variables, capture_output=True, text=True, check=True)
    first, *later = map(int, ran.stdout.split())
    assert sum(later) < first / 2 if is_kept else min(later) > first / 2  # pages that went back are faulted in again
