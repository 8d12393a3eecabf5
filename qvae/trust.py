"""What only the user may say: code to run, addresses to send credentials to, files to write outside of a run's folder.

A configuration in a file, or in a run folder, may come from a stranger. What its samplers name of these needs the user's word:
on the command line (``--trust TEXT``, or any ``--set`` and ``--sampler`` that says it), or in Python. A word is the very text,
such as ``my_module:MySampler`` or an address; it holds for one run folder, and is remembered outside of it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import typing
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qvae.errors import RunError
from qvae.files import atomic_write_text

_ADDRESS = re.compile(r"://|^[\w.\[\]-]+:\d+(/|$)")


@dataclass(frozen=True)
class Trust:
    """What the user has said.

    Who said something is no part of what a configuration says: two configurations are equal whatever their trust.

    Attributes:
        words: texts.
        everything: the whole configuration is the user's own, in Python.
    """

    words: frozenset[str] = field(default=frozenset(), compare=False)
    everything: bool = field(default=False, compare=False)

    def and_(self, words: Iterable[str]) -> Trust:
        """This, and more words."""
        return Trust(self.words | frozenset(words), self.everything)


OWN = Trust(everything=True)
"""Of what the user wrote in Python."""


@dataclass(frozen=True)
class Need:
    """Something that needs the user's word: what would be done with what.

    >>> Need("run the code at", "os.system").is_said_by(Trust(frozenset({"os.system"})))
    True
    """

    verb: str
    text: str

    def is_said_by(self, trust: Trust) -> bool:
        """Whether the user has said it; a path to write to may have been said from the working folder."""
        said = self.text in trust.words
        if self.verb == Output.verb:
            said = said or _absolute(self.text) in map(_absolute, trust.words)
        return trust.everything or said


# What an option is, in its annotation ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Code:
    """In the annotation of an option: its text is an import path; one with a ``known`` beginning needs no word."""

    known: tuple[str, ...] = ()
    verb: typing.ClassVar[str] = "run the code at"

    def needs_word(self, text: str, folder: Path | None) -> bool:
        """Whether it isn't among the known."""
        return not text.startswith(self.known)


@dataclass(frozen=True)
class Address:
    """In the annotation of an option: its text is the address of a service, to which credentials go."""

    verb: typing.ClassVar[str] = "send your credentials to"

    def needs_word(self, text: str, folder: Path | None) -> bool:
        """Always; the default one isn't named."""
        return True


@dataclass(frozen=True)
class Output:
    """In the annotation of an option: its text is a file to write, which needs no word inside of the run's folder."""

    verb: typing.ClassVar[str] = "write the file"

    def needs_word(self, text: str, folder: Path | None) -> bool:
        """Whether it is outside, once links are followed."""
        return folder is None or not _resolved(text).is_relative_to(folder.resolve())


@dataclass(frozen=True)
class Nested:
    """In the annotation of an option: it names another backend of the same kind, which is looked at as if it stood alone."""


def is_nested(annotation: Any) -> bool:
    """Whether an option is another backend."""
    return any(isinstance(part, Nested) for part in _parts(annotation))


def needs(annotation: Any, value: Any, folder: Path | None) -> Iterator[Need]:
    """What in an option's value needs a word: by its annotation, and, whatever that says, each address in it."""
    markers = [part for part in _parts(annotation) if isinstance(part, Code | Address | Output)]
    for text in texts(value):
        for marker in markers:
            if marker.needs_word(text, folder):
                yield Need(marker.verb, text)
        if not markers and _ADDRESS.search(text):
            yield Need(Address.verb, text)


def texts(value: Any) -> Iterator[str]:
    """All texts in plain nested values, keys left out.

    >>> list(texts({"a": ["x", 1, {"b": "y"}]}))
    ['x', 'y']
    """
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from texts(part)
    elif isinstance(value, list | tuple):
        for part in value:
            yield from texts(part)


def _parts(annotation: Any) -> Iterator[Any]:
    """An annotation with all that it is made of, what stands beside a type in ``Annotated`` included."""
    yield annotation
    for part in typing.get_args(annotation):
        yield from _parts(part)


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text))


def _resolved(text: str) -> Path:
    return Path(text).expanduser().resolve()


# Memory ---------------------------------------------------------------------------------------------------------------


def remembered(folder: Path) -> frozenset[str]:
    """Words that were said for a run folder before."""
    words = _memory().get(str(folder.resolve()), [])
    return frozenset(texts(words))


def remember(folder: Path, words: Iterable[str]) -> None:
    """Keep words for a run folder, outside of it, where the user has a place for settings that can be written."""
    known, place = _memory(), str(folder.resolve())
    together = sorted({*texts(known.get(place, [])), *words})
    if together != known.get(place, []):
        with contextlib.suppress(OSError, RunError):
            _memory_file().parent.mkdir(parents=True, exist_ok=True)
            atomic_write_text(_memory_file(), json.dumps(known | {place: together}, indent=1) + "\n")


def _memory_file() -> Path:
    """In the user's own settings, never in a run folder."""
    return Path(os.environ.get("XDG_CONFIG_HOME") or "~/.config").expanduser() / "qvae" / "trust.json"


def _memory() -> dict[str, Any]:
    try:
        found = json.loads(_memory_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
