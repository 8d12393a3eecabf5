"""Figures of strings against counts by hand, and edit distances against the recursion that defines them."""

import functools
import random
import statistics

import pytest

from qvae.config.schema import EvaluationConfig
from qvae.evaluation.strings import StringSet, edit_distances, matching


@functools.cache
def distance(a, b):
    """Levenshtein's, as he defined it."""
    if not a or not b:
        return len(a) + len(b)
    return min(distance(a[1:], b) + 1, distance(a, b[1:]) + 1, distance(a[1:], b[1:]) + (a[0] != b[0]))


def test_edit_distances_are_those_of_the_recursion():
    rng = random.Random(0)
    left, right = (["".join(rng.choices("abc", k=rng.randrange(8))) for _ in range(200)] for _ in range(2))
    assert edit_distances(left, right).tolist() == [distance(a, b) for a, b in zip(left, right, strict=True)]
    assert edit_distances([""], [""]).tolist() == [0]


def test_a_set_in_figures():
    found = StringSet.of(["ab", "ab", "abc", "x1"], {"ab", "cd"}, str.isalpha)
    assert (found.number, found.valid, found.different, found.new) == (4, 0.75, 0.75, pytest.approx(2 / 3))
    assert found.length == 2.25
    # Of the 16 pairs 6 are alike, ab and abc (4 of them) are a third apart, the other 6 wholly.
    expected = (4 / 3 + 6) / 16
    assert found.diversity == pytest.approx(expected, abs=5 * 0.45 / 1000**0.5)
    assert StringSet.of(["a"], set()).valid is None
    assert StringSet.of(["", ""], set()).diversity == 0
    found = [StringSet.of(["a", "b"], set(), seed=seed).diversity for seed in range(20)]
    # Of a thousand pairs, half of them equal.
    assert statistics.stdev(found) == pytest.approx(0.5 / 1000**0.5, rel=5 / (2 * 19) ** 0.5)


def test_a_check_matches_the_whole_string():
    assert list(map(matching("[ab]+"), ["ab", "", "abc", "cab"])) == [True, False, False, False]
    assert matching(None) is None
    with pytest.raises(ValueError, match=r"it must be a regular expression \(missing \)"):
        EvaluationConfig(check="(ab")


def test_a_check_is_of_strings(command):
    code, _, err = command("train", "digits", "--dry-run", "--set", "evaluation.check=(ab)+")
    assert code == 2
    assert "evaluation.check is of strings, but digits holds bits; leave it out." in err
    code, _, err = command("train", "digits", "--dry-run", "--set", "evaluation.check=(ab")
    assert 'evaluation.check is "(ab"; it must be a regular expression' in err
