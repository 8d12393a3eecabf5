"""The objective of a game: a critic learns to tell latents of data from samples, and a generator to be taken for data."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from qvae.circuits.gradients import GradientEstimator
from qvae.config.gan import CriticConfig
from qvae.config.schema import TrainingConfig
from qvae.models.critic import with_class
from qvae.models.vqgan import VQGAN
from qvae.sampling.closing import close
from qvae.sampling.coverage import Coverage, coverage
from qvae.training import ranks
from qvae.training.clipping import clip_gradients
from qvae.training.devices import choose_device
from qvae.training.laps import Laps
from qvae.training.objective import Clock, Objective, load_optimizer_state, optimizer_state
from qvae.training.objectives.game_losses import critic_backward, generator_backward, generator_loss
from qvae.training.objectives.game_watch import GameWatch
from qvae.training.objectives.undo import Undo
from qvae.training.schedules import warmup_factor

CRITIC_MOMENTS = (0.0, 0.9)
"""Of Adam: with momentum two players circle each other (Gulrajani et al. 2017, Mescheder et al. 2018)."""
_MEASURE = ("precision", "recall", "density", "coverage")


class AdversarialObjective(Objective):
    """Critic and generator take their turns, each by an Adam of its own; the autoencoder is as it is.

    The critic moves in every step, the generator in the first of each ``steps``; where both do, by gradients at the same
    weights. The averaged weights are the generator's.

    Args:
        model: whose latents are standardised; moved to the device in place.
        prepare: stored rows to what the model sees, with a generator: :meth:`qvae.data.dataset.Dataset.prepare_in_training`.
        config: the ``training`` section.
        critic: the ``model.critic`` section.
        reference: some stored training rows, with their classes as those of a step, that samples are compared with.
    """

    model: VQGAN
    figures = ("gap", "slope", "generator", "spread")
    shown = {  # noqa: RUF012
        "gap": ("critic's gap", ".2f"),
        "slope": ("slope", ".2f"),
        "precision": ("precision", ".2f"),
        "recall": ("recall", ".2f"),
        "coverage": ("coverage", ".2f"),
    }
    headline = ("gap",)
    diverged = (
        "the game is no longer about finite numbers; lower training.critic_learning_rate and training.prior_learning_rate, or "
        "raise model.critic.penalty_weight, and go on from the last checkpoint."
    )

    def __init__(
        self,
        model: VQGAN,
        prepare: Callable[[Tensor, torch.Generator], Tensor],
        config: TrainingConfig,
        critic: CriticConfig,
        reference: Tensor,
    ) -> None:
        super().__init__(model, choose_device(config.device))
        self.prepare, self.config, self.critic, self.reference = prepare, config, critic, reference
        self.takes_classes = bool(model.prior.classes)
        self.generator = torch.Generator(self.device).manual_seed(ranks.seed(config.seed))
        layers = model.prior.circuits
        self.executor = layers[0].executor if layers else None
        of_layers = {id(layer.weight) for layer in layers}
        self._networks = [weight for weight in model.prior.parameters() if id(weight) not in of_layers]
        learned = [layer.weight for layer in layers if layer.weight.requires_grad]
        parts = [(self._networks, config.prior_learning_rate), (learned, config.circuit_learning_rate)]
        self._peaks = [rate for weights, rate in parts if weights]
        self.optimizer = torch.optim.Adam(
            [{"params": weights} for weights, _ in parts if weights], lr=0.0, betas=CRITIC_MOMENTS, fused=True
        )
        self.critic_optimizer = torch.optim.Adam(model.critic.parameters(), lr=0.0, betas=CRITIC_MOMENTS, fused=True)
        self._undo = Undo(self.generator, model.critic)
        self.watch = GameWatch(self.warn)
        self._laps = Laps(self.device)

    # A step -----------------------------------------------------------------------------------------------------------

    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """A turn of the critic, and of the generator if it is due.

        Figures are means over the batch: the gap between the critic's scores of data and samples, its slope where that is
        penalised, the generator's loss, and the variance of samples over that of data.
        """
        generator_moves = clock.step % self.critic.steps == 0
        with self._undo.on_failure():
            self._laps.start(clock.step)
            self._set_learning_rates(clock)
            real, classes = self.real(rows, self.generator)
            noise = self.model.prior.draw_noise(len(real), self.generator)
            with torch.set_grad_enabled(generator_moves):
                fake = self.model.prior(noise, classes)
            self._laps.lap("ms_forward")
            if generator_moves:
                self._generator_backward(fake, classes)
            figures = self._critic_backward(real, fake.detach(), classes)
            moving = [self.critic_optimizer, *([self.optimizer] if generator_moves else [])]
            ranks.average_gradients(weight for each in moving for group in each.param_groups for weight in group["params"])
            self._laps.lap("ms_backward")
        if self.config.clip_norm is not None:
            clip_gradients(self._networks, self.config.clip_norm)
            clip_gradients(self.model.critic.parameters(), self.config.clip_norm)
        if generator_moves:
            self.optimizer.step()
        self.critic_optimizer.step()
        self._laps.lap("ms_optimizer")
        return figures

    def real(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor | None]:
        """Standardised latents (B, n) of stored rows, and their classes (B, K), each a one among zeros."""
        classes = None
        if self.takes_classes:
            rows, classes = rows[:, :-1], F.one_hot(rows[:, -1].long(), len(self.model.prior.classes)).float()
        return self.model.prior.standardised(self.model.reality(self.prepare(rows, generator), generator)), classes

    def _generator_backward(self, fake: Tensor, classes: Tensor | None) -> None:
        self.optimizer.zero_grad()
        generator_backward(self.model.critic, with_class(fake, classes), self.critic.loss)

    def _critic_backward(self, real: Tensor, fake: Tensor, classes: Tensor | None) -> Tensor:
        def score(rows: Tensor) -> Tensor:
            return self.model.critic(with_class(rows, classes))

        self.critic_optimizer.zero_grad()
        of_real, of_fake, slopes = critic_backward(score, real, fake, self.critic, self.generator)
        with torch.no_grad():
            gap, loss = of_real.mean() - of_fake.mean(), generator_loss(of_fake, self.critic.loss)
            spread = fake.var(0).mean() / real.var(0).mean().clamp(min=1e-12)
            return torch.stack([gap, slopes.mean(), loss, spread])

    def _set_learning_rates(self, clock: Clock) -> None:
        """Constant, whatever the schedule: averaging settles the generator, which a slow critic would lead astray."""
        factor = warmup_factor(self.config, clock)
        for group, peak in zip(self.optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = factor * peak
        self.critic_optimizer.param_groups[0]["lr"] = factor * self.config.critic_learning_rate

    # Figures ----------------------------------------------------------------------------------------------------------

    def look(self, clock: Clock) -> dict[str, float]:
        """Times of the parts of a step."""
        return self._laps.medians()

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """The figures, and how samples lie among the reference; says it when the game goes wrong.

        Raises:
            TrainingDiverged: the critic's scores have run away.
        """
        seen = self.measure()
        self.watch.check(means, seen, clock)
        measured = {name: value for name, value in asdict(seen).items() if name in _MEASURE}
        return {**means, **measured, "learning_rate": self.optimizer.param_groups[0]["lr"], **found}

    @torch.no_grad()
    def measure(self) -> Coverage:
        """How samples of the generator as it is lie among latents of the reference."""
        generator = torch.Generator(self.device).manual_seed(0)  # the same draws each time
        real, classes = self.real(self.reference.to(self.device), generator)
        return coverage(real, self.model.prior(self.model.prior.draw_noise(len(real), generator), classes))

    @property
    def is_remote(self) -> bool:
        """Whether the circuit is run elsewhere."""
        return self.executor is not None and self.executor.capabilities.remote

    # State ------------------------------------------------------------------------------------------------------------

    def parameters(self) -> dict[str, nn.Parameter]:
        """The generator's."""
        return {f"prior.{name}": weight for name, weight in self.model.prior.named_parameters()}

    def state_dict(self) -> dict[str, Any]:
        """Model, both optimizers and generators."""
        return {
            "model": self.model.state_dict(),
            "optimizer": optimizer_state(self.optimizer),
            "critic_optimizer": optimizer_state(self.critic_optimizer),
            "generator": self.generator.get_state(),
            "executor": {} if self.executor is None else self.executor.state_dict(),
            "circuit_gradient": {} if self._gradient is None else self._gradient.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there, every generator included."""
        self.model.load_state_dict(state["model"])
        load_optimizer_state(self.optimizer, state["optimizer"])
        load_optimizer_state(self.critic_optimizer, state["critic_optimizer"])
        self.generator.set_state(state["generator"])
        if self.executor is not None and state.get("executor"):
            self.executor.load_state_dict(state["executor"])
        if self._gradient is not None and state.get("circuit_gradient"):
            self._gradient.load_state_dict(state["circuit_gradient"])

    @property
    def _gradient(self) -> GradientEstimator | None:
        return None if self.model.circuit is None else self.model.circuit.gradient

    def close(self) -> None:
        """Release the executor's connections."""
        if self.executor is not None:
            close(self.executor, lambda text: self.warn("close", text))
