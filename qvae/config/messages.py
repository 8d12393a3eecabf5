"""What pydantic finds wrong with a configuration, in our words: the key, what is wrong, what is allowed, where it stood."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any, get_args

from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from qvae.config.schema import Config
from qvae.config.section import Section
from qvae.errors import nearest

_TYPES = {
    "model_type": "keys with values",
    "dict_type": "keys with values",
    "int_type": "a whole number",
    "float_type": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "string_type": "a text",
    "list_type": "a list",
    "tuple_type": "a pair of spin indices",
    "missing": "a pair of spin indices",
    "too_long": "a pair of spin indices",
}
_RANGES = {
    "greater_than_equal": "{ge:g} or more",
    "greater_than": "more than {gt:g}",
    "less_than_equal": "{le:g} or less",
    "less_than": "less than {lt:g}",
}


def in_our_words(error: ErrorDetails, origin_of: Callable[[tuple[str, ...]], str]) -> str:
    """One sentence: the dotted key, what is wrong, what is allowed, and where it came from, which ``origin_of`` knows."""
    keys, index, section, field = _locate(error["loc"])
    origin = origin_of(keys)
    path, kind, context = ".".join(keys) + index, error["type"], error.get("ctx", {})
    if kind == "value_error" and section is not None:
        return f"{'.'.join([*keys, str(context['error'])])} ({origin})."
    if kind == "extra_forbidden":
        return f"{path} is no key of the configuration; {_similar_keys(keys)} ({origin})."
    if kind == "literal_error" and field is not None:
        remedy = nearest(str(error["input"]), _literals(field.annotation))
    elif kind in ("too_short", "too_long") and context["field_type"] == "List":
        remedy = f"it must hold {context.get('min_length') or context['max_length']} numbers"
    elif kind in _RANGES:
        remedy = f"it must be {_RANGES[kind].format(**context)}"
    elif kind in _TYPES:
        or_list = " or a list of numbers" if isinstance(error["loc"][-1], str) and error["loc"][-1] not in keys else ""
        or_null = " or null" if field is not None and not index and type(None) in get_args(field.annotation) else ""
        remedy = f"it must be {_TYPES[kind]}{or_list}{or_null}"
    else:
        remedy = str(context.get("error", error["msg"]))
    return f"{path} is {short(error['input'])}; {remedy} ({origin})."


def _locate(loc: tuple[int | str, ...]) -> tuple[tuple[str, ...], str, type[Section] | None, FieldInfo | None]:
    """Keys without the names of a union's branches, an index such as ``[0]``, and the section or field there."""
    section: type[Section] | None = Config
    field, keys, index = None, [], ""
    for part in loc:
        if section is not None:
            keys.append(str(part))
            field = section.model_fields.get(str(part))
            section = _section_of(field)
        elif isinstance(part, int):
            index += f"[{part}]"
    return tuple(keys), index, section, field


def _section_of(field: FieldInfo | None) -> type[Section] | None:
    """The section that a field holds, if it holds one."""
    annotation = field.annotation if field is not None else None
    for kind in (annotation, *get_args(annotation)):
        if isinstance(kind, type) and issubclass(kind, Section):
            return kind
    return None


def _literals(annotation: Any) -> list[str]:
    """Texts that a key of a few texts may be, one that may be null included."""
    inner = [part for part in get_args(annotation) if part is not type(None)]
    return [text for part in inner for text in ([part] if isinstance(part, str) else _literals(part))]


def is_of_another_branch(error: ErrorDetails) -> bool:
    """Whether this error of a union only says that the value isn't of the branch that it wasn't meant for."""
    is_list = isinstance(error["input"], list)
    branch = str(error["loc"][-1]) if error["loc"] else ""
    return (branch.startswith("list[") and not is_list) or (branch == "constrained-float" and is_list)


def _similar_keys(keys: tuple[str, ...]) -> str:
    """What an unknown key may have been meant for: its neighbours, or the same name in another section."""
    known = list(_all_keys(Config))
    elsewhere = [".".join(path) for path in known if path[-1] == keys[-1]]
    if elsewhere:
        return f"did you mean {' or '.join(repr(path) for path in elsewhere)}?"
    return nearest(keys[-1], [path[-1] for path in known if path[:-1] == keys[:-1]])


def _all_keys(section: type[Section], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in section.model_fields.items():
        yield (*above, name)
        inner = _section_of(field)
        if inner is not None:
            yield from _all_keys(inner, (*above, name))


def short(value: Any) -> str:
    """A value as JSON, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:57]}..."
