"""What an application leaves: files and sentences."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Outcome:
    """The result of an application, for whoever called it.

    Attributes:
        files: that were written.
        sentences: to read.
    """

    files: list[Path] = field(default_factory=list)
    sentences: list[str] = field(default_factory=list)
