"""Every file says its job, one of more than 400 lines says why it is one file, and no docstring only restates a name."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted(path for room in ("qvae", "backends") for path in (ROOT / room).rglob("*.py"))
MAX_LINES = 400
SMALL_WORDS = {
    "a", "all", "an", "and", "are", "as", "be", "by", "for", "from", "in", "is", "it", "its", "of", "on", "one", "see", "that",
    "the", "this", "to", "with",
}  # fmt: skip


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_file_says_its_job_and_why_it_is_long(path):
    text = path.read_text(encoding="utf-8")
    docstring = ast.get_docstring(ast.parse(text)) or ""
    assert docstring, "it has no docstring: its first line says its job"
    lines = text.count("\n")
    if lines > MAX_LINES:
        reason = re.search(r"Longer than 400 lines because \w+", docstring)
        assert reason, f"{lines} lines: split it by job, or say in its docstring: Longer than 400 lines because ..."


def test_no_docstring_only_restates_a_name():
    assert list(restating("class Box:\n  def open_lid(self):\n    'Open the lid of this box.'")) == ["open_lid"]
    assert not list(restating("class Box:\n  def open_lid(self):\n    'Open the lid, which must be shut.'"))
    found = [f"{path.relative_to(ROOT)}: {name}" for path in FILES for name in restating(path.read_text(encoding="utf-8"))]
    assert not found, "say what the name doesn't, or leave the docstring out"


def restating(text):
    """Functions and classes whose docstrings have no word that isn't in their names or their class's."""

    def visit(node, above):
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.FunctionDef | ast.ClassDef):
                names = above | stems(child.name)
                docstring = ast.get_docstring(child)
                if docstring and stems(docstring) <= names:
                    yield child.name
                yield from visit(child, names if isinstance(child, ast.ClassDef) else above)

    return visit(ast.parse(text), set())


def stems(text):
    words = (word.lower() for word in re.findall(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])", text))
    return {re.sub(r"(ing|ed|es|s|e)$", "", word) for word in words if word not in SMALL_WORDS}
