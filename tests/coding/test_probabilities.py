"""Probabilities that are whole numbers, and logits that no two machines may round differently."""

import numpy as np
import pytest

from qvae.coding.probabilities import MARGIN, SHIFTS, UNIT, OnTheFence, probabilities, rounded


def test_the_table_is_the_logistic_function_in_whole_numbers():
    steps = np.arange(-5000, 5000)
    found = probabilities(steps)
    np.testing.assert_allclose(found, 1 / (1 + np.exp(-steps / UNIT)), atol=2**-20)
    assert np.array_equal(found * 2**20, np.rint(found * 2**20))
    assert np.array_equal(found + probabilities(-steps), np.ones(len(steps)))
    assert found.min() == 2**-20


def test_rounding_keeps_to_the_grid():
    logits = np.random.default_rng(0).normal(0, 6, 10_000)
    for shift in range(SHIFTS):
        steps = rounded(logits, shift, is_coding=False)
        assert np.all((steps - shift) % SHIFTS == 0)
        inside = np.abs(logits) < 14
        assert np.abs(steps / UNIT - logits)[inside].max() <= SHIFTS / UNIT / 2


def test_what_another_machine_may_round_otherwise_is_refused():
    middle = (3.5 * SHIFTS + 2) / UNIT
    for logit, is_near in ((middle, True), (middle + MARGIN / 2, True), (middle - 2 * MARGIN, False), (middle + 20, False)):
        if is_near:
            with pytest.raises(OnTheFence):
                rounded(np.array([0.0, logit]), 2, is_coding=True)
        else:
            rounded(np.array([0.0, logit]), 2, is_coding=True)
    apart = [rounded(np.array([middle + sign * 2 * MARGIN]), 2, is_coding=True)[0] for sign in (-1, 1)]
    assert apart[1] - apart[0] == SHIFTS
    rounded(np.array([middle]), 3, is_coding=True)  # another grid has its lines elsewhere
