"""An n-gram model of strings: what counting neighbours alone can do, to hold a model of strings against."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from qvae.data.alphabet import Alphabet

_START, _END = "\1", "\0"  # control characters, which no string holds
_KEPT = 2**22  # numbers of distributions that are kept


class NGram:
    """p(string) = prod_t p(x_t | the order - 1 characters before it), the end included, by interpolated counts.

    p(x | h) = (c(h x) + t(h) p(x | h less its first character)) / (c(h) + t(h)), where h has been seen c(h) times, before t(h)
    different symbols, and without any h all symbols are alike: I. H. Witten, T. C. Bell, "The zero-frequency problem" (1991).
    A string of ``longest`` characters ends there for certain, as in the likelihood of strings.

    Args:
        strings: to count in.
        alphabet: that they are of.
        order: 1 looks at no character before.
        longest: characters that a string can have.

    >>> bigram = NGram(["ab", "ab", "b"], Alphabet("ab"), order=2, longest=5)
    >>> expected = (1 + 2 * 4 / 11) / 5 * (3 + 4 / 11) / 4  # p(b | start) p(end | b), both p(b) and p(end) 4 / 11
    >>> math.isclose(math.exp(bigram.log_prob("b")), expected)
    True
    """

    def __init__(self, strings: Sequence[str], alphabet: Alphabet, order: int, longest: int) -> None:
        self.order, self.longest = order, longest
        self._symbols = _END + alphabet.characters
        self._places = {symbol: place for place, symbol in enumerate(self._symbols)}
        self._counts: defaultdict[str, Counter[int]] = defaultdict(Counter)
        self._known: dict[str, np.ndarray] = {}
        for string in strings:
            text = _START + string + _END
            for place in range(1, len(text)):
                for start in range(max(0, place - order + 1), place + 1):
                    self._counts[text[start:place]][self._places[text[place]]] += 1

    def log_prob(self, string: str) -> float:
        """log p(string), in nats."""
        text = _START + string + (_END if len(string) < self.longest else "")
        following = (self._distribution(text[:place])[self._places[text[place]]] for place in range(1, len(text)))
        return sum(map(math.log, following))

    def sample(self, number: int, seed: int) -> list[str]:
        """Strings drawn from the model, symbol by symbol."""
        rng = np.random.default_rng(seed)
        found = []
        for _ in range(number):
            text = _START
            while len(text) <= self.longest:
                weights = self._distribution(text).cumsum()
                symbol = self._symbols[int(weights.searchsorted(rng.random() * weights[-1], side="right"))]
                if symbol == _END:
                    break
                text += symbol
            found.append(text[1:])
        return found

    def _distribution(self, before: str) -> np.ndarray:
        """p(x | before), (K,), the end first."""
        context = before[max(0, len(before) - self.order + 1) :]
        if context not in self._known:
            if len(self._known) * len(self._symbols) > _KEPT:
                self._known.clear()
            self._known[context] = self._interpolated(context)
        return self._known[context]

    def _interpolated(self, context: str) -> np.ndarray:
        found = np.full(len(self._symbols), 1 / len(self._symbols))
        for start in range(len(context), -1, -1):
            counts = self._counts.get(context[start:])
            if counts is None:  # nor has any longer one been seen
                break
            found *= len(counts)
            found[list(counts)] += list(counts.values())
            found /= counts.total() + len(counts)
        return found


def best_ngram(strings: Sequence[str], alphabet: Alphabet, longest: int, orders: Sequence[int] = range(1, 7)) -> NGram:
    """The n-gram model whose order gives a tenth of the strings, the last ones, the highest likelihood, counted in all."""
    first = len(strings) - max(1, len(strings) // 10)
    counted, held_out = strings[:first], strings[first:]

    def fit(order: int) -> float:
        return sum(map(NGram(counted, alphabet, order, longest).log_prob, held_out))

    return NGram(strings, alphabet, max(orders, key=fit), longest)
