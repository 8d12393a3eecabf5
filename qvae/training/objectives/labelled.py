"""The objective of a QVAE with label units: the Boltzmann objective of rows whose class is given."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor

from qvae.data.classes import with_classes
from qvae.models.autoencoder import Autoencoder
from qvae.models.qvae import QVAE
from qvae.training.objectives.boltzmann import BoltzmannObjective
from qvae.training.objectives.surrogate import Surrogate, surrogate
from qvae.training.objectives.variational import Prepare


class LabelledObjective(BoltzmannObjective):
    """Maximises the surrogate of log p(x, y), and log q(y|x), so that classes can be guessed where they aren't given.

    The negative phase draws the label units with all others: it is of p(z, y).

    Args:
        model: with label units; moved to the device in place.
        prepare: stored rows, without their classes, to what the model sees.
        others: as of :class:`BoltzmannObjective`.
    """

    model: QVAE
    takes_classes = True

    def __init__(self, model: QVAE, prepare: Prepare, *others: Any, **more: Any) -> None:
        super().__init__(model, partial(_prepared, prepare), *others, **more)

    def _terms(self, x: Tensor, generator: torch.Generator) -> Surrogate:
        rows, words = self._with_words(x)
        seen = None if self.corruption is None else self.corruption(rows, generator)
        return surrogate(self.model, rows, generator, self.bf16, self.is_exact, seen, words)

    def _latents(self, model: Autoencoder, x: Tensor, generator: torch.Generator) -> Tensor:
        assert isinstance(model, QVAE)
        rows, words = self._with_words(x)
        seen = rows if self.corruption is None else self.corruption(rows, generator)
        return model.posterior_sample(seen, relaxed=False, generator=generator, words=words).latents

    def _with_words(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Prepared rows (B, D) and the words (B, L) of their classes, of what :func:`_prepared` gives."""
        assert self.model.labels is not None
        return x[:, :-1], self.model.labels.words[x[:, -1].long()]


def boltzmann_objective(model: Autoencoder, *others: Any, **more: Any) -> BoltzmannObjective:
    """The objective of a model with a Boltzmann prior: that of labelled rows where it has label units for them."""
    kind = LabelledObjective if isinstance(model, QVAE) and model.labels is not None else BoltzmannObjective
    return kind(model, *others, **more)  # type: ignore[arg-type]


def _prepared(prepare: Prepare, rows: Tensor, generator: torch.Generator) -> Tensor:
    """What the model sees of stored rows (B, D + 1), and the places of their classes, again in one, (B, D + 1)."""
    return with_classes(prepare(rows[:, :-1], generator), rows[:, -1])
