"""Latent bits under a Boltzmann prior: a chain of bits-back from the prior to fair coins stands in for its log Z.

A Boltzmann machine's probabilities of bits given those before can't be computed, but those of one colour of its graph given
all others can. So a code is led from the prior's distribution to that of fair coins by swaps that a stack of bits can undo: the
bits of one colour are popped anew given the others, which gives bits back, and the old ones are pushed, given the same others.
Between the swaps the inverse temperature falls from 1 to 0. At the end there are n coins to push.

At the inverse temperature b a swap costs b (E(new) - E(old)) nats. Together with the coins that adds up to E(z) + log Z', where
log Z' is what annealed importance sampling, run backwards from z, finds for log Z (Neal 2001; as bits-back: Ruan et al. 2021,
arXiv:2102.11086). On average it finds too much: that is the extra rate, which falls as one over the number of temperatures.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from qvae.coding.probabilities import UNIT
from qvae.coding.stack import Stack
from qvae.errors import CapabilityError
from qvae.ising.hamiltonian import IsingHamiltonian

TEMPERATURES = 128
"""Of the chain: a code of 152 bits, of an RBM of 128 + 128 spins that was trained on MNIST, then takes 2 more."""

_SCALE = 2**16  # logits are whole numbers of its inverse, so that sums are exact, in any order
_EXACT = 2**52  # up to here float64 counts without gaps
_SPARSE = 8  # with fewer than an 8th of all pairs coupled, sparse matrices are quicker


class AnnealedCoder:
    """Pushes and pops codes at about -log2 p(z) bits each; all arithmetic is of whole numbers, the same on any machine.

    Args:
        hamiltonian: of the prior p.
        temperatures: of the chain, in equal steps.

    Raises:
        CapabilityError: there is a transverse field, or couplings are too strong for exact sums.
    """

    def __init__(self, hamiltonian: IsingHamiltonian, temperatures: int = TEMPERATURES) -> None:
        if hamiltonian.is_quantum:
            raise CapabilityError(
                "codes under a prior with a transverse field can't be compressed: its conditional probabilities aren't known; "
                "train with model.latent.gamma=0."
            )
        h, J = (np.rint(-2 * _SCALE * part.detach().double().cpu().numpy()) for part in (hamiltonian.h, hamiltonian.J))
        if temperatures * (np.abs(h).sum() + 2 * np.abs(J).sum()) > _EXACT:
            raise CapabilityError("codes under this prior can't be compressed: its couplings are too strong; train it anew.")
        self.temperatures = temperatures
        self._fields = h[:, None]
        low, high = hamiltonian.edges.T.cpu().numpy()
        ends = np.concatenate([low, high]), np.concatenate([high, low])
        couplings = sparse.csr_matrix((np.concatenate([J, J]), ends), shape=(len(h), len(h)))
        colouring = hamiltonian.graph.colouring.numpy()
        self._blocks = [np.flatnonzero(colouring == colour) for colour in range(colouring.max(initial=-1) + 1)]
        is_sparse = 2 * len(J) * _SPARSE < len(h) ** 2
        self._couplings = [couplings[block] if is_sparse else couplings[block].toarray() for block in self._blocks]

    def push(self, stack: Stack, codes: np.ndarray) -> None:
        """Codes (B, n) of 0 and 1."""
        state = codes.T.astype(np.int8)
        for level in range(self.temperatures, 0, -1):
            for block in range(len(self._blocks)):
                self._swap(stack, state, block, level)
        stack.push(state, np.zeros(state.shape, np.int64))

    def pop(self, stack: Stack, count: int) -> np.ndarray:
        """The ``count`` codes that were pushed together last, (count, n), int8."""
        state = stack.pop(np.zeros((len(self._fields), count), np.int64))
        for level in range(1, self.temperatures + 1):
            for block in reversed(range(len(self._blocks))):
                self._swap(stack, state, block, level)
        return state.T

    def _swap(self, stack: Stack, state: np.ndarray, block: int, level: int) -> None:
        """The bits of one colour for others at an inverse temperature of level / temperatures; a second time takes it back."""
        rows = self._blocks[block]
        logits = self._fields[rows] + self._couplings[block] @ (2.0 * state - 1.0)
        steps = np.floor_divide(level * logits, self.temperatures * (_SCALE // UNIT)).astype(np.int64)
        old = state[rows]
        state[rows] = stack.pop(steps)
        stack.push(old, steps)
