"""A game, watched while it is played: a generator that collapses, or misses data, is told of; one that diverges is ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from qvae.sampling.coverage import Coverage
from qvae.training.metrics import TrainingDiverged
from qvae.training.objective import Clock

_NO_SPREAD = 0.05  # of the data's variance, at which the samples are all but one
_LITTLE = 0.2  # of the data covered, at which most of them are out of reach
_SETTLED = 0.5  # part of the game, before which a generator may still be on its way
_ABSURD_GAP = 1e4  # of scores; that of a smooth critic is about the distance between data and samples, in standard deviations
_REMEDY = "lower training.critic_learning_rate and training.prior_learning_rate, or raise model.critic.penalty_weight"


class GameWatch:
    """Looks at a game at the end of each epoch.

    Args:
        warn: takes the kind of a trouble and a clause about it.
    """

    def __init__(self, warn: Callable[[str, str], None]) -> None:
        self._warn = warn

    def check(self, means: Mapping[str, float], seen: Coverage, clock: Clock) -> None:
        """Say what has gone wrong.

        Args:
            means: an epoch's means of ``gap``, between the critic's scores of data and samples, and of ``spread``, the
                variance of samples over that of data.
            seen: how samples lie among data.
            clock: of the game.

        Raises:
            TrainingDiverged: the critic's scores have run away.
        """
        if abs(means["gap"]) > _ABSURD_GAP:
            scores = f"the critic's scores of data and samples are {means['gap']:.2g} apart (epoch {clock.epoch})"
            raise TrainingDiverged(f"the game has diverged: {scores}; {_REMEDY}, and go on from the last checkpoint.")
        if means["spread"] < _NO_SPREAD:
            self._warn(
                "collapse",
                f"the generator has collapsed: its samples vary {means['spread']:.1%} as much as data (epoch {clock.epoch}); "
                "take more model.critic.steps, or lower training.prior_learning_rate and training.circuit_learning_rate",
            )
        elif seen.coverage < _LITTLE and clock.progress > _SETTLED:
            self._warn(
                "coverage",
                f"the generator misses most of the data: {seen.coverage:.0%} of them have a sample near (epoch {clock.epoch}); "
                "train longer, or take more model.circuit.layers or model.gan.noise",
            )
