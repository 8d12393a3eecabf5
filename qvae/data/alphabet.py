"""The characters of strings as numbers, and back: one row of numbers for each string."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from qvae.errors import DataError

MOST_CHARACTERS = 1023
"""Different ones: with the end these are as many categories as anything may have."""


@dataclass(frozen=True)
class Alphabet:
    """Characters by their numbers, from 1 on; 0 is the end of a string, and all that follows it.

    Attributes:
        characters: each once.

    >>> letters = Alphabet.of(["abba", "cab"])
    >>> letters.encode(["cab", ""], 4).tolist()
    [[3, 1, 2, 0], [0, 0, 0, 0]]
    >>> letters.decode([[3, 1, 2, 0], [1, 0, 2, 2]])
    ['cab', 'a']
    """

    characters: str

    @classmethod
    def of(cls, strings: Iterable[str]) -> Alphabet:
        """All characters of some strings, in the order of their code points."""
        return cls("".join(sorted(set().union(*strings))))

    @property
    def size(self) -> int:
        """Symbols: the characters and the end."""
        return len(self.characters) + 1

    def encode(self, strings: Sequence[str], length: int, where: str = "the data") -> np.ndarray:
        """Rows (N, length), uint8, or int32 of a large alphabet; a string of ``length`` characters fills its row.

        Raises:
            DataError: a string is longer, or has a character that isn't known.
        """
        numbers = {character: number for number, character in enumerate(self.characters, 1)}
        rows = np.zeros((len(strings), length), np.uint8 if self.size <= 256 else np.int32)
        for row, string in zip(rows, strings, strict=True):
            if len(string) > length:
                raise DataError(f"{where} has {string!r:.40}, of {len(string)} characters; the model takes {length} at most.")
            unknown = next((character for character in string if character not in numbers), None)
            if unknown is not None:
                remedy = "leave such strings out"
                raise DataError(f"{where} has {string!r:.40}, whose {unknown!r} the model doesn't know; {remedy}.")
            row[: len(string)] = [numbers[character] for character in string]
        return rows

    def decode(self, rows: Iterable[Iterable[float]]) -> list[str]:
        """The strings of rows (N, L) of numbers, up to the first end."""
        symbols = "\0" + self.characters
        return ["".join(symbols[int(number)] for number in row).partition("\0")[0] for row in rows]
