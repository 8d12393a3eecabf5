"""Keyword options of a class: which there are, and whether values are what their annotations say.

An annotation is all that an author writes, with pydantic's constraints where there are limits::

    @checked_options
    def __init__(self, sweeps: Annotated[int, Field(ge=1)] = 10, seed: int | None = None) -> None:
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import json
import numbers
import types
import typing
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, Union

F = TypeVar("F", bound=Callable[..., None])


# Which there are ------------------------------------------------------------------------------------------------------


def named_parameters(cls: type) -> Iterator[inspect.Parameter]:
    """Named parameters of ``__init__``, and of the parents' wherever ``**kwargs`` hands the rest on to them."""
    seen: set[str] = set()
    for parent in _initializers(cls):
        for parameter in list(inspect.signature(parent.__init__).parameters.values())[1:]:
            if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY) and parameter.name not in seen:
                seen.add(parameter.name)
                yield parameter


def described(cls: type) -> dict[str, tuple[Any, str]]:
    """Default and allowed values, in words, of each option; ``inspect.Parameter.empty`` is that of one that must be given."""
    words = {name: in_words(annotation) for name, annotation in annotations_of(cls).items()}
    return {option.name: (option.default, words.get(option.name, "")) for option in named_parameters(cls)}


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


# Values ---------------------------------------------------------------------------------------------------------------


def checked(cls: type, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a class with values as annotated; those without an annotation are passed as they are.

    Values may be as YAML gives them: a whole number for a number, a list for a tuple, a text for a path, but no text for a
    number and no 1 for true.

    Raises:
        ValueError: a value isn't of the type or in the range that its annotation says.
    """
    annotations = annotations_of(cls)
    return {name: _checked(name, value, annotations.get(name, Any)) for name, value in options.items()}


def annotations_of(cls: type) -> dict[str, Any]:
    """What a class says of its options, by their names; those of the parents included."""
    annotations: dict[str, Any] = {}
    for parent in _initializers(cls):
        annotations = _annotations(parent.__init__) | annotations
    return annotations


def checked_options(init: F) -> F:
    """An ``__init__`` whose callers, in Python too, get a ValueError for values that its annotations don't allow."""
    signature = inspect.signature(init)

    @functools.wraps(init)
    def checking(*args: Any, **kwargs: Any) -> None:
        given = signature.bind(*args, **kwargs)
        for name, annotation in _annotations(init).items():
            if name in given.arguments:
                given.arguments[name] = _checked(name, given.arguments[name], annotation)
        init(*given.args, **given.kwargs)

    return typing.cast(F, checking)


@functools.cache
def _annotations(init: Any) -> dict[str, Any]:
    try:
        found = typing.get_type_hints(inspect.unwrap(init), include_extras=True)
    except Exception:
        return {}  # of a third party: names that are only there for a type checker
    rest = {p.name for p in inspect.signature(init).parameters.values() if p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return {name: annotation for name, annotation in found.items() if name not in rest | {"return"}}


def _checked(name: str, value: Any, annotation: Any) -> Any:
    from pydantic import ValidationError

    adapter = _adapter(annotation)
    if adapter is None:
        return value
    plain = _without_numpy(value)
    with contextlib.suppress(ValidationError):
        return adapter.validate_python(plain)
    with contextlib.suppress(ValidationError, TypeError, ValueError):  # JSON's strict mode takes lists for tuples
        return adapter.validate_json(json.dumps(plain))
    raise ValueError(f"{name} is {value!r}; it must be {in_words(annotation)}")


def _adapter(annotation: Any) -> Any:
    from pydantic import ConfigDict, TypeAdapter

    config = ConfigDict(strict=True, arbitrary_types_allowed=True, allow_inf_nan=False)
    try:
        return TypeAdapter(annotation, config=config)
    except Exception:
        return None  # of a third party: nothing that pydantic could check


def _without_numpy(value: Any) -> Any:
    """NumPy's whole numbers as Python's, which pydantic takes for integers."""
    return int(value) if isinstance(value, numbers.Integral) and not isinstance(value, bool) else value


# Words ----------------------------------------------------------------------------------------------------------------

_NOUNS: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    str: ("a text", "texts"),
}


def in_words(annotation: Any, many: bool = False) -> str:
    """What a value of an annotation is, as the end of "it must be ...": its own description, if it has one, else what it says.

    That None is allowed, too, goes without saying.

    >>> from pydantic import Field
    >>> in_words(Annotated[int, Field(ge=1)] | None)
    'a whole number, 1 or more'
    >>> in_words(Annotated[float, Field(gt=0, lt=1)])
    'a number above 0 and below 1'
    >>> in_words(Sequence[Sequence[float]])
    'a list of lists of numbers'
    """
    origin, parts = typing.get_origin(annotation), typing.get_args(annotation)
    if annotation is Any:
        return "anything"
    if origin in (Union, types.UnionType):
        return " or ".join(in_words(part, many) for part in parts if part is not type(None))
    if origin is Annotated:
        return _limited(in_words(parts[0], many), _limits(parts[1:]))
    if origin is Literal:
        return " or ".join(map(str, parts))
    kind = origin or annotation
    if kind in _NOUNS:
        return _NOUNS[kind][many]
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return "mappings of names to values" if many else "a mapping of names to values"
    if isinstance(kind, type) and issubclass(kind, Sequence | set | frozenset):
        inner = f" of {in_words(parts[0], many=True)}" if parts and parts[0] is not Any else ""
        return f"{'lists' if many else 'a list'}{inner}"
    return f"{'' if many else 'a '}{getattr(kind, '__name__', kind)}"


def _limits(metadata: Sequence[Any]) -> dict[str, Any]:
    """Names and values of constraints: ge, gt, le and lt; and a description, if there is one."""
    said = [text for each in metadata if (text := getattr(each, "description", None))]
    found = {"description": said[-1]} if said else {}
    single = [part for each in metadata for part in getattr(each, "metadata", [each])]
    return found | {name: getattr(part, name) for part in single for name in _RANGES if hasattr(part, name)}


_RANGES = {"gt": " above {}", "ge": ", {} or more", "lt": " below {}", "le": ", {} or less"}


def _limited(noun: str, limits: dict[str, Any]) -> str:
    if "description" in limits:
        return str(limits["description"])
    if {"ge", "le"} <= limits.keys():
        return f"{noun} from {limits['ge']} to {limits['le']}"
    return noun + " and".join(text.format(limits[name]) for name, text in _RANGES.items() if name in limits)
