"""Ranges of a key's numbers, for a search to look in: on a linear or a logarithmic scale."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from qvae.errors import ConfigError


@dataclass(frozen=True)
class Range:
    """Numbers between two ends, both included: whole ones where both ends are ints.

    Attributes:
        low: the lower end.
        high: the higher end.
        is_log: whether each factor of ten is as large as another one, not each difference.

    Raises:
        ConfigError: the ends aren't finite and in ascending order, or not above zero on a logarithmic scale.
    """

    low: float
    high: float
    is_log: bool = False

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"the range {self} must lead from a number to a larger one.")
        if self.is_log and self.low <= 0:
            raise ConfigError(f"the range {self} is logarithmic, and must begin above zero.")

    def __str__(self) -> str:
        return f"{'log:' if self.is_log else ''}{self.low}..{self.high}"

    @property
    def is_whole(self) -> bool:
        """Whether the numbers are whole."""
        return isinstance(self.low, int) and isinstance(self.high, int)

    def holds(self, value: object) -> bool:
        """Whether a value is one of the numbers."""
        is_number = isinstance(value, int if self.is_whole else int | float) and not isinstance(value, bool)
        return is_number and self.low <= value <= self.high  # type: ignore[operator]


def parse_range(text: str) -> Range | None:
    """A range from ``LOW..HIGH`` or ``log:LOW..HIGH``; None of a text of another form.

    Raises:
        ConfigError: as :class:`Range`.

    >>> parse_range("log:1e-4..1e-2"), parse_range("16..256").is_whole, parse_range("[1, 2]")
    (Range(low=0.0001, high=0.01, is_log=True), True, None)
    """
    found = re.fullmatch(r"\s*(log:)?\s*(\S+?)\s*\.\.\s*(\S+)\s*", text)
    if found is None:
        return None
    try:
        return Range(_number(found[2]), _number(found[3]), found[1] is not None)
    except ValueError:
        return None


def _number(text: str) -> float:
    try:
        return int(text)
    except ValueError:
        return float(text)
