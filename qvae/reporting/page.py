"""One HTML file of text, tables and embedded pictures, which can be sent to a colleague."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from qvae.data.opened import opened_image
from qvae.runs.records import file_bytes

_WIDE = 1400  # pixels; narrower pictures stand two to a row
_KINDS = {".png": "image/png", ".gif": "image/gif"}


@dataclass
class Table:
    """Rows of text under a header; the first column names the row.

    Attributes:
        header: of each column.
        rows: as long as the header.
        note: a sentence under the table.
    """

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""


@dataclass
class Picture:
    """An image file with what it shows and what it means.

    Attributes:
        file: PNG or GIF.
        title: above it.
        caption: a sentence or two under it.
    """

    file: Path
    title: str
    caption: str = ""

    @property
    def uri(self) -> str:
        """The image itself, as a data URI."""
        return f"data:{_KINDS[self.file.suffix]};base64,{base64.b64encode(file_bytes(self.file)).decode()}"

    @property
    def is_wide(self) -> bool:
        """Whether it needs the whole width of the page."""
        with opened_picture(self.file) as image:
            return image.width > _WIDE


def opened_picture(file: Path) -> Image.Image:
    """A picture of a run, decoded.

    Raises:
        RunError, DataError: it can't be read, or is too large to be one.
    """
    return opened_image(file, file_bytes(file))


@dataclass
class Section:
    """A heading with text, tables, pictures and, folded, a listing.

    Attributes:
        heading: also its name in the table of contents.
        text: one paragraph.
        tables: one under the other.
        pictures: two side by side where they aren't wide, or as many as ``columns`` says.
        columns: number of columns of pictures; 0 goes by their shapes.
        listings: folded blocks of text by their title.
    """

    heading: str
    text: str = ""
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()
    columns: int = 0
    listings: dict[str, str] = field(default_factory=dict)


def render_page(title: str, subtitle: str, sections: Sequence[Section], warnings: Sequence[str] = ()) -> str:
    """One HTML document without scripts or references to other files.

    >>> "<h1>A run" in render_page("A run", "on digits", [Section("Figures")])
    True
    """
    from jinja2 import Environment, PackageLoader

    pages = PackageLoader("qvae.reporting", ".")
    environment = Environment(loader=pages, autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template("page.html.jinja")
    return page.render(title=title, subtitle=subtitle, sections=sections, warnings=warnings)
