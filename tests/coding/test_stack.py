"""Pushes cost -log2 p, pops give it back, and each undoes the other."""

import numpy as np
import pytest

pytest.importorskip("constriction", reason="needs the extra: pip install -e '.[compress]'")

from qvae.coding.probabilities import probabilities
from qvae.coding.stack import Stack


def random_words(count):
    return np.random.default_rng(count).integers(1, 2**32, count, dtype=np.uint64).astype(np.uint32)


@pytest.mark.parametrize("words", [0, 1, 2, 9])
def test_a_pop_is_undone_also_where_the_stack_runs_empty(words):
    rng, start = np.random.default_rng(0), random_words(words)
    for _ in range(100):
        stack, steps = Stack(start), rng.integers(-3000, 3000, (4, 50))
        bits = stack.pop(steps)
        stack.push(bits, steps)
        assert np.array_equal(stack.words(), start)


def test_bits_cost_what_their_probabilities_say():
    rng = np.random.default_rng(0)
    steps = rng.integers(-1500, 1500, (100, 100))
    p = probabilities(steps)
    bits = rng.random(p.shape) < p
    stack = Stack(random_words(4))
    before = stack.num_bits
    stack.push(bits, steps)
    assert stack.num_bits - before == pytest.approx(-np.log2(np.where(bits, p, 1 - p)).sum(), abs=5)
    assert np.array_equal(stack.pop(steps), bits)
    assert stack.num_bits == before
