"""A run beside its twins, which have something else in the circuit's place: their configurations, where they are, a table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from qvae.config.paths import settled
from qvae.config.schema import Config
from qvae.errors import QvaeError
from qvae.models.vqgan import VQGAN
from qvae.reporting.page import Table
from qvae.reporting.tables import mean_and_spread
from qvae.runs.folder import EVALUATION, existing_run, run_config
from qvae.runs.run import Run, load_run

ARMS = {
    "quantum": "the circuit",
    "unentangled": "without gates on two qubits",
    "frozen": "frozen at its first weights",
    "perceptron": "a perceptron of as many parameters",
    "gaussian": "latents straight to the decoder",
}
"""What stands in the circuit's place, by ``model.circuit.arm``. Bowles et al. 2024 (arXiv:2403.07059) show why."""


def described(arm: str, config: Config) -> str:
    """What stands in the circuit's place in a twin of a configuration: a generator has noise where others have latents."""
    is_linear = arm == "gaussian" and config.model.kind == "vqgan"
    return "noise straight to the latents, by a linear map" if is_linear else ARMS[arm]


def twin_of(config: Config, arm: str, seed: int) -> Config:
    """The configuration of a run with a circuit, with another arm in its place, and another seed."""
    tree = config.model_dump()
    tree["model"]["circuit"]["arm"] = arm
    tree["training"]["seed"] = seed
    if arm in ("perceptron", "gaussian"):
        del tree["executor"], tree["training"]["circuit_learning_rate"], tree["training"]["circuit_gradient"]
    if arm in ("frozen", "perceptron", "gaussian") and config.training.optimizer.is_of_circuits:
        del tree["training"]["optimizer"]  # AdamW, which moves all the rest in the others, too
    return Config.model_validate(tree).trusting(config.trust.words)


def folder_of(arm: str, seed: int) -> str:
    """The name of a twin's run folder, beside those of the others."""
    return f"{arm}-{seed}"


def twins_beside(run: Run) -> dict[str, list[Run]]:
    """The evaluated twins in the folders beside a run's own, of each arm one for each seed that all these arms have.

    Nothing where there are none of the run's own seed, or the run's folder isn't named as a twin's.
    """
    circuit, seed, beside = run.config.model.circuit, run.config.training.seed, run.path.parent
    if circuit is None or run.path.name != folder_of(circuit.arm, seed):
        return {}
    with suppress(QvaeError):
        base = run_config(existing_run(beside / folder_of("quantum", seed)))
        seeds = {arm: _seeds(beside, base, arm) for arm in ARMS}
        arms = [arm for arm in ARMS if seed in seeds[arm]]
        if circuit.arm in arms and len(arms) > 1:
            shared = sorted(set.intersection(*(seeds[arm] for arm in arms)))
            return {arm: [_opened(run, arm, each) for each in shared] for arm in arms}
    return {}


def _seeds(folder: Path, base: Config, arm: str) -> set[int]:
    """Those whose twin of this arm is there, evaluated, and differs from ``base`` by arm and seed alone."""
    found = {path: path.name.removeprefix(f"{arm}-") for path in folder.glob(f"{arm}-*") if (path / EVALUATION).exists()}
    return {
        int(seed)
        for path, seed in found.items()
        if seed.isdecimal() and run_config(existing_run(path)) == settled(twin_of(base, arm, int(seed)))
    }


def _opened(run: Run, arm: str, seed: int) -> Run:
    path = run.path.parent / folder_of(arm, seed)
    return run if path == run.path else load_run(path, trust=run.config.trust.words)


def twins_table(runs: dict[str, list[Run]]) -> Table:
    """A row for each arm: mean and standard deviation over seeds, and the time of a step.

    Of a game, which has no likelihood, precision and recall stand in its place.
    """
    rows = [(described(arm, of_arm[0].config), *_figures(of_arm)) for arm, of_arm in runs.items()]
    some = next(iter(runs.values()))
    seeds, merits = len(some), ("precision", "recall") if _is_game(some[0]) else ("log-likelihood", "ELBO")
    header = ("in the circuit's place", *merits, "samples", "reconstructions", "ms a step", "weights there")
    spread = f"{seeds} seeds; ± is the standard deviation over them, for one run." if seeds > 1 else "One seed tells no spread."
    what = "Precision and recall are of samples on a classifier's features" if _is_game(some[0]) else "Nats"
    note = (
        f"{spread} {what}; Frechet distances of samples and of reconstructions by the same decoder, beside which they are to "
        f"be read; milliseconds with forward and backward.{_unlike_lengths(runs)}"
    )
    return Table(header, rows, note)


def _unlike_lengths(runs: dict[str, list[Run]]) -> str:
    """A sentence where not all trainings had as many epochs."""
    metrics = (run.metrics for of_arm in runs.values() for run in of_arm)
    epochs = [rows[-1]["epoch"] for rows in metrics if rows]
    if len(set(epochs)) < 2:
        return ""
    return (
        f" The trainings had {min(epochs)} to {max(epochs)} epochs, so that arms can't be compared as they stand: "
        "training.max_seconds or early_stopping cut some short."
    )


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
    return (*(_of_all(values) for values in columns), str(_replaced_weights(runs[0])))


def _is_game(run: Run) -> bool:
    return run.config.model.kind == "vqgan"


def _of_all(values: Sequence[float | None]) -> str:
    """Mean and standard deviation where every run has the figure."""
    known = [value for value in values if value is not None]
    return mean_and_spread(known if len(known) == len(values) else [])


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
