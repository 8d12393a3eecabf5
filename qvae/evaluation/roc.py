"""How well a score tells two sets apart: the area under the ROC curve, and its error."""

from __future__ import annotations

import math

import numpy as np


def auroc(normal: np.ndarray, odd: np.ndarray) -> tuple[float, float]:
    """P(score of an odd row > that of a normal one), ties counted half, and its standard error, nan for fewer than two rows.

    Args:
        normal: scores (N,).
        odd: scores (M,).

    The error is that of E. DeLong, D. DeLong, D. Clarke-Pearson, Biometrics 44 (1988) 837: the variance of each row's own
    share of the rows of the other set that it stands on the right side of.

    >>> auroc(np.array([0.0, 1.0]), np.array([2.0, 1.0]))[0]
    0.875
    """
    above = _share_below(odd, normal)
    below = 1 - _share_below(normal, odd)
    if min(len(normal), len(odd)) < 2:
        return float(above.mean()), math.nan
    error = math.sqrt(above.var(ddof=1) / len(odd) + below.var(ddof=1) / len(normal))
    return float(above.mean()), error


def _share_below(scores: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The part of ``others`` that lies below each of the scores, ties counted half."""
    ordered = np.sort(others)
    return (np.searchsorted(ordered, scores, "left") + np.searchsorted(ordered, scores, "right")) / (2 * len(others))
