"""What reports read of a training: a checkpoint that doesn't hold it is refused."""

from pathlib import Path

import pytest
import torch

from qvae.errors import RunError
from qvae.runs.states import require_told

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
