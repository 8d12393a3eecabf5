"""Label units: latent bits that carry a row's class, given in training, guessed where it isn't known, held to generate one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.errors import CapabilityError, nearest
from qvae.models.posterior import BernoulliCode

Coding = Literal["one-hot", "binary"]

_CERTAIN = 40.0  # a logit whose probability float32 can't tell from 0 or 1


@dataclass
class ToldCode(BernoulliCode):
    """Latents whose last bits were given: their logits are those of certainty, so that they have no entropy.

    Attributes:
        guess: log q(y|x) that the posterior gave to these bits, (B,).
    """

    guess: Tensor


class LabelUnits(nn.Module):
    """Code words of classes, which stand on the last bits of the latents.

    Args:
        classes: labels, in ascending order.
        coding: one-hot, a bit for each class; binary, the class's place as a number, little-endian, on as few bits as hold it.

    Attributes:
        words: bits of each class, (C, L).

    Raises:
        ValueError: there are no classes.

    >>> LabelUnits((3, 5, 7), "binary").words.tolist()
    [[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    """

    words: Tensor

    def __init__(self, classes: tuple[int, ...], coding: Coding) -> None:
        super().__init__()
        if not classes:
            raise ValueError("latent.label_units is set, but there are no labels of the training rows; leave it out")
        self.classes = classes
        self.register_buffer("words", _words(len(classes), coding), persistent=False)

    @property
    def size(self) -> int:
        """Number of label units L."""
        return self.words.shape[1]

    def word(self, label: int) -> Tensor:
        """Bits (L,) of a label.

        Raises:
            CapabilityError: there is no class of this label.
        """
        if label not in self.classes:
            raise CapabilityError(f"there is no class {label}: {nearest(str(label), map(str, self.classes))}.")
        return self.words[self.classes.index(label)]

    def told(self, code: BernoulliCode, words: Tensor) -> ToldCode:
        """A code whose label bits are these ``words`` (B, L)."""
        free, guessed = code.logits.split([code.logits.shape[1] - self.size, self.size], 1)
        guess = -F.binary_cross_entropy_with_logits(guessed, words.to(guessed), reduction="none").sum(1)
        logits = torch.cat([free, _CERTAIN * (2 * words.to(free) - 1)], 1)
        latents = torch.cat([code.latents[:, : -self.size], words.to(code.latents)], 1)
        return ToldCode(logits, latents, guess)


def _words(count: int, coding: Coding) -> Tensor:
    if coding == "one-hot":
        return torch.eye(count)
    bits = max(1, (count - 1).bit_length())
    return (torch.arange(count).unsqueeze(1) >> torch.arange(bits) & 1).float()
