"""A training step of a model with a circuit beside those of its twins without one.

    OMP_NUM_THREADS=1 python benchmarks/circuit_step.py mnist-vqvae --set data.root=FOLDER

The arms of ``qvae compare-twins`` take turns in one process, a step each, on the same rows. Times are CPU milliseconds with
forward, backward and update; ratios are over the perceptron's step next to it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

import torch
from circuits import milliseconds, spread

import qvae
from qvae.memory import keep_freed_memory
from qvae.runs.assemble import assemble
from qvae.training.objective import Clock
from qvae.twins import ARMS

BASE = "perceptron"
_FIRST = 10  # rounds that aren't counted


def step_of(arm: str, options: argparse.Namespace) -> Callable[[], object]:
    """A step of a training in its middle."""
    config = qvae.load_config(options.config, [*options.settings, f"model.circuit.arm={arm}"])
    parts = assemble(Path("unused"), config)
    rows = parts.dataset.train[: config.training.batch_size].flatten(1)
    return lambda: parts.objective.step(rows, Clock(step=1000, epoch=2, progress=0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="mnist-vqvae")
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    options = parser.parse_args()
    keep_freed_memory()
    steps = {arm: step_of(arm, options) for arm in ARMS}
    times = [{arm: milliseconds(step) for arm, step in steps.items()} for _ in range(_FIRST + options.rounds)][_FIRST:]
    print("| in the circuit's place | ms a step | ratio |\n|---|---|---|")
    for arm, words in ARMS.items():
        ratios = [row[arm] / row[BASE] for row in times]
        print(f"| {words} | {torch.tensor([row[arm] for row in times]).median():.1f} | {spread(ratios)} |")


if __name__ == "__main__":
    main()
