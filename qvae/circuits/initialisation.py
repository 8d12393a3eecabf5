"""Where the training of a circuit starts: uniform angles, and others that keep gradients from vanishing in deep circuits.

The others leave a state near the one that the circuit begins with. An observable that is sharp in it, as Z is in |0>, has
derivatives of 0 there: put gates before the circuit, as an encoding or rotations by pi/4.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.inverse import inverse
from qvae.circuits.library.composition import joined
from qvae.circuits.library.placed import check_layers
from qvae.errors import CircuitError

Start = Callable[[Circuit, int, torch.Generator], Tensor]
"""From a circuit of W weights, a number of starts and a generator to weights (starts, W), radians, float64."""


def uniform(circuit: Circuit, starts: int, generator: torch.Generator) -> Tensor:
    """In 0 ... 2 pi, where deep circuits are near random ones: the barren plateau of McClean et al. 2018 (arXiv:1803.11173)."""
    return 2 * pi * torch.rand(starts, circuit.num_weights, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class SmallAngles:
    """Normal angles about 0, where a circuit is near the one without rotations: Zhang et al. 2022 (arXiv:2203.09376).

    Attributes:
        deviation: radians; the paper has 1 / (2 sqrt(S (L + 2))) for L layers and an observable on S qubits.
    """

    deviation: float

    def __call__(self, circuit: Circuit, starts: int, generator: torch.Generator) -> Tensor:
        """See :data:`Start`."""
        return self.deviation * torch.randn(starts, circuit.num_weights, generator=generator, dtype=torch.float64)


@dataclass(frozen=True)
class FirstLayers:
    """All angles 0 but those of the first layers: where layerwise training begins (Skolik et al. 2021, arXiv:2006.14904).

    Attributes:
        weights: of the first layers, which are uniform.
    """

    weights: int

    def __call__(self, circuit: Circuit, starts: int, generator: torch.Generator) -> Tensor:
        """See :data:`Start`."""
        angles = uniform(circuit, starts, generator)
        angles[:, self.weights :] = 0
        return angles


@dataclass(frozen=True)
class IdentityBlocks:
    """Blocks that are the identity at the start, each an ansatz and its inverse with weights of their own: Grant et al. 2019.

    A derivative sees the one block that it is of, and no random circuit before or after it (arXiv:1903.05076). It is a start
    of :attr:`circuit` alone.

    Attributes:
        ansatz: of weights alone.
        blocks: 1 or more.

    Raises:
        CircuitError: the ansatz has inputs, or there is no block.
    """

    ansatz: Circuit
    blocks: int

    def __post_init__(self) -> None:
        check_layers(self.blocks)
        if self.ansatz.num_inputs:
            raise CircuitError(f"the ansatz has {self.ansatz.num_inputs} inputs; identity blocks need one of weights alone.")

    @property
    def circuit(self) -> Circuit:
        """Twice as long as the ansatz, times the number of blocks."""
        return joined([self.ansatz, inverse(self.ansatz)] * self.blocks, shares_inputs=False)

    def __call__(self, circuit: Circuit, starts: int, generator: torch.Generator) -> Tensor:
        """See :data:`Start`.

        Raises:
            CircuitError: the circuit has another number of weights.
        """
        number = self.ansatz.num_weights
        if circuit.num_weights != 2 * self.blocks * number:
            raise CircuitError(
                f"the circuit has {circuit.num_weights} weights, but {self.blocks} identity blocks have "
                f"{2 * self.blocks * number}; take the circuit of IdentityBlocks itself."
            )
        halves = 2 * pi * torch.rand(starts, self.blocks, 1, number, generator=generator, dtype=torch.float64)
        return halves.expand(-1, -1, 2, -1).flatten(1)
