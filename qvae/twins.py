"""An honest comparison: a model with a circuit beside its twins without one, on the same data, budget and seeds."""

from __future__ import annotations

from pathlib import Path

from qvae.config.schema import Config
from qvae.errors import ConfigError
from qvae.progress import Progress
from qvae.reporting.twins import ARMS, described, folder_of, twin_of, twins_table
from qvae.runs.run import Run
from qvae.study import make
from qvae.workflow import write_page


def train_twins(config: Config, seeds: int, out: Path, progress: Progress | None = None) -> dict[str, list[Run]]:
    """The runs of each arm, one for each seed from that of the configuration on; those that ``out`` holds aren't made again.

    In the end the report of each one shows them all.

    Args:
        config: of a vqvae.
        seeds: how many.
        out: takes a run folder for each, ``ARM-SEED``.
        progress: is told which one is at work.

    Raises:
        ConfigError: the model has no circuit, fewer than one seed is asked for, or ``out`` holds runs of another configuration.
    """
    if config.model.circuit is None:
        raise ConfigError(f"model.kind is {config.model.kind}, which has no circuit to compare; take --model vqvae.")
    if seeds < 1:
        raise ConfigError(f"seeds is {seeds}; it must be 1 or more.")
    progress = progress or Progress()
    without = () if config.model.discrete is None else ("perceptron", "gaussian")
    arms = [arm for arm in ARMS if arm not in (("gaussian",) if config.model.generator == "patch" else without)]
    runs: dict[str, list[Run]] = {arm: [] for arm in arms}
    for seed in range(config.training.seed, config.training.seed + seeds):
        for arm in arms:  # seed by seed: what was cut short compares all arms all the same
            progress.say(f"{described(arm, config)}, seed {seed}")
            runs[arm].append(make(twin_of(config, arm, seed), out / folder_of(arm, seed), progress))
    table = twins_table(runs)
    for run in (run for of_arm in runs.values() for run in of_arm):
        write_page(run, table)
    return runs
