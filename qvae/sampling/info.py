"""What a sampler tells about its samples: typed measurements, a mapping for its own, and advice in words."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from qvae.errors import one_line


@dataclass(frozen=True)
class Advice:
    """Trouble that the maker of samples sees in them.

    Attributes:
        kind: a word; of each kind a training says the first and no more.
        text: what is wrong and what to do, as a clause.
    """

    kind: str
    text: str


@dataclass(eq=False)
class SampleInfo(Mapping[str, Any]):
    """What was measured with samples: a field where the core reads it, ``extra`` for a backend's own; None is not measured.

    It is a mapping of all that was measured, so ``info["sweeps"]`` finds what stands in ``extra``.

    Attributes:
        wall_seconds: of the call.
        qpu_seconds: paid time of the call.
        device_beta: effective inverse temperature of a device, in the units of what is submitted to it.
        device_beta_stderr: of that.
        effective_beta: inverse temperature of the samples themselves, 1 for the Hamiltonian's distribution, where their maker
            knows it better than the samples tell.
        effective_beta_stderr: of that.
        chain_break_fraction: part of the reads in which qubits of one spin differed, 0 to 1.
        clipped: part of the fields and couplings beyond a device's ranges, 0 to 1.
        extra: everything else, by name.

    >>> info = SampleInfo.of({"wall_seconds": 0.5, "sweeps": 10})
    >>> info.wall_seconds, info["sweeps"], "qpu_seconds" in info
    (0.5, 10, False)
    """

    wall_seconds: float | None = None
    qpu_seconds: float | None = None
    device_beta: float | None = None
    device_beta_stderr: float | None = None
    effective_beta: float | None = None
    effective_beta_stderr: float | None = None
    chain_break_fraction: float | None = None
    clipped: float | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, found: Mapping[str, Any]) -> SampleInfo:
        """From a mapping, such as the plain one that a backend made.

        Raises:
            TypeError: it is no mapping.
        """
        if isinstance(found, cls):
            return found
        if not isinstance(found, Mapping):
            raise TypeError(f"info is a {type(found).__name__}, not a mapping of names to what was measured")
        known = {name: value for name, value in found.items() if name in _NAMED}
        return cls(**known, extra={name: value for name, value in found.items() if name not in _NAMED})

    @property
    def fault(self) -> str | None:
        """Why the fields can't be measurements, as a clause; None if they can."""
        for name in _NAMED:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, numbers.Real):
                return f"info's {name} is {one_line(repr(value))}, not a number"
            if name in ("wall_seconds", "qpu_seconds") and not 0 <= float(value) < math.inf:
                return f"info's {name} is {value}; it must be a finite number, 0 or more"
        return None

    def __getitem__(self, name: str) -> Any:
        value = getattr(self, name) if name in _NAMED else self.extra[name]
        if value is None and name in _NAMED:
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        yield from (name for name in _NAMED if getattr(self, name) is not None)
        yield from self.extra

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __or__(self, other: Mapping[str, Any]) -> SampleInfo:
        return SampleInfo.of({**self, **other})


_NAMED = tuple(part.name for part in fields(SampleInfo) if part.name != "extra")
