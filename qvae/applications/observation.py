"""What was seen of rows: a part of them, a noisy copy or a coarse one; p(seen | z) with the rows themselves summed out."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from qvae.errors import CapabilityError
from qvae.models.likelihoods.gaussian import Gaussian
from qvae.models.likelihoods.likelihood import Likelihood

_SURE = 1e-7  # the nearest that probabilities are taken to come to 0 and 1
_HOPELESS = 1e-300  # probability of a sum of bits; less would be 0, whose logarithm is none
_LARGEST_SHIFT = 32.0  # of logits, that makes any of them sure
_HALVINGS = 24  # of an interval of shifts: a shift is then known to a hundred-thousandth


class Observation(ABC):
    """What was seen of B rows x of D features.

    Grey levels in place of bits stand for the bits that training draws of them: log-probabilities are means over these draws.

    Args:
        likelihood: p(x | decoder's output).
        seen: (B, S).

    Attributes:
        rounds: of the encoder's proposals that find rows which agree with it.
    """

    rounds = 10

    def __init__(self, likelihood: Likelihood, seen: Tensor) -> None:
        self.likelihood, self.seen = likelihood, seen

    @abstractmethod
    def log_prob(self, output: Tensor) -> Tensor:
        """log p(seen | z) of K outputs of the decoder for each row, (B, K, outputs * D), up to a constant of it, (B, K)."""

    @abstractmethod
    def completed(self, means: Tensor) -> Tensor:
        """Rows (B, K, D) that agree with what was seen, and else with ``means`` of p(x|z), (B, K, D) or (1, 1, D)."""

    def picture(self) -> Tensor:
        """What was seen as rows, (B, D): to be shown, and what the encoder sees in a training with such damage."""
        return self.seen


class PartlyHidden(Observation):
    """Some features aren't seen; the others are as they are. Of any likelihood.

    Args:
        likelihood: as of every observation.
        seen: (B, D), whatever they are where they are hidden.
        hidden: bool, (B, D).
    """

    rounds = 30  # a hole's rim must be filled before its middle can be guessed

    def __init__(self, likelihood: Likelihood, seen: Tensor, hidden: Tensor) -> None:
        super().__init__(likelihood, seen.masked_fill(hidden, 0.0))
        self.hidden = hidden.unsqueeze(1)

    def log_prob(self, output: Tensor) -> Tensor:
        """Hidden features have the same output and the same x for all z, and so add a constant."""
        numbers = output.unflatten(-1, (self.likelihood.outputs, -1))
        shown = numbers.masked_fill(self.hidden.unsqueeze(2), 0.0).flatten(-2)
        return self.likelihood.log_prob_draws(shown, self.seen)

    def completed(self, means: Tensor) -> Tensor:
        """The means where x is hidden."""
        return torch.where(self.hidden, means, self.seen.unsqueeze(1))

    def picture(self) -> Tensor:
        """The likelihood's mean at an output of 0 where x is hidden: of bits, half-way."""
        blank = self.likelihood.mean(self.seen.new_zeros(self.likelihood.outputs * self.seen.shape[1]))
        return torch.where(self.hidden.squeeze(1), blank, self.seen)


class Flipped(Observation):
    """Bits, each of which was replaced with probability ``rate`` by a one with probability ``ones``, else by a zero.

    ``ones`` of 0.5 is salt-and-pepper noise, and of 0 pixels that were dropped.

    Raises:
        CapabilityError: the likelihood is of other data than bits.
    """

    def __init__(self, likelihood: Likelihood, seen: Tensor, rate: float, ones: float) -> None:
        if likelihood.kind != "bits":
            raise CapabilityError(f"this noise is of bits, but the model's data are {likelihood.kind}; take gaussian noise.")
        super().__init__(likelihood, seen)
        self.rate, self.ones = rate, ones

    def log_prob(self, output: Tensor) -> Tensor:
        """p(seen = 1 | z) = (1 - rate) p + rate ones of each bit."""
        p = _sure((1 - self.rate) * self.likelihood.mean(output) + self.rate * self.ones)
        seen = self.seen.unsqueeze(1)
        return (seen * p.log() + (1 - seen) * (-p).log1p()).sum(-1)

    def completed(self, means: Tensor) -> Tensor:
        """P(x = 1 | seen) by Bayes' rule, with ``means`` as P(x = 1)."""
        p = _sure((1 - self.rate) * means + self.rate * self.ones)
        if_one = means * (1 - self.rate + self.rate * self.ones) / p
        if_zero = means * self.rate * (1 - self.ones) / (1 - p)
        return torch.lerp(if_zero, if_one, self.seen.unsqueeze(1)).clamp(0, 1)


class Noisy(Observation):
    """x + sigma * noise, of bits or real numbers.

    Args:
        likelihood: as of every observation.
        seen: (B, D).
        sigma: of the normal noise, in the data's units.

    Raises:
        CapabilityError: the likelihood is of counts or categories.
    """

    def __init__(self, likelihood: Likelihood, seen: Tensor, sigma: float) -> None:
        require_sums(likelihood)
        super().__init__(likelihood, seen)
        self.variance = sigma**2

    def log_prob(self, output: Tensor) -> Tensor:
        """Of bits a mixture of the two normals about 0 and 1; of reals one normal, whose variance is the sum of both."""
        mean, seen = self.likelihood.mean(output), self.seen.unsqueeze(1)
        if isinstance(self.likelihood, Gaussian):
            return -((seen - mean).square() / (2 * (_variance(self.likelihood) + self.variance))).sum(-1)
        p = _sure(mean)
        return torch.logaddexp((-p).log1p(), p.log() + self._evidence).sum(-1)

    def completed(self, means: Tensor) -> Tensor:
        """E[x | seen] by Bayes' rule, with a prior of these ``means``."""
        if isinstance(self.likelihood, Gaussian):
            variance = _variance(self.likelihood)
            return means + (self.seen.unsqueeze(1) - means) * variance / (variance + self.variance)
        return torch.sigmoid(torch.logit(_sure(means)) + self._evidence)

    @property
    def _evidence(self) -> Tensor:
        """log p(seen | x = 1) - log p(seen | x = 0) of each bit, (B, 1, D)."""
        return (2 * self.seen.unsqueeze(1) - 1) / (2 * self.variance)


class Pooled(Observation):
    """Means over squares of ``factor`` x ``factor`` pixels, of bits or real numbers.

    Args:
        likelihood: as of every observation.
        seen: the means, (B, S), S = D / factor^2.
        factor: by which both sides of the image are divided.
        shape: of x, (H, W) or (C, H, W).

    Raises:
        CapabilityError: the likelihood is of counts or categories.
    """

    def __init__(self, likelihood: Likelihood, seen: Tensor, factor: int, shape: tuple[int, ...]) -> None:
        require_sums(likelihood)
        super().__init__(likelihood, seen)
        self.factor, self.shape = factor, shape

    def log_prob(self, output: Tensor) -> Tensor:
        """The number of ones in a square is a sum of independent bits; the mean of reals is normal."""
        squares = self._squares(self.likelihood.mean(output))
        seen = self.seen.unsqueeze(1)
        if isinstance(self.likelihood, Gaussian):
            variance = self._squares(_variance(self.likelihood).expand(output.shape)).mean(-1) / self.factor**2
            return -((seen - squares.mean(-1)).square() / (2 * variance)).sum(-1)
        log_pmf = _log_sum_of_bits(_sure(squares))
        ones = (seen * self.factor**2).clamp(0, self.factor**2).double().expand(log_pmf.shape[:-1])
        below = ones.floor().clamp(max=self.factor**2 - 1)
        pair = log_pmf.gather(-1, torch.stack([below, below + 1], -1).long())
        return torch.lerp(pair[..., 0], pair[..., 1], ones - below).sum(-1)

    def completed(self, means: Tensor) -> Tensor:
        """The ``means``, moved by the same in a whole square (of bits, their logits) so that it has the mean that was seen."""
        seen = self.seen.unsqueeze(1)
        if isinstance(self.likelihood, Gaussian):
            return means + self._spread(seen - self._squares(means).mean(-1))
        logits = torch.logit(_sure(means)).expand(len(seen), -1, -1)
        low = torch.full_like(self._squares(logits)[..., 0], -_LARGEST_SHIFT)
        high = -low
        for _ in range(_HALVINGS):
            middle = (low + high) / 2
            is_low = self._squares(torch.sigmoid(logits + self._spread(middle))).mean(-1) < seen
            low, high = torch.where(is_low, middle, low), torch.where(is_low, high, middle)
        return torch.sigmoid(logits + self._spread((low + high) / 2))

    def picture(self) -> Tensor:
        """In squares of one colour."""
        return self._spread(self.seen)

    def _squares(self, rows: Tensor) -> Tensor:
        """The pixels of each square, (..., S, factor^2), of rows (..., D)."""
        *channels, height, width = self.shape
        sides = (*channels, height // self.factor, self.factor, width // self.factor, self.factor)
        return rows.unflatten(-1, sides).transpose(-3, -2).flatten(-2).flatten(rows.ndim - 1, -2)

    def _spread(self, values: Tensor) -> Tensor:
        """Values (..., S) of the squares at all their pixels, (..., D)."""
        *channels, height, width = self.shape
        coarse = values.unflatten(-1, (*channels, height // self.factor, width // self.factor))
        fine = coarse.repeat_interleave(self.factor, -1).repeat_interleave(self.factor, -2)
        return fine.flatten(values.ndim - 1)


def require_sums(likelihood: Likelihood) -> None:
    """Raise a CapabilityError unless the data are bits or reals, of which noise and means can be taken."""
    if likelihood.kind not in ("bits", "reals"):
        kinds = f"bits or real numbers, but the model's data are {likelihood.kind}"
        raise CapabilityError(f"this needs {kinds}; qvae apply inpaint takes all.")


def _variance(likelihood: Gaussian) -> Tensor:
    """Of each feature in the data's units, (D,) or (1,)."""
    return likelihood.scale.square() * likelihood.variance


def _sure(p: Tensor) -> Tensor:
    return p.clamp(_SURE, 1 - _SURE)


def _log_sum_of_bits(p: Tensor) -> Tensor:
    """log P(k ones) for k = 0..n of n independent bits with probabilities p (..., n), float64, (..., n + 1)."""
    pmf = p.new_ones(*p.shape[:-1], 1, dtype=torch.float64)
    for one in p.double().split(1, -1):
        zero = torch.zeros_like(pmf[..., :1])
        pmf = torch.cat([pmf * (1 - one), zero], -1) + torch.cat([zero, pmf * one], -1)
    return pmf.clamp_min(_HOPELESS).log()
