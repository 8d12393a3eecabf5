"""Every file says its job, and one of more than 400 lines says why it is one file."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("qvae", "backends") for path in (ROOT / room).rglob("*.py"))
MAX_LINES = 400


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_its_job_and_why_it_is_long(path):
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring, "it has no docstring: its first line says its job"
    lines = text.count("\n")
    if lines > MAX_LINES:
        reason = re.search(r"Longer than 400 lines because \w+", docstring)
        assert reason, f"{lines} lines: split it by job, or say in its docstring: Longer than 400 lines because ..."
