"""Amplitude encoding: a vector of 2**n numbers as the amplitudes of n qubits, by a circuit of rotations and CNOTs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn

from qvae.circuits.circuit import Circuit
from qvae.circuits.library.placed import Placed, placed_gates
from qvae.circuits.library.walsh import walsh_hadamard
from qvae.errors import CircuitError

_NORM_TOLERANCE = 1e-4


def amplitude_encoding(num_qubits: int) -> Circuit:
    """The circuit of n qubits that prepares any real state, of 2**n - 1 inputs, which :class:`AmplitudeAngles` tells.

    Qubits are split from the last to the first, each by a rotation for every value of those before it, as a chain of RY and
    CNOTs in Gray's order: Moettoenen et al. 2005 (quant-ph/0407010).

    >>> from qvae.circuits.layer import CircuitLayer
    >>> layer = nn.Sequential(AmplitudeAngles(2), CircuitLayer(amplitude_encoding(2)).double())
    >>> layer(torch.tensor([[0.6, 0.0, 0.0, 0.8]]).double()).round(decimals=3).tolist()
    [[-0.28, -0.28]]
    """
    circuit = placed_gates(num_qubits, _places(num_qubits))
    return replace(circuit, num_inputs=circuit.num_parameters)


class AmplitudeAngles(nn.Module):
    """From vectors of norm 1 to the inputs of :func:`amplitude_encoding`, to be put before its layer; differentiable.

    It is classical work that any executor profits from. Where neighbours that share their first bits are all 0, the state
    doesn't depend on the angles below; derivatives by these amplitudes are then taken as 0.

    Args:
        num_qubits: n, 1 or more.

    Raises:
        CircuitError: there is no qubit, or no whole number of them.
    """

    def __init__(self, num_qubits: int) -> None:
        super().__init__()
        if not isinstance(num_qubits, int) or num_qubits < 1:
            raise CircuitError(f"num_qubits is {num_qubits!r}; it must be a whole number, 1 or more.")
        self.num_qubits = num_qubits

    def forward(self, amplitudes: Tensor) -> Tensor:
        """Angles (..., 2**n - 1) of real amplitudes (..., 2**n), where entry b is that of the bits of b, little-endian.

        Raises:
            CircuitError: they aren't real numbers or not so many, or the sum of their squares isn't 1 to within 1e-4.
        """
        self._check(amplitudes)
        left, right = amplitudes.unflatten(-1, (-1, 2)).unbind(-1)
        levels = []
        while True:
            # Signs stand at the leaves alone: what is split further up are norms.
            levels.append(_in_gray_order(2 * torch.atan2(right, left)))
            if left.shape[-1] == 1:
                return torch.cat(levels[::-1], dim=-1)
            norms = torch.linalg.vector_norm(torch.stack([left, right], -1), dim=-1)
            left, right = norms.unflatten(-1, (-1, 2)).unbind(-1)

    def _check(self, amplitudes: Tensor) -> None:
        size = 2**self.num_qubits
        if not (isinstance(amplitudes, Tensor) and amplitudes.is_floating_point()):
            kind = amplitudes.dtype if isinstance(amplitudes, Tensor) else type(amplitudes).__name__
            raise CircuitError(f"amplitudes are {kind}; they must be a tensor of real floating-point numbers.")
        if amplitudes.ndim == 0 or amplitudes.shape[-1] != size:
            raise CircuitError(
                f"amplitudes have shape {tuple(amplitudes.shape)}; {self.num_qubits} qubits take {size} in a row: "
                "pad them with zeros, or change num_qubits."
            )
        norms = torch.linalg.vector_norm(amplitudes.detach(), dim=-1)
        wrong = ~((norms - 1).abs() <= _NORM_TOLERANCE)  # true of NaN, too
        if wrong.any():
            norm = float(norms[wrong].flatten()[0])
            raise CircuitError(
                f"a vector of amplitudes has the norm {norm:.6g}; it must be 1 to within {_NORM_TOLERANCE}: "
                "torch.nn.functional.normalize makes it so."
            )

    def extra_repr(self) -> str:
        """Its size, for ``print``."""
        return f"num_qubits={self.num_qubits}"


def _places(num_qubits: int) -> Iterator[Placed]:
    for controls in range(num_qubits):
        target = num_qubits - 1 - controls
        for index in range(2**controls):
            yield "ry", (target,)
            if controls:
                # The bit in which the next number of Gray's code differs; after the last, the highest.
                changed = min(((index + 1) & -(index + 1)).bit_length() - 1, controls - 1)
                yield "cx", (target + 1 + changed, target)


def _in_gray_order(angles: Tensor) -> Tensor:
    """Angles of the chain from those wanted for each value j of the controls, (..., 2**k).

    Rotation i comes after the controls in the bits of gray(i) have flipped the target, so the value j sees it with the sign
    (-1)^(bits of j & gray(i)): a Walsh-Hadamard transform, in the order of Gray's code, which is inverted here.
    """
    size = angles.shape[-1]
    index = torch.arange(size, device=angles.device)
    return walsh_hadamard(angles)[..., index ^ index >> 1] / size
