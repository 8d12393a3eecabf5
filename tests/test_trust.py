"""What needs the user's word, by the annotation of an option and by what it says; and whose word is enough."""

import json
from pathlib import Path
from typing import Annotated, Any

import pytest

from qvae.trust import OWN, Address, Code, Need, Nested, Output, Trust, is_nested, needs, remember, remembered, texts

CODE = Annotated[str, Code(("qvae.", "dimod."))]
FILE = Annotated[str | None, Output()]
URL = Annotated[str, Address()]


@pytest.mark.parametrize(
    ("annotation", "value", "found"),
    [
        (CODE, "mine.Thing", [("run the code at", "mine.Thing")]),
        (CODE, "dimod.Thing", []),
        (CODE, "dimodish.Thing", [("run the code at", "dimodish.Thing")]),
        (URL, "anywhere", [("send your credentials to", "anywhere")]),
        (list[URL], ["a", "b"], [("send your credentials to", "a"), ("send your credentials to", "b")]),
        (Any, {"a": [1, {"b": "https://far.org"}]}, [("send your credentials to", "https://far.org")]),
        (str, "far.org:443", [("send your credentials to", "far.org:443")]),
        (str, "[::1]:443/path", []),
        (str, "far.org:443/path", [("send your credentials to", "far.org:443/path")]),
        (str, "my_module:Thing", []),
        (str, "far.org:443x", []),
        (str, "see far.org:443", []),
        (FILE, None, []),
        (FILE, "/elsewhere/a.json", [("write the file", "/elsewhere/a.json")]),
    ],
)
def test_what_needs_a_word(annotation, value, found, tmp_path):
    assert [(need.verb, need.text) for need in needs(annotation, value, tmp_path)] == found


def test_files_inside_of_the_run_s_folder_need_none_unless_a_link_leads_out(tmp_path):
    run, inside, outside = tmp_path / "run", str(tmp_path / "run" / "a.json"), str(tmp_path / "a.json")
    run.mkdir()
    (run / "link").symlink_to(tmp_path)
    for text, folder, is_needed in (
        (inside, run, False),
        (inside, None, True),
        (outside, run, True),
        (str(run / ".." / "a.json"), run, True),
        (str(run / "link" / "a.json"), run, True),
        (str(tmp_path / "run-2" / "a.json"), run, True),
    ):
        assert bool(list(needs(FILE, text, folder))) is is_needed


def test_whose_word_is_enough(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    said = Trust(frozenset({"a.json", "mine:Thing"}))
    assert Need("write the file", str(tmp_path / "a.json")).is_said_by(said)  # said from here
    assert not Need("write the file", str(tmp_path / "b.json")).is_said_by(said)
    assert Need("run the code at", "mine:Thing").is_said_by(said)
    assert not Need("run the code at", str(tmp_path / "a.json")).is_said_by(said)
    assert not Need("run the code at", "mine").is_said_by(said)
    assert Need("run the code at", "anything").is_said_by(OWN)
    assert said.and_(["more"]).words == {"a.json", "mine:Thing", "more"}
    assert (said.and_([]).everything, OWN.and_(["more"]).everything) == (False, True)
    assert said == Trust()  # which is no part of what a configuration says


def test_texts_and_other_backends():
    assert list(texts({"a": "x", "b": ("y", ["z", 1, None]), 3: {"c": "w"}})) == ["x", "y", "z", "w"]
    assert is_nested(Annotated[str, Nested()] | None)
    assert is_nested(list[Annotated[str, Nested()]])
    assert not is_nested(CODE)


@pytest.mark.parametrize("damage", [None, "{", "[]", '{"PLACE": "one word"}', '{"PLACE": 3}'])
def test_words_are_remembered_for_their_folder_alone(damage, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "settings"))
    run, file = tmp_path / "run", tmp_path / "settings" / "qvae" / "trust.json"
    if damage is not None:
        file.parent.mkdir(parents=True)
        file.write_text(damage.replace("PLACE", str(run)))
    before = {"one word"} if damage and "one word" in damage else set()
    assert remembered(run) == before
    remember(run, ["b", "a"])
    remember(run, ["c"])
    remember(tmp_path / "other", ["d"])
    assert remembered(run) == {"a", "b", "c"} | before
    assert remembered(tmp_path / "other") == {"d"}
    monkeypatch.chdir(tmp_path)
    assert remembered(Path("run")) == {"a", "b", "c"} | before
    assert json.loads(file.read_text())[str(run)] == sorted({"a", "b", "c"} | before)
    stamp = file.stat().st_ino
    remember(run, ["a"])  # nothing new
    assert file.stat().st_ino == stamp
    monkeypatch.setenv("XDG_CONFIG_HOME", str(file))  # where no folder can be made
    remember(run, ["e"])
    assert remembered(run) == set()
