"""An estimate of log Z with its error bar, as every method of this room returns it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class LogPartition:
    """An estimate of log Z = log sum_s exp(-E(s)), in nats.

    Attributes:
        value: the estimate.
        stderr: its standard error; 0 where the value is exact.
        method: how it was found, as a short phrase.
        details: of an estimate by annealing: ``forward``, ``forward_stderr``, ``reverse``, ``reverse_stderr``, ``gap``
            (reverse - forward), ``effective_samples`` (the smaller of both directions), and ``warning``, a sentence, if
            the value is uncertain beyond what its chains show.
    """

    value: float
    stderr: float
    method: str
    details: dict[str, Any] = field(default_factory=dict)
