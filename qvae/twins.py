"""An honest comparison: a model with a circuit beside its twins without one, on the same data, budget and seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from qvae.config.schema import Config
from qvae.errors import ConfigError
from qvae.models.vqgan import VQGAN
from qvae.progress import Progress
from qvae.reporting.page import Table
from qvae.reporting.tables import with_error
from qvae.runs.run import Run
from qvae.study import make

ARMS = {
    "quantum": "the circuit",
    "unentangled": "without gates on two qubits",
    "frozen": "frozen at its first weights",
    "perceptron": "a perceptron of as many parameters",
    "gaussian": "latents straight to the decoder",
}
"""What stands in the circuit's place, by ``model.circuit.arm``. Bowles et al. 2024 (arXiv:2403.07059) show why."""


def train_twins(config: Config, seeds: int, out: Path, progress: Progress | None = None) -> dict[str, list[Run]]:
    """The runs of each arm, one for each seed from that of the configuration on; those that ``out`` holds aren't made again.

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
            folder = out / f"{arm}-{seed}"
            twin = _twin(config, arm, seed)
            progress.say(f"{ARMS[arm]}, seed {seed}")
            runs[arm].append(make(twin, folder, progress))
    return runs


def _twin(config: Config, arm: str, seed: int) -> Config:
    tree = config.model_dump()
    tree["model"]["circuit"]["arm"] = arm
    tree["training"]["seed"] = seed
    if arm in ("perceptron", "gaussian"):
        del tree["executor"], tree["training"]["circuit_learning_rate"], tree["training"]["circuit_gradient"]
    if arm in ("frozen", "perceptron", "gaussian") and config.training.optimizer.is_of_circuits:
        del tree["training"]["optimizer"]  # AdamW, which moves all the rest in the others, too
    return Config.model_validate(tree).trusting(config.trust.words)


def twins_table(runs: dict[str, list[Run]]) -> Table:
    """A row for each arm: mean and standard deviation over seeds, and the time of a step.

    Of a game, which has no likelihood, precision and recall stand in its place.
    """
    rows = [(ARMS[arm], *_figures(of_arm)) for arm, of_arm in runs.items()]
    some = next(iter(runs.values()))
    seeds, merits = len(some), ("precision", "recall") if _is_game(some[0]) else ("log-likelihood", "ELBO")
    header = ("in the circuit's place", *merits, "samples", "reconstructions", "ms a step", "weights there")
    spread = f"{seeds} seeds; ± is the standard deviation over them, for one run." if seeds > 1 else "One seed tells no spread."
    what = "Precision and recall are of samples on a classifier's features" if _is_game(some[0]) else "Nats"
    note = (
        f"{spread} {what}; Frechet distances of samples and of reconstructions by the same decoder, beside which they are to "
        "be read; milliseconds with forward and backward."
    )
    return Table(header, rows, note)


def _figures(runs: Sequence[Run]) -> tuple[str, ...]:
    found = [run.evaluation or {} for run in runs]
    distances = [each.get("frechet", {}).get("distances", {}) for each in found]
    if _is_game(runs[0]):
        lying = [each.get("frechet", {}).get("quality", {}).get("coverage", {}) for each in found]
        merits = [[each.get(name) for each in lying] for name in ("precision", "recall")]
    else:
        likelihoods = [each.get("log_likelihood", each.get("reconstruction")) for each in found]
        merits = [likelihoods, [each.get("elbo") for each in found]]
    columns: list[list[Any]] = [
        *merits,
        [each.get("samples of the prior", {}).get("value") for each in distances],
        [each.get("reconstructions", {}).get("value") for each in distances],
        [_step_milliseconds(run) for run in runs],
    ]
    return (*(_mean_and_spread(values) for values in columns), str(_replaced_weights(runs[0])))


def _is_game(run: Run) -> bool:
    return run.config.model.kind == "vqgan"


def _mean_and_spread(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return "-"
    return with_error(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def _step_milliseconds(run: Run) -> float | None:
    timed = [row for row in run.metrics if row.get("ms_forward") is not None]
    return timed[-1]["ms_forward"] + timed[-1]["ms_backward"] if timed else None


def _replaced_weights(run: Run) -> int:
    """Parameters that learn between latents and decoder, between encoder and bits, or in a generator before its last map."""
    model: Any = run.model
    if isinstance(model, VQGAN):
        return sum(weight.numel() for weight in model.prior.body.parameters() if weight.requires_grad)
    layer = model.circuit
    if layer is not None:
        return layer.weight.numel() if layer.weight.requires_grad else 0
    return sum(weight.numel() for part in list(model.decoder)[:-1] for weight in part.parameters())
