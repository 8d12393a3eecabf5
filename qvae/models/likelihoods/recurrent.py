"""Strings whose symbols depend on those before them: a recurrent network reads these, and what the decoder says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

import torch
from torch import Tensor, nn

from qvae.config.schema import ModelConfig
from qvae.models.likelihoods.likelihood import Statistics
from qvae.models.likelihoods.strings import Strings, ended


class RecurrentStrings(Strings):
    """As :class:`Strings`, but p(x) = prod_t p(x_t | x_1 .. x_{t-1}, output).

    To the decoder's logits at each place, output[:, t], come those of a gated recurrent unit (K. Cho et al. 2014) that has
    read the symbols before it, and the decoder's logits up to it. Given x, which holds all symbols before each, one pass
    makes the exact log p(x); a string is drawn symbol by symbol.

    Args:
        statistics: of the training data.
        width: units of the recurrent network.
    """

    name = "recurrent-strings"

    def __init__(self, statistics: Statistics, width: int = 128) -> None:
        super().__init__(statistics)
        self.reader = nn.GRU(2 * self.outputs, width, batch_first=True)
        self.added = nn.Linear(width, self.outputs)

    @classmethod
    def from_config(cls, config: ModelConfig, statistics: Statistics) -> Self:
        """As wide as the networks' layer next to the data, if they have one."""
        return cls(statistics, *config.network.hidden[:1])

    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """sum_t log p(x_t | those before, output) over the symbols up to and including the end."""
        rows = torch.broadcast_shapes(output.shape[:-1], x.shape[:-1])
        logits = self._logits(output).expand(*rows, -1, -1).reshape(-1, self.outputs, self.num_features)
        symbols = x.expand(*rows, -1).reshape(-1, self.num_features)
        seen = self._one_hot(symbols).to(output.dtype)
        before = torch.cat([torch.zeros_like(seen[:, :1]), seen[:, :-1]], 1)
        read, _ = self.reader(torch.cat([before, logits.transpose(1, 2)], 2))
        given = logits + self.added(read).transpose(1, 2)
        return super().log_prob(given.flatten(1), symbols).view(rows)

    def mean(self, output: Tensor) -> Tensor:
        """The most probable symbol after those before it, one by one: a probable string, if not always the most probable."""
        return self.one_by_one(output, lambda logits: logits.argmax(-1))

    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Symbols, as floats, drawn one by one, with nothing but ends after the first one."""

        def drawn(logits: Tensor) -> Tensor:
            exponential = torch.empty_like(logits).exponential_(generator=generator)
            return (logits - exponential.log()).argmax(-1)

        return self.one_by_one(output, drawn)

    def one_by_one(self, output: Tensor, choose: Callable[[Tensor], Tensor]) -> Tensor:
        """The same, with logits that depend on the symbols chosen before."""
        logits = self._logits(output).reshape(-1, self.outputs, self.num_features)
        before, state, symbols = torch.zeros_like(logits[..., 0]), None, []
        for at_place in logits.unbind(-1):
            read, state = self.reader(torch.cat([before, at_place], 1).unsqueeze(1), state)
            symbols.append(choose(at_place + self.added(read.squeeze(1))))
            before = self._one_hot(symbols[-1]).to(output.dtype)
        return ended(torch.stack(symbols, 1)).view(*output.shape[:-1], -1).to(output.dtype)

    def _one_hot(self, symbols: Tensor) -> Tensor:
        return symbols.unsqueeze(-1) == torch.arange(self.outputs, device=symbols.device)
