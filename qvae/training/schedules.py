"""How learning rates and the weight of the KL part go with a training's progress."""

from __future__ import annotations

import math

from qvae.config.schema import TrainingConfig
from qvae.training.objective import Clock


def learning_rate_factor(config: TrainingConfig, clock: Clock) -> float:
    """What the configured learning rates are multiplied by: a linear rise, then constant or half a cosine down to 0."""
    factor = warmup_factor(config, clock)
    if config.schedule == "cosine":
        factor *= 0.5 * (1 + math.cos(math.pi * clock.progress))
    return factor


def warmup_factor(config: TrainingConfig, clock: Clock) -> float:
    """The linear rise alone."""
    return min(1.0, (clock.step + 1) / (config.warmup_steps + 1))


def kl_weight(config: TrainingConfig, clock: Clock) -> float:
    """Weight of the KL part: from ``kl_start`` linearly to 1 over the part ``kl_warmup`` of the training."""
    start, warmup = config.kl_start, config.kl_warmup
    return 1.0 if clock.progress >= warmup else start + (1 - start) * clock.progress / warmup
