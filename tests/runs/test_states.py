"""What reports read of a training, and what trainings and models go on with: a file that doesn't hold it is refused."""

import math
from pathlib import Path

import pytest
import torch

from qvae.errors import RunError
from qvae.runs.states import alphabet_of, class_names_of, is_samples, require_resumable, require_told, shape_of

FILM = {"epochs": [1, 2], "losses": ["surrogate 3.0", ""], "maps": torch.zeros(2, 3, 2), "seconds": 1.5}
ONE_INFINITE, ONE_NAN = (torch.tensor([[[0.0, value]] * 3] * 2) for value in (torch.inf, torch.nan))
ONE_INFINITE[1:], ONE_NAN[:, 1:] = 0, 0


def test_a_film_may_be_there_or_not():
    for film in (FILM, {}, {"epochs": []}):
        require_told({"monitor": {"warnings": ["a word"]}, "observer": film}, Path("a"))
    require_told({}, Path("a"))


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("epochs", ["1", "2"]),
        ("epochs", [1]),
        ("losses", [3.0, 2.0]),
        ("losses", [""]),
        ("seconds", "1.5"),
        ("maps", None),
        ("maps", torch.zeros(3, 3, 2)),
        ("maps", torch.zeros(2, 3, 3)),
        ("maps", torch.zeros(2, 6)),
        ("maps", torch.zeros(2, 3, 2, dtype=torch.int64)),
        ("maps", ONE_INFINITE),
        ("maps", ONE_NAN),
    ],
)
def test_a_damaged_film_is_refused(part, value):
    with pytest.raises(RunError, match="doesn't hold what qvae keeps of a training; remove it"):
        require_told({"observer": FILM | {part: value}}, Path("a"))


def test_damaged_warnings_are_refused():
    for monitor in ([], {"warnings": [1]}):
        with pytest.raises(RunError, match="doesn't hold what qvae keeps of a training"):
            require_told({"monitor": monitor}, Path("a"))


# What models and trainings go on with ---------------------------------------------------------------------------------

PAIRS = torch.tensor([[0, 1], [1, 2]])
ANEW = "restore it from a copy, or train anew"


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({}, True),
        ({"image_shape": (1,)}, True),
        ({"image_shape": [3, 4, 4]}, True),
        ({"image_shape": [2**31 - 1]}, True),
        ({"levels": 1}, True),
        ({"edges": PAIRS}, True),
        ({"edges": PAIRS[:0]}, True),
        ({"image_shape": []}, False),
        ({"image_shape": [1, 3, 4, 4]}, False),
        ({"image_shape": [0, 4]}, False),
        ({"image_shape": [2**31]}, False),
        ({"image_shape": [4.0, 4]}, False),
        ({"image_shape": [True, 4]}, False),
        ({"image_shape": 16}, False),
        ({"image_shape": None}, False),
        ({"levels": 0}, False),
        ({"levels": "2"}, False),
        ({"edges": PAIRS.int()}, False),
        ({"edges": PAIRS.T[:, :1]}, False),
        ({"edges": PAIRS.flatten()}, False),
        ({"edges": [[0, 1]]}, False),
    ],
)
def test_what_data_a_model_is_of(changes, is_good):
    state = {"image_shape": [4, 4], "levels": None, "edges": None} | changes
    if is_good:
        shape, levels, edges = shape_of(state, Path("a"))
        assert (shape, levels, edges is state["edges"]) == (tuple(state["image_shape"]), state["levels"], True)
    else:
        with pytest.raises(RunError, match=f"a doesn't say what data its model is of; {ANEW}"):
            shape_of(state, Path("a"))


@pytest.mark.parametrize("characters", ["ab", "abcd", "abb", "ab\0", 3, None])
def test_an_alphabet_has_a_character_for_each_symbol_but_the_end(characters):
    assert alphabet_of({"alphabet": "abc"}, "strings", 4, Path("a")).characters == "abc"
    assert alphabet_of({"alphabet": characters}, "bits", 4, Path("a")) is None
    with pytest.raises(RunError, match=f"a doesn't say what characters its model knows; {ANEW}"):
        alphabet_of({"alphabet": characters}, "strings", 4, Path("a"))


@pytest.mark.parametrize("names", [["cat", "cat"], ["cat", 3], "cat", 3, None])
def test_classes_have_names_of_their_own_or_none(names):
    assert class_names_of({}, Path("a")) == ()
    assert class_names_of({"class_names": ["cat", "dog"]}, Path("a")) == ("cat", "dog")
    with pytest.raises(RunError, match=f"a doesn't say what classes its model knows; {ANEW}"):
        class_names_of({"class_names": names}, Path("a"))


STATE = {
    "step": 3, "began": 0, "seconds": 1.5,
    "monitor": {"steps": 3, "figures": {"a": 1.0, "b": None, "c": 2}},
    "watch": {"stuck": 0, "calls": {"a": [1.0, 2]}, "best_held_out": None, "qpu_seconds": 0.0,
              "previous_spins": torch.ones(2, 3, dtype=torch.int8)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("part", "changes", "is_good"),
    [
        ("", {}, True),
        ("", {"step": 0, "seconds": 0}, True),
        ("", {"step": 2**53 - 1}, True),
        ("watch", {"best_held_out": -1.5, "previous_spins": None}, True),
        ("watch", {"qpu_seconds": 3}, True),
        ("watch", {"qpu_seconds": 2**63 - 1}, True),
        ("", {"step": 2**53}, False),
        ("", {"step": -1}, False),
        ("", {"step": 1.0}, False),
        ("", {"step": True}, False),
        ("", {"step": None}, False),
        ("", {"began": -1}, False),
        ("", {"seconds": None}, False),
        ("", {"seconds": math.inf}, False),
        ("", {"seconds": True}, False),
        ("monitor", {"steps": -1}, False),
        ("monitor", {"figures": [1.0]}, False),
        ("monitor", {"figures": {"a": "1"}}, False),
        ("watch", {"stuck": 1.0}, False),
        ("watch", {"best_held_out": math.nan}, False),
        ("watch", {"qpu_seconds": "1"}, False),
        ("watch", {"qpu_seconds": 2**63}, False),
        ("watch", {"calls": [1.0]}, False),
        ("watch", {"calls": {"a": 1.0}}, False),
        ("watch", {"calls": {"a": [None]}}, False),
        ("watch", {"previous_spins": torch.ones(2, 3)}, False),
        ("watch", {"previous_spins": torch.ones(2, dtype=torch.int8)}, False),
        ("watch", {"previous_spins": [[1]]}, False),
    ],
)
def test_what_a_training_goes_on_with(part, changes, is_good):
    state = STATE | ({part: STATE[part] | changes} if part else changes)
    if is_good:
        require_resumable(state, Path("a"))
    else:
        with pytest.raises(RunError, match=f"a doesn't hold what a training goes on with; {ANEW}"):
            require_resumable(state, Path("a"))


def test_a_training_of_before_says_less():
    require_resumable({"step": 3, "seconds": 1.5}, Path("a"))
    with pytest.raises(RunError, match="doesn't hold what a training goes on with"):
        require_resumable({"step": 3, "seconds": 1.5, "watch": [1]}, Path("a"))
    with pytest.raises(RunError, match="a doesn't hold what qvae keeps of a training"):
        require_resumable({"step": 3, "seconds": 1.5, "observer": FILM | {"losses": [3.0, 2.0]}}, Path("a"))


SPINS = 1 - 2 * torch.eye(3, dtype=torch.int8)
COEFFICIENTS = {"h": torch.zeros(3), "J": torch.zeros(2)}


@pytest.mark.parametrize(
    ("changes", "is_good"),
    [
        ({}, True),
        ({"warning": "chains are stuck"}, True),
        ({"spins": SPINS[:0]}, True),
        ({"warning": 3}, False),
        ({"spins": SPINS[:, :2]}, False),
        ({"spins": SPINS[0]}, False),
        ({"spins": SPINS.float()}, False),
        ({"spins": SPINS - 1}, False),
        ({"spins": 3 * SPINS}, False),
        ({"spins": None}, False),
        ({"J": None}, False),
        ({"h": [0.0]}, False),
    ],
)
def test_kept_samples_are_spins_of_the_prior(changes, is_good):
    assert is_samples({"spins": SPINS, "warning": None} | COEFFICIENTS | changes, COEFFICIENTS) is is_good
