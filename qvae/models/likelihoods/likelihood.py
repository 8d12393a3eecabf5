"""The contract of a likelihood p(x | decoder's output), and the statistics of the data that one starts from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor, nn

from qvae.config.schema import ModelConfig
from qvae.data.alphabet import Alphabet
from qvae.data.dataset import Dataset, Kind, chunks


@dataclass(frozen=True)
class Statistics:
    """What a model must know of its data before the first step.

    Attributes:
        mean: of each feature over the training rows as the likelihood sees them, float32, of the shape of a row.
        std: standard deviation of each feature, likewise; 0 where it never varies.
        levels: number of categories, or of symbols; None for other kinds of data.
        frequencies: (levels, *shape), how often each category occurs in each feature; None where that isn't known.
        alphabet: of strings, what their symbols stand for; None for other kinds of data.
    """

    mean: Tensor
    std: Tensor
    levels: int | None = None
    frequencies: Tensor | None = None
    alphabet: Alphabet | None = None

    @classmethod
    def blank(cls, shape: tuple[int, ...], levels: int | None = None, alphabet: Alphabet | None = None) -> Statistics:
        """Zeros and ones, for a model whose numbers then come from a file.

        >>> Statistics.blank((2,)).std.tolist()
        [1.0, 1.0]
        """
        return cls(torch.zeros(shape), torch.ones(shape), levels, alphabet=alphabet)

    @classmethod
    def of(cls, dataset: Dataset) -> Statistics:
        """Of the training rows, as :meth:`~qvae.data.dataset.Dataset.prepare` gives them."""
        mean = dataset.mean()
        if dataset.kind == "bits":
            return cls(mean, (mean * (1 - mean)).sqrt())
        std = dataset.standard_deviation()
        if dataset.levels is None:
            return cls(mean, std)
        if dataset.kind in ("categories", "strings"):
            return cls(mean, std, dataset.levels, _frequencies(dataset, dataset.levels), dataset.alphabet)
        return cls(mean, (std.square() + 1 / (12 * dataset.levels**2)).sqrt())  # with the noise over a step of grey levels


def _frequencies(dataset: Dataset, levels: int) -> Tensor:
    """How often each category occurs in each feature of the training rows, (levels, *shape)."""
    counts = torch.zeros(levels, *dataset.shape, dtype=torch.float64)
    for rows in chunks(dataset.train):
        found = dataset.values(rows).long()
        for level in range(levels):
            counts[level] += (found == level).sum(0)
    return (counts / len(dataset.train)).float()


class Likelihood(nn.Module, ABC):
    """p(x | output) of D features, each with ``outputs`` numbers of the decoder; a product over them, as a rule.

    An output (..., outputs * D) holds number 0 of every feature, then number 1 of every feature, and so on, so that
    ``output.unflatten(-1, (outputs, D))`` takes it apart. Data x are (..., D), float32 whatever their kind. Leading axes
    broadcast. Log-probabilities are in nats, float32 for float32 outputs, and no method reads a value back from the device.

    Args:
        statistics: of the training data. They set buffers and the start of a model; later they aren't looked at, so
            :meth:`Statistics.blank` will do for a model that is loaded.

    Attributes:
        name: in ``LIKELIHOODS``.
        kind: of the data that it takes.
        is_density: its nats are of a density, which depend on the units of x and can't be compared with those of
            probabilities.
        outputs: numbers of the decoder for each feature.
        inputs: numbers that the encoder sees of each feature.
    """

    name: ClassVar[str]
    kind: ClassVar[Kind]
    is_density: ClassVar[bool] = False
    outputs: int = 1
    inputs: int = 1

    def __init__(self, statistics: Statistics) -> None:
        super().__init__()
        self.statistics = statistics
        self.num_features = statistics.mean.numel()

    @property
    def plane(self) -> tuple[int, ...]:
        """The axes along which neighbours belong together, for convolutions: (H, W) of an image; none of a table."""
        shape = tuple(self.statistics.mean.shape)
        return shape[-2:] if len(shape) > 1 else ()

    @classmethod
    def from_config(cls, config: ModelConfig, statistics: Statistics) -> Self:
        """Made with those keys of a configuration that concern it: none, unless a subclass says otherwise."""
        return cls(statistics)

    @abstractmethod
    def initial_bias(self) -> Tensor:
        """The output (outputs * D,) from which p(x) has the mean of the data: where the decoder's bias starts."""

    @abstractmethod
    def log_prob(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x | output) of outputs (..., outputs * D) and data (..., D), in nats, (...,)."""

    @abstractmethod
    def mean(self, output: Tensor) -> Tensor:
        """E[x | output], (..., D)."""

    @abstractmethod
    def sample(self, output: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """One draw x ~ p(x | output), (..., D)."""

    def log_prob_draws(self, output: Tensor, x: Tensor) -> Tensor:
        """log p(x | output) of K outputs (B, K, outputs * D) for each row (B, D), in nats, (B, K)."""
        return self.log_prob(output, x.unsqueeze(1))

    def features(self, x: Tensor) -> Tensor:
        """What the encoder sees of data (B, D), (B, inputs * D), laid out as outputs are: x itself, by default."""
        return x

    def input_mean(self) -> Tensor:
        """What the encoder subtracts from the features, (inputs * D,): the mean of the data, by default."""
        return self.statistics.mean.reshape(-1).float().clone()  # an encoder that is loaded writes into it


def usable_scale(mean: Tensor, std: Tensor) -> Tensor:
    """Standard deviations to divide by: 1 for a feature that never varies, as far as float32 can tell."""
    return torch.where(std > 1e-6 * mean.abs(), std, 1.0)
