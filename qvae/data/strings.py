"""Strings to train on: lines of a text file, or a list of texts, and the rules by which they are taken."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch

from qvae.data.alphabet import MOST_CHARACTERS, Alphabet
from qvae.data.dataset import Dataset
from qvae.data.opened import require_file
from qvae.data.split import Split, hold_out, require_fit
from qvae.errors import DataError
from qvae.memory import require_memory

MOST_LONG = 500
"""Characters of a string: names and codes are short."""
_REFUSED = ("Cc", "Cs")  # control characters and halves of surrogate pairs, by Unicode's categories
_BYTES_OF_A_LETTER = 100  # as a Python string of its own, at worst


def load_string_file(name: str) -> Dataset:
    """The strings in a text file, one a line, as :func:`dataset_from_strings` takes them.

    Raises:
        DataError: it can't be read, or isn't such a file.
    """
    path = Path(os.path.expanduser(name))
    return dataset_from_strings(read_lines(path), name=name)


def dataset_from_strings(train: Sequence[str], test: Sequence[str] | None = None, name: str = "strings") -> Dataset:
    """A data set of strings; without ``test`` a tenth of them, chosen by a fixed seed, is held out.

    Blanks at both ends are no part of a string, characters that can be written in two ways are composed (Unicode's NFC), and
    empty strings are left out, which is said. The alphabet and the greatest length are those of all strings.

    Raises:
        DataError: there are too few, one is longer than 500 characters or holds control characters, or there are more than
            1023 different characters.
    """
    if isinstance(train, str):
        raise DataError(f"{name} is one text; give a list of strings, such as text.splitlines().")
    where = {"train": name if test is None else f"{name}: train", "test": f"{name}: test"}
    given = {part: strings for part, strings in (("train", train), ("test", test)) if strings is not None}
    parts = {part: cleaned(strings, where[part]) for part, strings in given.items()}
    empty = sum(map(len, given.values())) - sum(map(len, parts.values()))
    remarks = (f"{name}: {empty:,} empty line{'s were' if empty > 1 else ' was'} left out",) * (empty > 0)
    every = [string for strings in parts.values() for string in strings]
    if not every:
        raise DataError(f"{name} holds no strings: each line must be one.")
    alphabet, length = Alphabet.of(every), max(map(len, every))
    if len(alphabet.characters) > MOST_CHARACTERS:
        count = f"{len(alphabet.characters):,} different characters, more than {MOST_CHARACTERS:,}"
        raise DataError(f"{name} has {count}; leave out strings with rare ones.")
    require_memory(len(every) * length * (1 if alphabet.size <= 256 else 4), f"{name}, as rows,", "take fewer", DataError)
    rows = {part: alphabet.encode(strings, length) for part, strings in parts.items()}
    split = Split(rows["train"], rows["test"]) if "test" in rows else hold_out(rows["train"], None, name)
    require_fit(split, name)
    known = _seen_in_training(split)
    if known:
        remarks += (f"{name}: {known:,} of {len(split.test):,} test strings are among the training strings, too",)
    train_rows, test_rows = torch.from_numpy(split.train), torch.from_numpy(split.test)
    return Dataset(
        name, train_rows, test_rows, None, None, "none", "strings", levels=alphabet.size, remarks=remarks, alphabet=alphabet
    )


def read_lines(path: Path) -> list[str]:
    """The lines of a UTF-8 text file, whatever ends them; a byte order mark is no part of the first.

    Raises:
        DataError: there is none, it can't be read, or its bytes are no UTF-8.
    """
    require_file(path)
    try:
        size = path.stat().st_size
        require_memory(size * _BYTES_OF_A_LETTER, f"{path}, read,", "take a smaller one", DataError)
        content = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no file {path.absolute()}; set data.name to an existing .txt file.") from None
    except OSError as error:
        raise DataError(f"{path} can't be read: {error.strerror or error}.") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        raise DataError(f"{path} is no UTF-8 in line {line:,} (byte 0x{byte:02x}); save it as UTF-8.") from None
    # Not splitlines(), which also takes form feeds and Unicode's own separators for ends of lines.
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    return lines[:-1] if not lines[-1] else lines


def cleaned(strings: Iterable[str], where: str) -> list[str]:
    """The strings as they are taken; empty ones are missing.

    Raises:
        DataError: one is no text, too long, or holds a control character.
    """
    found = []
    for number, string in enumerate(strings, 1):
        if not isinstance(string, str):
            raise DataError(f"string {number:,} of {where} is of type {type(string).__name__}; it must be a text.")
        string = unicodedata.normalize("NFC", string.strip())
        if len(string) > MOST_LONG:
            raise DataError(f"line {number:,} of {where} has {len(string):,} characters; a string has {MOST_LONG} at most.")
        odd = next((character for character in string if unicodedata.category(character) in _REFUSED), None)
        if odd is not None:
            remedy = "a table belongs into a .csv file" if odd == "\t" else "take it out"
            raise DataError(f"line {number:,} of {where} holds the control character {odd!r}; {remedy}.")
        if string:
            found.append(string)
    return found


def _seen_in_training(split: Split) -> int:
    """How many test rows stand among the training rows, too."""
    known = {row.tobytes() for row in np.ascontiguousarray(split.train)}
    return sum(row.tobytes() in known for row in np.ascontiguousarray(split.test))
