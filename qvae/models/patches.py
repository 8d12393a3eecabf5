"""An image in patches, each drawn by a circuit of its own whose ancillas are measured and selected, after Huang et al. 2021."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from qvae.circuits.executor import Executor
from qvae.config.circuit import CircuitConfig
from qvae.ising.exact import state_numbers
from qvae.models.circuit_block import CircuitBlock

_BLACK, _WHITE = 0.15, 1.5  # probabilities, in those of a uniform superposition


class Patches(nn.Module):
    """Inputs (B, n) to pixels (B, D) from 0 to 1, by the probabilities of basis states.

    A circuit of q qubits, a of them ancillas, draws 2**(q-a) pixels: those of the basis states of the other qubits where the
    ancillas, the last ones, are found at 0. What is measured with another at 1 is thrown away. A pixel is black up to 0.15
    times the probability of a state in a uniform superposition, 2**-q, and white from 1.5 times on.

    Huang et al. (arXiv:2010.06201) divide by the brightest pixel of a patch, so that each has one that is white, and hardly
    any that is black. Here a patch is the darker the more is thrown away, and paper and ink are as even as in data.

    Args:
        blocks: circuits of one size, one for each patch, in the order of the pixels.
        ancillas: a.
        num_pixels: D; the last patch is cut off there.
    """

    def __init__(self, blocks: list[CircuitBlock], ancillas: int, num_pixels: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.size, self.num_pixels = 2 ** (blocks[0].circuit.num_qubits - ancillas), num_pixels

    @classmethod
    def from_config(
        cls, config: CircuitConfig, num_inputs: int, ancillas: int, num_pixels: int, executor: Executor | None = None
    ) -> Patches:
        """As many circuits of a configuration as an image needs.

        Raises:
            CircuitError, ExecutorError: a circuit can't be had, or not run.
            ValueError: all qubits are ancillas.
        """
        if ancillas >= config.qubits:
            raise ValueError(f"gan.ancillas is {ancillas}, but a circuit has {config.qubits} qubits; leave some to draw with")
        count = -(-num_pixels // 2 ** (config.qubits - ancillas))
        return cls([CircuitBlock.styled(config, num_inputs, executor) for _ in range(count)], ancillas, num_pixels)

    def forward(self, inputs: Tensor) -> Tensor:
        """Pixels (B, D)."""
        patches = [self._patch(block, inputs) for block in self.blocks]
        return torch.cat(patches, 1)[:, : self.num_pixels]

    def _patch(self, block: nn.Module, inputs: Tensor) -> Tensor:
        """Pixels of one patch, (B, size)."""
        first = self.blocks[0]
        assert isinstance(block, CircuitBlock)
        assert isinstance(first, CircuitBlock)
        executor = block.layer.executor = first.layer.executor  # where it is exchanged for generation, it is in the first one
        if executor.capabilities.exact:
            found = block.probabilities(inputs)
        else:
            found = _frequencies(block.sample(inputs, executor.shots))
        selected = found[:, : self.size]  # little-endian: the last qubits are 0 in the first states
        return ((selected * found.shape[1] - _BLACK) / (_WHITE - _BLACK)).clamp(0, 1)


def _frequencies(bits: Tensor) -> Tensor:
    """The part of shots that found each basis state, (B, 2**q), in measured bits (B, shots, q).

    >>> _frequencies(torch.tensor([[[1, 0], [1, 0], [0, 1], [1, 1]]])).tolist()
    [[0.0, 0.5, 0.25, 0.25]]
    """
    states = state_numbers(bits)
    counts = torch.zeros(len(bits), 2 ** bits.shape[2], device=bits.device)
    return counts.scatter_add_(1, states, torch.ones_like(states, dtype=counts.dtype)) / bits.shape[1]
