"""The errors a user can cause: each message is one sentence with the remedy, and the command line prints only that."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class QvaeError(Exception):
    """Base of every error that a user's input, files or machine can cause (exit code 2 on the command line).

    Attributes:
        is_everywhere: of several processes that train together all raise it, and the first one says it.
    """

    is_everywhere: bool = False


class ConfigError(QvaeError):
    """A configuration has an unknown key, a wrong type or a value out of range."""


class DataError(QvaeError):
    """A data set is missing, truncated, of the wrong shape, or holds values it should not."""


class RunError(QvaeError):
    """A run folder or one of its checkpoints can't be read, written or used."""


class SamplerError(QvaeError):
    """A sampler can't be found, loaded or run."""


class CapabilityError(SamplerError):
    """A sampler was asked for what its capabilities exclude."""


class BudgetExhausted(SamplerError):
    """The next call of a sampler would cost more than is left of what the user allowed; nothing was spent on it."""


class CircuitError(QvaeError):
    """A circuit, values for its parameters, or an observable is not what it must be."""


class ExecutorError(QvaeError):
    """An executor of circuits can't be found, loaded or run, or was asked for what its capabilities exclude."""


class WorkersError(QvaeError):
    """Workers, on this machine or on others, can't be started or reached, or can't do what they are to do."""


class RanksError(QvaeError):
    """Processes that train together can't be brought together, or one has ended."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A clause that names the nearest and all that is allowed.

    >>> nearest("gibs", ["exact", "gibbs"])
    "did you mean 'gibbs'? Allowed: exact, gibbs"
    """
    names = sorted(allowed)
    close = difflib.get_close_matches(name, names, n=2, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(c) for c in close)}? " if close else ""
    return f"{hint}Allowed: {', '.join(names) if names else 'nothing here'}"


def one_line(text: object) -> str:
    """Anything's text as a part of a sentence: in one line, printable, without a full stop; empty where it has none.

    >>> one_line("the queue\\n is full.")
    'the queue is full'
    """
    try:
        plain = str(text)
    except Exception:
        return ""  # of a third party: even this may fail
    return " ".join("".join(part if part.isprintable() else " " for part in plain).split()).rstrip(".")


def in_a_line(error: BaseException) -> str:
    """What any exception says, for the middle of a sentence.

    >>> in_a_line(ValueError("two\\nlines.")), in_a_line(KeyboardInterrupt())
    ('ValueError: two lines', 'KeyboardInterrupt')
    """
    text = one_line(error)
    name = "" if isinstance(error, QvaeError) else type(error).__name__
    return ": ".join(part for part in (name, text) if part)


def install_line(extra: str | None = None) -> str:
    """How to install this package with an extra, as a remedy; it is on no index, where others may have taken its name.

    >>> install_line("dwave")
    "pip install -e '.[dwave]' in the clone of qvae"
    """
    return f"pip install -e '.[{extra}]' in the clone of qvae" if extra else "pip install -e . in the clone of qvae"
