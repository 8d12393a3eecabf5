"""A network whose weights have few bits, and its loss as a polynomial of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from qvae.errors import DataError
from qvae.ising.pseudo_boolean import MeanSquare, PseudoBoolean


class FewBitNetwork(nn.Module):
    """Layers with weights on a few levels from -scale to scale, and squares between them.

    The loss of such a network is a polynomial of the weights' bits, and no relaxation: of degree 2, a QUBO, for one layer, as
    in QBoost (Neven et al. 2008, arXiv:0811.0416), where features are weak classifiers; of degree 6 for two, which
    :meth:`~qvae.ising.pseudo_boolean.PseudoBoolean.quadratised` makes one with more bits. That is why activations are squares:
    a step or ReLU is no polynomial of low degree.

    Args:
        sizes: of inputs, hidden layers and outputs, as (3, 2, 1).
        bits: of each weight; 1 is -scale or scale, and more are as many levels as they can tell, evenly spaced.
        scale: of the weights, and of the biases that each layer has.
        bias: whether it has.

    Attributes:
        bits: of all weights, 0 or 1, int8; layer by layer, output by output, the lowest first.

    Raises:
        ValueError: there are fewer than two sizes, or a number is too small.

    >>> FewBitNetwork((3, 2, 1)).num_bits
    11
    """

    bits: Tensor

    def __init__(self, sizes: Sequence[int], bits: int = 1, scale: float = 1.0, bias: bool = True) -> None:
        super().__init__()
        if len(sizes) < 2 or min(sizes) < 1 or bits < 1 or not scale > 0:
            raise ValueError(
                f"sizes are {tuple(sizes)}, bits {bits}, scale {scale}; take two sizes or more, all above 0"
            )
        self.sizes, self.scale, self.bits_each, self.has_bias = tuple(sizes), scale, bits, bias
        number = sum((inputs + bias) * outputs for inputs, outputs in pairwise(sizes)) * bits
        self.register_buffer("bits", torch.zeros(number, dtype=torch.int8))

    @property
    def num_bits(self) -> int:
        """Of all weights."""
        return len(self.bits)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (N, K) of inputs (N, I)."""
        self._check(x)
        return torch.stack(self._outputs(x, self._weights(self.bits.tolist())), dim=1)

    def loss(self, x: Tensor, y: Tensor) -> MeanSquare:
        """The mean squared error, over rows and outputs, as a polynomial of all bits; its value is that at these bits.

        Args:
            x: inputs, (N, I), N of 1 or more.
            y: targets, (N, K), for classes as -1 and 1.

        Raises:
            DataError: they are of other shapes.
        """
        self._check(x)
        if y.shape != (len(x), self.sizes[-1]) or len(x) == 0:
            raise DataError(
                f"targets have shape {tuple(y.shape)}; they must be ({len(x)}, {self.sizes[-1]}), 1 row or more."
            )
        # Where terms of different rows cancel each other, float32 would leave noise.
        outputs = self._outputs(x.double(), self._weights([PseudoBoolean.bit(number) for number in range(self.num_bits)]))
        errors = [output - target for output, target in zip(outputs, y.double().unbind(1), strict=True)]
        return MeanSquare(errors)

    def _weights(self, bits: Sequence[Any]) -> list[list[list[Any]]]:
        """By layer, output and input, the bias last, of bits that are numbers or polynomials."""
        step = 2 * self.scale / (2**self.bits_each - 1)
        values = iter(
            sum((bit * (step * 2**place) for place, bit in enumerate(bits[first : first + self.bits_each])), -self.scale)
            for first in range(0, len(bits), self.bits_each)
        )
        return [
            [[next(values) for _ in range(inputs + self.has_bias)] for _ in range(outputs)]
            for inputs, outputs in pairwise(self.sizes)
        ]

    def _outputs(self, x: Tensor, weights: list[list[list[Any]]]) -> list[Any]:
        """Of weights that are numbers, or polynomials, whose coefficients then have an entry for each row."""
        values: list[Any] = [*x.unbind(1)]
        for number, layer in enumerate(weights):
            if number:
                values = [value * value for value in values]
            given = [*values, torch.ones_like(x[:, 0])] if self.has_bias else values
            values = [sum(weight * value for weight, value in zip(row, given, strict=True)) for row in layer]
        return values

    def _check(self, x: Tensor) -> None:
        if x.ndim != 2 or x.shape[1] != self.sizes[0]:
            raise DataError(f"inputs have shape {tuple(x.shape)}; they must be (rows, {self.sizes[0]}).")

    def extra_repr(self) -> str:
        """Sizes, for ``print``."""
        return f"{self.sizes}, {self.bits_each} bits each, {self.num_bits} bits"
