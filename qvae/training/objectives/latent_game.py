"""An autoencoder first, then a game about its latents: two objectives in one training, the second on what the first left."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from qvae.config.gan import GanConfig
from qvae.config.schema import TrainingConfig
from qvae.models.autoencoder import Autoencoder
from qvae.models.vqgan import VQGAN
from qvae.training.averaging import retake_batch_norm
from qvae.training.objective import Clock, Objective
from qvae.training.objectives.adversarial import AdversarialObjective
from qvae.training.objectives.gaussian import gaussian_surrogate
from qvae.training.objectives.surrogate import Surrogate
from qvae.training.objectives.variational import VariationalObjective


class LatentGame(Objective):
    """Trains a model's autoencoder for a part of the time, freezes it, and plays the game.

    Args:
        game: of a model whose autoencoder is Gaussian and has learnt nothing yet.
        config: the ``training`` section; both have a course of learning rates of their own.
        gan: the ``model.gan`` section.
        rows: stored training rows (N, D), by which latents are standardised.
    """

    model: VQGAN
    figures = ("plays", *VariationalObjective.figures, *AdversarialObjective.figures)
    shown = {**AdversarialObjective.shown, "reconstruction": ("reconstruction", ".2f"), "kl": ("kl", ".2f")}  # noqa: RUF012
    headline = ("gap", "reconstruction")
    diverged = f"{Objective.diverged[:-1]}; of a game, {AdversarialObjective.diverged.partition('; ')[2]}"

    def __init__(self, game: AdversarialObjective, config: TrainingConfig, gan: GanConfig, rows: Tensor) -> None:
        super().__init__(game.model, game.device)
        self.game, self.share, self.rows = game, gan.autoencoder_share, rows
        positive = partial(_weighted_surrogate, weight=gan.kl_weight)
        self.first = VariationalObjective(game.model.autoencoder(), game.prepare, config, positive)
        self.takes_classes = game.takes_classes
        for part in (self.first, self.game):
            part.listen(self.warn)

    # A step -----------------------------------------------------------------------------------------------------------

    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """A step of the one or the other; figures of the other are 0, and ``plays`` says which it was, 0 or 1."""
        if not self.model.is_frozen and clock.progress >= self.share:
            settle_autoencoder(self.model, self.game, self.rows)
        if self.model.is_frozen:
            found = self.game.step(rows, self._game_clock(clock))
            return torch.cat([found.new_ones(1), found.new_zeros(len(self.first.figures)), found])
        self.began = clock.step + 1
        found = self.first.step(rows[:, :-1] if self.takes_classes else rows, self._first_clock(clock))
        return torch.cat([found.new_zeros(1), found, found.new_zeros(len(self.game.figures))])

    def _first_clock(self, clock: Clock) -> Clock:
        return Clock(clock.step, clock.epoch, min(1.0, clock.progress / self.share))

    def _game_clock(self, clock: Clock) -> Clock:
        return Clock(clock.step, clock.epoch, max(0.0, clock.progress - self.share) / (1 - self.share))

    # Figures ----------------------------------------------------------------------------------------------------------

    def look(self, clock: Clock) -> dict[str, float]:
        """Times of the parts of a step."""
        return self.game.look(clock) if self.model.is_frozen else self.first.look(clock)

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """Those of the autoencoder, of the game, or, in the epoch in which one follows the other, of both."""
        plays = means["plays"]
        row: dict[str, float] = {}
        for objective, share, its_clock in (
            (self.first, 1 - plays, self._first_clock(clock)),
            (self.game, plays, self._game_clock(clock)),
        ):
            if share > 0:
                its_means = {name: means[name] / share for name in objective.figures}
                row |= objective.epoch_figures(its_means, found, its_clock)
        return row

    @property
    def phases(self) -> tuple[float, ...]:
        """That of the autoencoder, and that of the game."""
        return (0.0, self.share)

    @property
    def is_remote(self) -> bool:
        """Whether the circuit is run elsewhere."""
        return self.model.is_frozen and self.game.is_remote

    # Weights ----------------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, nn.Parameter]:
        """The generator's; the autoencoder's last weights are as good as averages, since its learning rate goes to 0."""
        return self.game.parameters()

    def settle(self, model: nn.Module, rows: Tensor, batch_size: int) -> None:
        """Give a model whose autoencoder is still in training the statistics that it needs."""
        assert isinstance(model, VQGAN)
        if not model.is_frozen:
            settle_autoencoder(model, self.game, rows[:, :-1] if self.takes_classes else rows)
        model.eval()

    # State ------------------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """That of the game, and of the autoencoder's training while it lasts."""
        first = {} if self.model.is_frozen else self.first.state_dict()
        first.pop("model", None)  # its modules are the model's
        return {**self.game.state_dict(), "plays": self.model.is_frozen, "began": self.began, "first": first}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        self.game.load_state_dict(state)
        self.began = state.get("began", 0)  # of an older run, whose averages go on as they were
        if state["plays"]:
            self.model.freeze_autoencoder()
        else:
            self.first.load_state_dict({**state["first"], "model": self.first.model.state_dict()})

    def close(self) -> None:
        """Release the executor's connections."""
        self.game.close()


def _weighted_surrogate(
    model: Autoencoder,
    x: Tensor,
    generator: torch.Generator | None,
    bf16: bool,
    exact: bool,
    seen: Tensor | None,
    weight: float,
) -> Surrogate:
    """:func:`gaussian_surrogate` whose KL part counts less."""
    found = gaussian_surrogate(model, x, generator, bf16, exact, seen)
    return Surrogate(found.log_likelihood, weight * found.energy, weight * found.entropy)


@torch.no_grad()
def settle_autoencoder(model: VQGAN, game: AdversarialObjective, rows: Tensor) -> None:
    """Take the statistics of an autoencoder's batch norms, freeze it, and take those of its latents on stored rows (N, D)."""
    generator = torch.Generator(game.device).manual_seed(game.config.seed)
    batches = rows.to(game.device).split(game.config.batch_size)

    def run(batch: Tensor) -> None:
        model.decoder(model.posterior_sample(game.prepare(batch, generator), False, generator).latents)

    training = model.training
    retake_batch_norm(model, batches, run)
    standardise_latents(model, game, rows)
    model.train(training)


@torch.no_grad()
def standardise_latents(model: VQGAN, game: AdversarialObjective, rows: Tensor) -> None:
    """Freeze an autoencoder, and take the statistics of its latents on stored rows (N, D)."""
    model.freeze_autoencoder()
    generator = torch.Generator(game.device).manual_seed(game.config.seed)
    batches = rows.to(game.device).split(game.config.batch_size)
    model.prior.standardise_by(torch.cat([model.reality(game.prepare(batch, generator), generator) for batch in batches]))
