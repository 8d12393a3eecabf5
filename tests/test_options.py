"""Options checked by their annotations: what YAML may give, what is refused, and in which words."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import Field

from qvae.options import checked, checked_options, in_words, takes_only_named

if TYPE_CHECKING:
    from somewhere import Thing


class Device:
    """A class that YAML can't hold."""


class Takes:
    def __init__(
        self,
        count: Annotated[int, Field(ge=1)] = 1,
        share: Annotated[float, Field(ge=0, le=1)] = 0.5,
        rate: Annotated[float, Field(gt=0)] | None = None,
        is_on: bool = True,
        text: str = "",
        way: Literal["discard", "repair"] = "discard",
        pairs: Sequence[Sequence[float]] = (),
        ends: tuple[int, int] = (0, 1),
        settings: Mapping[str, Any] | None = None,
        file: Path | None = None,
        device: Device | None = None,
        path: Annotated[str, Field(pattern=r".\..", description="an import path such as a.b")] = "a.b",
        anything: Any = None,
        bare=None,
        **rest: int,
    ) -> None:
        self.rest = rest


DEVICE = Device()


@pytest.mark.parametrize(
    ("option", "given", "taken"),
    [
        ("count", 3, 3),
        ("count", np.int64(3), 3),
        ("share", 1, 1.0),
        ("share", np.float64(0.25), 0.25),
        ("rate", None, None),
        ("is_on", False, False),
        ("way", "repair", "repair"),
        ("pairs", [[0, 0.5], [1, 1]], [[0, 0.5], [1, 1]]),
        ("ends", [3, 4], (3, 4)),
        ("settings", {"a": [1]}, {"a": [1]}),
        ("file", "x.json", Path("x.json")),
        ("device", DEVICE, DEVICE),
        ("anything", DEVICE, DEVICE),
        ("bare", DEVICE, DEVICE),
        ("another", "text", "text"),  # that **rest takes, whatever it does with it
    ],
)
def test_what_yaml_gives_is_taken(option, given, taken):
    found = checked(Takes, {option: given})[option]
    assert found == taken
    assert type(found) is type(taken)


@pytest.mark.parametrize(
    ("option", "given", "words"),
    [
        ("count", 0, "count is 0; it must be a whole number, 1 or more"),
        ("count", 2.0, "count is 2.0; it must be a whole number, 1 or more"),
        ("count", "2", "count is '2'; it must be a whole number, 1 or more"),
        ("count", True, "count is True; it must be a whole number, 1 or more"),
        ("share", 1.5, "share is 1.5; it must be a number from 0 to 1"),
        ("share", False, "share is False; it must be a number from 0 to 1"),
        ("rate", 0, "rate is 0; it must be a number above 0"),
        ("rate", math.inf, "rate is inf; it must be a number above 0"),
        ("is_on", 1, "is_on is 1; it must be true or false"),
        ("text", 5, "text is 5; it must be a text"),
        ("way", "mend", "way is 'mend'; it must be discard or repair"),
        ("pairs", [[0, "x"]], "pairs is [[0, 'x']]; it must be a list of lists of numbers"),
        ("pairs", "ab", "pairs is 'ab'; it must be a list of lists of numbers"),
        ("ends", [1], "ends is [1]; it must be a list of whole numbers"),
        ("settings", [1], "settings is [1]; it must be a mapping of names to values"),
        ("device", "cpu", "device is 'cpu'; it must be a Device"),
        ("path", "ab", "path is 'ab'; it must be an import path such as a.b"),
    ],
)
def test_what_does_not_fit_is_refused_in_words(option, given, words):
    with pytest.raises(ValueError) as error:
        checked(Takes, {option: given})
    assert str(error.value) == words


class Parent:
    @checked_options
    def __init__(self, seed: Annotated[int, Field(ge=0)] | None = None) -> None:
        self.seed = seed


class Child(Parent):
    @checked_options
    def __init__(self, rate: float = 1.0, **options: Any) -> None:
        super().__init__(**options)
        self.rate = rate


def test_python_callers_are_told_too():
    found = Child(2, seed=np.int32(3))
    assert (found.rate, found.seed) == (2.0, 3)
    assert type(found.rate) is float
    with pytest.raises(ValueError, match="rate is 'fast'; it must be a number"):
        Child("fast")
    with pytest.raises(ValueError, match="seed is -1; it must be a whole number, 0 or more"):
        Child(seed=-1)
    with pytest.raises(TypeError, match="sed"):
        Child(sed=1)


def test_options_of_parents_are_checked_where_rest_is_handed_on():
    class Loose(Parent):
        def __init__(self, **options):
            super().__init__(**options)

    with pytest.raises(ValueError, match="seed is 'x'"):
        checked(Loose, {"seed": "x"})

    class Narrow(Parent):
        def __init__(self, seed: Annotated[int, Field(ge=5)] = 5, **options: Any) -> None: ...

    with pytest.raises(ValueError, match="seed is 3; it must be a whole number, 5 or more"):
        checked(Narrow, {"seed": 3})


def test_annotations_that_can_t_be_read_check_nothing():
    class Foreign:
        def __init__(self, thing: Thing, count: int = 1) -> None: ...

    assert checked(Foreign, {"thing": 3, "count": "many"}) == {"thing": 3, "count": "many"}


def test_what_a_class_takes_is_that_of_its_first_parent_that_says_so():
    class Plain: ...

    class Named:
        def __init__(self, rate: float = 1.0) -> None: ...

    class Loose(Named):
        def __init__(self, **options: Any) -> None: ...

    class Heir(Loose): ...

    assert [takes_only_named(cls) for cls in (Plain, Named, Loose, Heir)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (Any, "anything"),
        (int, "a whole number"),
        (int | None, "a whole number"),
        (int | str, "a whole number or a text"),
        (Annotated[int, Field(ge=2)], "a whole number, 2 or more"),
        (Annotated[int, Field(gt=2)], "a whole number above 2"),
        (Annotated[float, Field(le=2)], "a number, 2 or less"),
        (Annotated[float, Field(lt=2)], "a number below 2"),
        (Annotated[float, Field(ge=1, le=2)], "a number from 1 to 2"),
        (Annotated[float, Field(gt=1, lt=2)], "a number above 1 and below 2"),
        (Annotated[str, Field(description="a name")], "a name"),
        (Literal["a", "b"], "a or b"),
        (list, "a list"),
        (list[Any], "a list"),
        (set[bool], "a list of true or false"),
        (list[list[str]], "a list of lists of texts"),
        (list[dict[str, int]], "a list of mappings of names to values"),
        (Path, "a Path"),
        (list[Path], "a list of Path"),
    ],
)
def test_what_a_value_must_be_in_words(annotation, words):
    assert in_words(annotation) == words


def test_what_pydantic_can_t_check_is_taken_as_it_is():
    class Odd:
        @classmethod
        def __get_pydantic_core_schema__(cls, *given):
            raise RuntimeError("of another version")

    class Foreign:
        @checked_options
        def __init__(self, thing: Any = 1) -> None:
            self.thing = thing

    Foreign.__init__.__wrapped__.__annotations__["thing"] = Odd
    assert Foreign(3).thing == 3
