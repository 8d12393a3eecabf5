"""Every command and every piece of Python in docs/applications works as it is printed, on models of eight spins."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from conftest import SMALL
from typer.testing import CliRunner

from qvae.applications import TASKS
from qvae.cli.main import make_app

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "applications"

_spec = importlib.util.spec_from_file_location("pictures", FOLDER / "pictures.py")
pictures = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(pictures)

QUICK = {
    "train": [part for setting in SMALL for part in ("--set", setting)],
    "denoise": ["--draws", "4", "--steps", "2"],
    "inpaint": ["--draws", "4", "--steps", "2"],
    "super-resolve": ["--draws", "4", "--steps", "2"],
}
"""Added to the commands of these names."""


def follow(page):
    """What a page says, in this process and with smaller models."""
    for language, code in pictures.steps(page):
        if language:
            exec(compile(code, f"{page}.md", "exec"), {})
            continue
        for line in code.splitlines():
            program, *words = shlex.split(line, comments=True)
            assert program == "qvae"
            more = QUICK.get(words[1] if words[0] == "apply" else words[0], [])
            done = CliRunner().invoke(make_app(), [*words, *more])
            assert done.exit_code == 0, (line, done.output, done.exception)


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    """A folder in which the page that all begin with was followed."""
    folder = tmp_path_factory.mktemp("pages")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        follow(pictures.START)
    return folder


@pytest.mark.parametrize("page", sorted(pictures.PICTURES))
def test_a_page_works_as_it_is_printed(page, start, monkeypatch):
    if page == "compress":
        pytest.importorskip("constriction")
    if page == "embed":
        pytest.importorskip("pyarrow")
    monkeypatch.chdir(start)
    follow(page)
    made = pictures.PICTURES[page]
    assert made is None or (start / made).exists()


def test_every_task_has_a_page_and_every_page_a_line_and_a_small_picture():
    pages = {file.stem for file in FOLDER.glob("*.md")} - {pictures.START}
    assert pages == set(pictures.PICTURES)
    assert set(TASKS) - {"decompress"} <= pages  # that is on the page of compress
    index = (FOLDER / f"{pictures.START}.md").read_text(encoding="utf-8")
    for page in pages:
        assert f"({page}.md)" in index
        shown = re.findall(r"!\[.+\]\((.+)\)", (FOLDER / f"{page}.md").read_text(encoding="utf-8"))
        assert shown == [f"figures/{page}.png"] * (pictures.PICTURES[page] is not None)
        assert all((FOLDER / file).stat().st_size < 60_000 for file in shown)
