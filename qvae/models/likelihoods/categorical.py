"""Categories: the categorical likelihood."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from qvae.data.dataset import Kind
from qvae.models.likelihoods.likelihood import Likelihood, Statistics


class Categorical(Likelihood):
    """x_d in 0..K-1 with p(x_d = k) = softmax over k of output[k, d], the output (..., K * D) seen as (..., K, D).

    Raises:
        ValueError: the statistics don't say how many categories there are.
    """

    name = "categorical"
    kind: ClassVar[Kind] = "categories"

    def __init__(self, statistics: Statistics) -> None:
        super().__init__(statistics)
        if statistics.levels is None:
            raise ValueError("levels is None; a categorical likelihood needs the number of categories")
        self.outputs = self.inputs = statistics.levels

    def initial_bias(self) -> Tensor:
        """Logarithms of the categories' frequencies, or of 0.0001 where that is larger; zeros where they aren't known."""
        bias = self.input_mean().clamp_min(1e-4).log()
        return torch.zeros_like(bias) if self.statistics.frequencies is None else bias

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_d log p(x_d)."""
        return self._log_probs(self._logits(output), x).sum(-1)

    def _log_probs(self, logits: Tensor, x: Tensor) -> Tensor:
        """log p(x_d) of logits (..., K, D) and data (..., D), (..., D)."""
        rows = torch.broadcast_shapes(logits.shape[:-2], x.shape[:-1])
        number = x.long().unsqueeze(-2).expand(*rows, 1, -1)
        chosen = logits.expand(*rows, -1, -1).gather(-2, number).squeeze(-2)
        return chosen - logits.logsumexp(-2)

    def mean(self, output: Tensor) -> Tensor:
        """The most probable category: numbers of categories have no mean that says anything."""
        return self._logits(output).argmax(-2).to(output.dtype)

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Numbers of categories, as floats; by the largest of logits with Gumbel noise."""
        logits = self._logits(output)
        exponential = torch.empty_like(logits).exponential_(generator=generator)
        return (logits - exponential.log()).argmax(-2).to(output.dtype)

    def features(self, x: Tensor) -> Tensor:
        """One-hot codes of (B, D): (B, K, D), flattened."""
        categories = torch.arange(self.inputs, device=x.device).unsqueeze(1)
        return (x.unsqueeze(-2) == categories).to(x.dtype).flatten(-2)

    def input_mean(self) -> Tensor:
        """The categories' frequencies; 1/K where they aren't known."""
        if self.statistics.frequencies is not None:
            return self.statistics.frequencies.reshape(-1).float().clone()
        return torch.full((self.inputs * self.num_features,), 1 / self.inputs, dtype=torch.float32)

    def _logits(self, output: Tensor) -> Tensor:
        return output.unflatten(-1, (self.outputs, self.num_features))
