"""The objective of a VQVAE-GAN: beside the bound of log p(x), its reconstructions are to be taken for data by a critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from qvae.config.gan import CriticConfig
from qvae.config.schema import TrainingConfig
from qvae.models.vqvae import VQVAE
from qvae.training.objective import Clock, load_optimizer_state, optimizer_state
from qvae.training.objectives.adversarial import CRITIC_MOMENTS
from qvae.training.objectives.game_losses import critic_backward, generator_backward
from qvae.training.objectives.surrogate import Surrogate
from qvae.training.objectives.variational import PositivePhase, VariationalObjective
from qvae.training.schedules import learning_rate_factor


class SharpenedObjective(VariationalObjective):
    """Maximises the bound less a critic's verdict on reconstructions: Larsen et al. 2016 (arXiv:1512.09300).

    A likelihood of independent pixels is content with the blurred mean of all that a code may stand for, which a critic tells
    from data. It sees means of p(x|z) at fresh draws of z, and rows x, as the encoder does. What is said of the likelihood
    is said of the bound alone.

    Args:
        model: with a critic.
        prepare, config, positive: as of the :class:`VariationalObjective`.
        critic: the ``model.critic`` section.
    """

    model: VQVAE
    figures = (*VariationalObjective.figures, "gap", "slope")
    shown = {**VariationalObjective.shown, "critic_gap": ("critic's gap", ".2f")}  # noqa: RUF012

    def __init__(
        self,
        model: VQVAE,
        prepare: Callable[[Tensor, torch.Generator], Tensor],
        config: TrainingConfig,
        positive: PositivePhase,
        critic: CriticConfig,
    ) -> None:
        super().__init__(model, prepare, config, positive)
        assert model.critic is not None
        self.critic = critic
        self.critic_optimizer = torch.optim.Adam(model.critic.parameters(), lr=0.0, betas=CRITIC_MOMENTS, fused=True)
        self._seen = torch.zeros(2, device=self.device)

    def step(self, rows: Tensor, clock: Clock) -> Tensor:
        """A step of the autoencoder, and a turn of the critic; its gap and slope follow the figures of the bound."""
        factor = learning_rate_factor(self.config, clock)
        self.critic_optimizer.param_groups[0]["lr"] = factor * self.config.critic_learning_rate
        figures = super().step(rows, clock)
        self.critic_optimizer.step()
        return torch.cat([figures, self._seen])

    def _backward(self, x: Tensor, weight: float) -> Surrogate:
        terms = super()._backward(x, weight)
        critic = self.model.critic
        assert isinstance(critic, nn.Module)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.bf16):
            latents = self.model.posterior_sample(x, relaxed=True, generator=self.generator).latents
            output = self.model.decoder(latents).flatten(1).float()
        likelihood = self.model.likelihood
        real, fake = likelihood.features(x), likelihood.features(likelihood.mean(output))
        generator_backward(critic, fake, self.critic.loss, self.critic.weight)
        self._turn_of_critic(real, fake.detach())
        return terms

    def _turn_of_critic(self, real: Tensor, fake: Tensor) -> None:
        score: Any = self.model.critic
        self.critic_optimizer.zero_grad()
        of_real, of_fake, slopes = critic_backward(score, real, fake, self.critic, self.generator)
        self._seen = torch.stack([of_real.mean() - of_fake.mean(), slopes.mean()]).detach()

    def epoch_figures(self, means: Mapping[str, float], found: Mapping[str, float], clock: Clock) -> dict[str, float]:
        """Those of the bound, and of the critic."""
        return {**super().epoch_figures(means, found, clock), "critic_gap": means["gap"], "critic_slope": means["slope"]}

    def state_dict(self) -> dict[str, Any]:
        """That of the bound, and the critic's optimizer."""
        return {**super().state_dict(), "critic_optimizer": optimizer_state(self.critic_optimizer)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there."""
        super().load_state_dict(state)
        load_optimizer_state(self.critic_optimizer, state["critic_optimizer"])
