"""The n-gram model against counts by hand, its own sum over all strings, and its draws."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from qvae.data.alphabet import Alphabet
from qvae.evaluation import ngram
from qvae.evaluation.ngram import NGram, best_ngram

STRINGS = ["ab", "ab", "b", "", "ba"]
LETTERS = Alphabet("ab")


def test_counts_by_hand():
    # Symbols: a 3 times, b 4, the end 5; three kinds.
    unigram = {"a": (3 + 3 / 3) / 15, "b": (4 + 3 / 3) / 15, "end": (5 + 3 / 3) / 15}
    assert math.exp(NGram(STRINGS, LETTERS, 1, 9).log_prob("ab")) == pytest.approx(unigram["a"] * unigram["b"] * unigram["end"])
    # At the start: a twice, b twice, the end once. Behind a: b twice, the end once. Behind b: the end 3 times, a once.
    a_at_start = (2 + 3 * unigram["a"]) / 8
    b_behind_a = (2 + 2 * unigram["b"]) / 5
    end_behind_b = (3 + 2 * unigram["end"]) / 6
    found = math.exp(NGram(STRINGS, LETTERS, 2, 9).log_prob("ab"))
    assert found == pytest.approx(a_at_start * b_behind_a * end_behind_b)
    # Behind the start and a: b twice; behind "ab": the end twice.
    third = (2 + b_behind_a) / 3 * (2 + end_behind_b) / 3
    assert math.exp(NGram(STRINGS, LETTERS, 3, 9).log_prob("ab")) == pytest.approx(a_at_start * third)
    assert math.exp(NGram(STRINGS, LETTERS, 3, 2).log_prob("ab")) == pytest.approx(a_at_start * (2 + b_behind_a) / 3)


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_the_probabilities_of_all_strings_add_to_one_and_draws_follow_them(order):
    model = NGram(STRINGS, LETTERS, order, longest=3)
    every = ["".join(letters) for length in range(4) for letters in itertools.product("ab", repeat=length)]
    p = np.exp(list(map(model.log_prob, every)))
    assert p.sum() == pytest.approx(1, abs=1e-12)
    number = 20_000
    counts = Counter(model.sample(number, seed=1))
    assert set(counts) <= set(every)
    error = np.sqrt(p * (1 - p) / number)
    assert (np.abs(np.array([counts[string] for string in every]) / number - p) < 5 * error).all()
    assert model.sample(50, seed=2) == model.sample(50, seed=2) != model.sample(50, seed=3)


def test_distributions_that_are_forgotten_are_the_same_when_they_are_made_again(monkeypatch):
    kept, forgotten = NGram(STRINGS, LETTERS, 3, 9), NGram(STRINGS, LETTERS, 3, 9)
    expected = [kept.log_prob(string) for string in STRINGS]
    monkeypatch.setattr(ngram, "_KEPT", 6)  # of three symbols each
    assert [forgotten.log_prob(string) for string in STRINGS] == expected
    assert len(forgotten._known) <= 3 < len(kept._known)


def test_the_order_is_that_of_the_data():
    rng = np.random.default_rng(0)
    independent = ["".join(rng.choice(list("ab"), rng.geometric(0.3))) for _ in range(300)]
    assert best_ngram(independent, LETTERS, 99).order <= 2
    pairs = ["".join(rng.choice(["aab", "abb", "bba"], 4)) for _ in range(300)]  # what comes next hangs on five before it
    found = best_ngram(pairs, LETTERS, 12)
    assert found.order >= 4
    assert found.log_prob(pairs[-1]) == NGram(pairs, LETTERS, found.order, 12).log_prob(pairs[-1])  # counted in all of them
