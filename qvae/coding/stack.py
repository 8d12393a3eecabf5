"""A stack of bits: symbols pushed with a probability take -log2 of it, and popped with one they give as much back."""

from __future__ import annotations

import numpy as np

from qvae.coding.probabilities import probabilities
from qvae.errors import CapabilityError, install_line


class Stack:
    """Asymmetric numeral systems (Duda 2009), by constriction's ``AnsCoder``.

    Push and pop undo each other exactly, on an empty stack, too: popped from random bits, symbols are random.

    Args:
        words: 32-bit words on it at first, uint32; the last one isn't 0.

    Raises:
        CapabilityError: constriction isn't installed.
        ValueError: the last word is 0.
    """

    def __init__(self, words: np.ndarray) -> None:
        try:
            from constriction import stream
        except ImportError:
            raise CapabilityError(f"coding needs constriction: {install_line('compress')}.") from None
        self._coder = stream.stack.AnsCoder(words) if len(words) else stream.stack.AnsCoder()
        self._bernoulli = stream.model.Bernoulli(perfect=False)

    @property
    def num_bits(self) -> int:
        """Its height, not rounded to words."""
        return self._coder.num_valid_bits()

    def words(self) -> np.ndarray:
        """All of it, uint32."""
        return self._coder.get_compressed()

    def push(self, bits: np.ndarray, steps: np.ndarray) -> None:
        """Bits, of any shape, and their logits as whole steps, likewise."""
        self._coder.encode_reverse(bits.ravel().astype(np.int32), self._bernoulli, probabilities(steps).ravel())

    def pop(self, steps: np.ndarray) -> np.ndarray:
        """Bits with these logits, int8, in their shape: what was pushed with the same, or random ones."""
        found = self._coder.decode(self._bernoulli, probabilities(steps).ravel())
        return found.astype(np.int8).reshape(steps.shape)
