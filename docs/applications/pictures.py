"""Makes the pictures of these pages, by following the pages: python docs/applications/pictures.py [PAGE ...]."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image

PAGES = Path(__file__).parent
START = "README"
PICTURES = {
    "augment": "more/augmented.png",
    "compress": "much-alike.png",
    "denoise": "restored/denoised.png",
    "detect": "odd/scores.png",
    "embed": "map.png",
    "inpaint": "restored/inpainted.png",
    "interpolate": "paths/interpolated.png",
    "sound": "played.png",
    "strings": None,
    "style": "styled/styled.png",
    "super-resolve": "restored/super-resolved.png",
}
"""What a page shows, by the name that its commands give it."""

_WIDTH, _COLOURS = 1000, 32  # of a picture: enough to be read, and a few dozen kB


def steps(page: str) -> Iterator[tuple[str, str]]:
    """What to do on a page, in its order: ``("python", code)``, or ``("", commands)``, one a line."""
    text = (PAGES / f"{page}.md").read_text(encoding="utf-8")
    for language, code in re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        if language in ("", "python"):
            yield language, code


def follow(page: str, folder: Path) -> None:
    """Do what a page says, in a folder."""
    for language, code in steps(page):
        program = [sys.executable, "-c"] if language else ["bash", "-ec"]
        subprocess.run([*program, code], cwd=folder, check=True)


def main(pages: list[str]) -> None:
    """Follow pages, after the one that all begin with, and keep their pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for page in [START, *pages]:
            follow(page, Path(folder))
            if (made := PICTURES.get(page)) is not None:
                with Image.open(Path(folder) / made) as image:
                    small = image.convert("RGB")
                    small.thumbnail((_WIDTH, _WIDTH))
                    small.quantize(_COLOURS).save(PAGES / "figures" / f"{page}.png", optimize=True)


if __name__ == "__main__":
    main(sys.argv[1:] or sorted(PICTURES))
