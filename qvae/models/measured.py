"""Latents that are a circuit's measured bits: the circuit is the posterior, q(z|x) = |<z|psi(x)>|^2."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from qvae.errors import CapabilityError
from qvae.ising.exact import state_numbers
from qvae.models.circuit_block import CircuitBlock


@dataclass
class MeasuredCode:
    """Bits drawn from the circuits of a batch, K of each row side by side, or their relaxation.

    Attributes:
        probabilities: of all basis states, (B, 2**n), differentiable; None where the executor measures shots alone.
        latents: bits, or their relaxation in [0, 1], (B K, n); column q is qubit q.
    """

    probabilities: Tensor | None
    latents: Tensor

    def log_prob(self) -> Tensor:
        """log q(z|x) of bits, (B K,), differentiable in the circuit.

        Raises:
            CapabilityError: the executor measures shots alone.
        """
        found = self.log_probabilities().gather(1, state_numbers(self.latents).view(len(self._exact()), -1))
        return found.flatten()

    def log_probabilities(self) -> Tensor:
        """log q(z|x) of all basis states, (B, 2**n); of those that never occur, a very negative number."""
        exact = self._exact()
        return exact.clamp_min(torch.finfo(exact.dtype).tiny).log()

    def entropy(self) -> Tensor:
        """H(q(z|x)), in nats, (B,), exact."""
        return -(self._exact() * self.log_probabilities()).sum(-1)

    def means(self) -> Tensor:
        """q(z_i = 1|x), (B, n)."""
        exact = self._exact()
        return exact @ basis_bits(self.latents.shape[1]).to(exact)

    def variances(self) -> Tensor:
        """Of each bit, (B, n)."""
        means = self.means()
        return means * (1 - means)

    def _exact(self) -> Tensor:
        if self.probabilities is None:
            raise CapabilityError("this executor knows no exact q(z|x); take one that does, as statevector.")
        return self.probabilities


class MeasuredPosterior(nn.Module):
    """Features to angles, angles to a circuit, and the bits that are measured there.

    Args:
        num_features: F.
        block: whose qubits are the bits.
        temperature: of the relaxation.
    """

    def __init__(self, num_features: int, block: CircuitBlock, temperature: float = 0.5) -> None:
        super().__init__()
        self.preimage = nn.Linear(num_features, block.num_latents)
        self.block, self.num_latents = block, block.circuit.num_qubits
        self.temperature = temperature

    def forward(
        self, features: Tensor, relaxed: bool, generator: torch.Generator | None = None, draws: int = 1
    ) -> MeasuredCode:
        """Bits of features (B, F), or, if ``relaxed``, a Gumbel-softmax of them.

        The relaxation (Jang et al. 2017, Maddison et al. 2017) is one of the whole basis state, y = softmax((log q + g) /
        temperature) with Gumbel's g, which keeps what the bits have in common; a bit is its mean over y. It is biased.
        """
        latents = self.preimage(features).float()
        block = self.block
        if not block.layer.executor.capabilities.exact:
            bits = block.sample(latents.detach(), draws)
            return MeasuredCode(None, bits.flatten(0, 1).to(latents.dtype))
        code = MeasuredCode(block.probabilities(latents), latents)
        table = basis_bits(block.circuit.num_qubits, latents.device).to(latents)
        if relaxed:
            logits = code.log_probabilities().repeat_interleave(draws, dim=0)
            code.latents = torch.softmax((logits + gumbel(logits, generator)) / self.temperature, dim=-1) @ table
        else:
            assert code.probabilities is not None
            drawn = torch.multinomial(code.probabilities.detach(), draws, replacement=True, generator=generator)
            code.latents = table[drawn.flatten()]
        return code


def basis_bits(num_qubits: int, device: torch.device | None = None) -> Tensor:
    """The bits of all basis states, (2**n, n), int64, little-endian.

    >>> basis_bits(2).tolist()
    [[0, 0], [1, 0], [0, 1], [1, 1]]
    """
    return torch.arange(2**num_qubits, device=device).unsqueeze(1) >> torch.arange(num_qubits, device=device) & 1


def gumbel(like: Tensor, generator: torch.Generator | None) -> Tensor:
    """Standard Gumbel noise -log(-log(rho)), of the shape of ``like``."""
    rho = torch.rand(like.shape, generator=generator, device=like.device, dtype=like.dtype)
    tiny = torch.finfo(like.dtype).eps / 2
    return -rho.clamp_(tiny, 1 - tiny).log().neg().log()
