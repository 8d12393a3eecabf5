"""Data given a decoder's output, found by yes-or-no questions with known odds: what a stack of bits can push and pop.

Whether a number is at least so large is asked again and again, until there is but one left that it can be. The odds of "yes"
follow from the likelihood, so that all answers together have its probability. For categories each question halves those that
are left; for counts the range is doubled, until it holds the count, and then halved; strings are asked for symbol by symbol.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qvae.errors import CapabilityError
from qvae.models.likelihoods.bernoulli import Bernoulli
from qvae.models.likelihoods.categorical import Categorical
from qvae.models.likelihoods.counts import Counts
from qvae.models.likelihoods.likelihood import Likelihood
from qvae.models.likelihoods.strings import Strings

Ask = Callable[[Tensor, Any, Any], np.ndarray]
"""Of log-odds, float64, the places they are of (an index into rows) and thresholds: are the numbers there at or above these?"""

_OCTAVES = 25  # up to 2^24, the largest count that data may hold, and what is asked where it isn't below that
_NEVER = -1e4  # the logit of what can't be; finite, so that even between two of them there are odds
_LEAK = 2.0**-40  # of each half, so that counts that the model rules out have odds, too, of which every machine is sure


def questions(likelihood: Likelihood) -> int:
    """How many are asked for a row, at most.

    Raises:
        CapabilityError: numbers of this likelihood can't be kept without loss.
    """
    if isinstance(likelihood, Bernoulli):
        return likelihood.num_features
    if isinstance(likelihood, Categorical):
        return likelihood.num_features * _depth(likelihood.outputs)
    if isinstance(likelihood, Counts):
        return likelihood.num_features * (2 * _OCTAVES - 1)
    why = "which knows their density, no probabilities" if likelihood.is_density else "whose numbers nothing says how to code"
    raise CapabilityError(
        f"{likelihood.kind} can't be kept without loss by a {likelihood.name} likelihood, {why}; keep their codes: --lossy."
    )


def answered(likelihood: Likelihood, output: Tensor, ask: Ask) -> np.ndarray:
    """Rows (B, D) that the answers lead to, of outputs (B, outputs * D), float64."""
    if isinstance(likelihood, Strings):
        return _strings(likelihood, output, ask)
    if isinstance(likelihood, Categorical):
        logits = output.unflatten(-1, (likelihood.outputs, likelihood.num_features))
        return _categories(logits.movedim(1, 0), lambda odds, threshold: ask(odds, ..., threshold))
    if isinstance(likelihood, Counts):
        return _counts(likelihood, output, ask)
    return ask(output, ..., 1)


def _depth(categories: int) -> int:
    return (categories - 1).bit_length()


def _categories(logits: Tensor, ask: Callable[[Tensor, np.ndarray], np.ndarray]) -> np.ndarray:
    """Numbers (...) of categories with logits (K, ...)."""
    depth = _depth(len(logits))
    missing = logits.new_full((2**depth - len(logits), *logits.shape[1:]), _NEVER)
    levels = [torch.cat([logits, missing])]  # of nodes with 1, 2, 4 ... categories each
    for _ in range(depth - 1):
        levels.append(torch.logaddexp(levels[-1][0::2], levels[-1][1::2]))
    numbers = np.zeros(logits.shape[1:], np.int64)
    for level, nodes in reversed(list(enumerate(levels))):
        lower = torch.from_numpy(numbers >> level).unsqueeze(0)
        odds = (nodes.gather(0, lower + 1) - nodes.gather(0, lower)).squeeze(0)
        numbers += ask(odds, numbers + 2**level).astype(np.int64) << level
    return numbers


def _strings(likelihood: Strings, output: Tensor, ask: Ask) -> np.ndarray:
    """Symbols; after the first end there are ends, for certain."""
    places, has_ended = count(), torch.zeros(len(output), dtype=torch.bool)

    def symbol(logits: Tensor) -> Tensor:
        nonlocal has_ended
        place = next(places)
        logits = torch.cat([logits[:, :1], logits[:, 1:].masked_fill(has_ended.unsqueeze(1), _NEVER)], 1)
        numbers = _categories(logits.T, lambda odds, threshold: ask(odds, (slice(None), place), threshold))
        has_ended = has_ended | torch.from_numpy(numbers == 0)
        return torch.from_numpy(numbers)

    return likelihood.one_by_one(output, symbol).long().numpy()


def _counts(likelihood: Counts, output: Tensor, ask: Ask) -> np.ndarray:
    shape = output.shape
    low, first, last = np.zeros(shape, np.int64), np.array([np.zeros(shape), np.ones(shape)]), np.zeros((2, *shape))
    last[0] = 1  # P(x < low) and P(x >= low), and the same of the other end

    def is_above(asked: np.ndarray, threshold: np.ndarray) -> np.ndarray:
        """The answer where it is asked for; the range ends at the threshold now."""
        middle = likelihood.tails(output, threshold, asked)
        lower, upper = (_between(*ends)[asked] + _LEAK for ends in ((first, middle), (middle, last)))
        above = np.zeros(shape, bool)
        above[asked] = ask(torch.from_numpy(np.log(upper / lower)), asked, threshold[asked])
        low[above], first[:, above] = threshold[above], middle[:, above]
        last[:, asked & ~above] = middle[:, asked & ~above]
        return above

    asked = np.ones(shape, bool)
    for octave in range(_OCTAVES):
        asked = is_above(asked, np.full(shape, 2**octave))
    width = low // 2
    while width.any():
        is_above(width > 0, low + width)
        width //= 2
    return low


def _between(first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """P(first <= x < last) of tails (2, ...): by the smaller ones, so that no digits are lost."""
    (below_first, above_first), (below_last, above_last) = first, last
    return np.where(
        below_last < 0.5,
        below_last - below_first,
        np.where(above_first < 0.5, above_first - above_last, 1 - below_first - above_last),
    )
