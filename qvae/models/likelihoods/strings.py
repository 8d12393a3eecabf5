"""Strings: categories position by position, up to and including the end."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from qvae.models.likelihoods.categorical import Categorical


class Strings(Categorical):
    """Strings of up to L characters as symbols x_t in 0..K-1, (..., L): 0 is the end, and stands on all places after it.

    p(x) = prod_t p(x_t) over the symbols up to and including the end, p(x_t = k) = softmax over k of output[k, t]. A string
    that fills its row ends behind it for certain, so that the probabilities of all strings of up to L characters add to 1.

    >>> from qvae.models.likelihoods.likelihood import Statistics
    >>> likelihood = Strings(Statistics.blank((2,), levels=3))
    >>> likelihood.log_prob(torch.zeros(6), torch.tensor([[0.0, 0.0], [1.0, 0.0], [1.0, 2.0]])).exp().mul(9).round().tolist()
    [3.0, 1.0, 1.0]
    """

    name = "strings"
    kind = "strings"

    @property
    def plane(self) -> tuple[int, ...]:
        """Neighbours in a string: (L,)."""
        return (self.num_features,)

    def initial_bias(self) -> Tensor:
        """Logarithms of how often each symbol follows where a string hasn't ended yet, at least 0.0001; zeros if not known."""
        if self.statistics.frequencies is None:
            return torch.zeros(self.outputs * self.num_features)
        found = self.statistics.frequencies.reshape(self.outputs, self.num_features).double().clone()
        before = found[0, :-1].clone()  # how often a string has ended before a place
        found[0, 1:] -= before
        going_on = torch.cat([before.new_ones(1), 1 - before])
        found = torch.where(going_on > 0, found / going_on, 1 / self.outputs)
        return found.clamp_min(1e-4).log().flatten().float()

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_t log p(x_t) over the symbols up to and including the end."""
        is_end = x == 0
        before_the_end = is_end.cumsum(-1) - is_end.long() == 0
        return (self._log_probs(self._logits(output), x) * before_the_end).sum(-1)

    def mean(self, output: Tensor) -> Tensor:
        """The most probable string."""
        log_p = self._logits(output).log_softmax(-2)
        best, character = log_p[..., 1:, :].max(-2)
        # With n characters: the best ones up to there, and the end, which is certain behind the row.
        start = best.new_zeros(*best.shape[:-1], 1)
        of_length = torch.cat([start, best.cumsum(-1)], -1) + torch.cat([log_p[..., 0, :], start], -1)
        length = of_length.argmax(-1, keepdim=True)
        place = torch.arange(self.num_features, device=output.device)
        return torch.where(place < length, character + 1, 0).to(output.dtype)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Symbols, as floats, with nothing but ends after the first one."""
        return ended(super().sample(output, generator))

    def one_by_one(self, output: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """Strings (..., L) of outputs (..., K L), each symbol chosen from its logits (B, K); ends follow the end."""
        logits = self._logits(output).reshape(-1, self.outputs, self.num_features)
        symbols = torch.stack([choose(at_place) for at_place in logits.unbind(-1)], 1)
        return ended(symbols).view(*output.shape[:-1], -1).to(output.dtype)


def ended(x: Tensor) -> Tensor:
    """Symbols (..., L) with all that follows the first end taken for ends."""
    return x * ((x == 0).cumsum(-1) == 0)
