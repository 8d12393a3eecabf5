"""The area under the ROC curve against scikit-learn's, and its error against the scatter of many sets."""

import math

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from qvae.evaluation.roc import auroc


def test_the_area_is_scikit_learn_s_ties_included():
    rng = np.random.default_rng(0)
    normal, odd = rng.integers(0, 8, 60), rng.integers(2, 9, 45)
    labels = np.r_[np.zeros(60), np.ones(45)]
    assert auroc(normal, odd)[0] == pytest.approx(roc_auc_score(labels, np.r_[normal, odd]))
    assert math.isnan(auroc(normal[:1], odd)[1])


def test_the_error_of_few_rows_by_hand():
    """Odd rows are above 2/3 and 1 of the normal ones, which are below 1, 1 and 1/2 of the odd ones."""
    assert auroc(np.array([1, 2, 4]), np.array([3, 5])) == pytest.approx((5 / 6, math.sqrt(1 / 18 / 2 + 1 / 12 / 3)))


def test_the_error_is_the_scatter_over_fresh_sets():
    rng = np.random.default_rng(1)
    found = np.array([auroc(rng.normal(0, 1, 40), rng.normal(1, 1, 30)) for _ in range(1000)])
    # The scatter of 1000 has a relative error of 1/sqrt(2000), and the errors differ from set to set.
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=5 / math.sqrt(2000))


def test_the_error_is_right_where_one_set_is_much_larger():
    """A few odd rows, whose scatter makes nearly all of it, beside many normal ones."""
    rng = np.random.default_rng(2)
    found = np.array([auroc(rng.normal(0, 1, 300), rng.normal(1, 2, 20)) for _ in range(1000)])
    assert found[:, 1].mean() == pytest.approx(found[:, 0].std(), rel=5 / math.sqrt(2000))
