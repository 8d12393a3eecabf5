"""Keyword options of a class, as a configuration gives them: which there are."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any


def named_parameters(cls: type) -> Iterator[inspect.Parameter]:
    """Named parameters of ``__init__``, and of the parents' wherever ``**kwargs`` hands the rest on to them."""
    seen: set[str] = set()
    for parent in _initializers(cls):
        for parameter in list(inspect.signature(parent.__init__).parameters.values())[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name not in seen:
                seen.add(parameter.name)
                yield parameter


def takes_only_named(cls: type) -> bool:
    """Whether ``__init__`` refuses all other options, having no ``**kwargs``."""
    first = next(_initializers(cls), None)
    return first is None or not _has_kwargs(first)


def _initializers(cls: type) -> Iterator[Any]:
    for parent in cls.__mro__[:-1]:
        if "__init__" in parent.__dict__:
            yield parent
            if not _has_kwargs(parent):
                return


def _has_kwargs(cls: Any) -> bool:
    return any(p.kind is p.VAR_KEYWORD for p in inspect.signature(cls.__init__).parameters.values())
