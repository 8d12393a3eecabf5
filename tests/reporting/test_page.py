"""The page: one file that needs no other, and shows text as text."""

import base64
import re

import numpy as np
import pytest
from PIL import Image

from qvae.reporting.page import Picture, Section, Table, render_page


@pytest.fixture
def picture(tmp_path):
    file = tmp_path / "a.png"
    Image.fromarray(np.full((4, 6, 3), 200, np.uint8)).save(file)
    return Picture(file, "A <picture>", "what it means")


def test_everything_is_in_one_file(picture):
    section = Section("Results", "Text.", [Table(("a", "b"), [("1", "2")], "note")], [picture], listings={"Config": "x: 1"})
    html = render_page("Title", "subtitle", [section], ["look out"])
    for part in ("Title", "subtitle", "Results", "Text.", "<td>2</td>", "note", "what it means", "x: 1", "look out"):
        assert part in html
    assert "<script" not in html
    assert re.findall(r'(?:src|href)="(?!data:|#)', html) == []
    (uri,) = re.findall(r'src="data:image/png;base64,([^"]+)"', html)
    assert base64.b64decode(uri) == picture.file.read_bytes()


def test_text_is_escaped(picture):
    html = render_page("<b>", "&", [Section("x", pictures=[picture], listings={"l": "</pre><script>"})])
    assert "<b></h1>" not in html
    assert "&lt;b&gt;" in html
    assert "A &lt;picture&gt;" in html
    assert "<script>" not in html
