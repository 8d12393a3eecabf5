"""Does the Boltzmann prior pay? The same network with an RBM prior and with a tuned factorized one, in one run.

    python benchmarks/priors.py digits --seeds 3
    python benchmarks/priors.py mnist --seeds 1 --set training.max_seconds=600

The factorized prior gets every setting of a small grid and is credited with the one that is best *on the test images*;
the RBM gets the configuration as it stands. Both have the same number of latent bits, epochs and seconds.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import qvae

GRID = {"model.relaxation.temperature": (0.3, 0.6), "training.learning_rate": (1e-3, 3e-3)}


def train(config: str, settings: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        run = qvae.train(qvae.load_config(config, settings), out=Path(folder, "run"))
        assert run.evaluation is not None
        return run.evaluation | {"training_seconds": run.metrics[-1]["seconds"]}


def factorized(config: str, settings: list[str]) -> list[str]:
    bits = qvae.load_config(config, settings).model.latent.num_spins
    return [*settings, "model.latent.graph=edges", f"model.latent.sizes=[{bits}]", "model.latent.edges=[]"]


def tune(config: str, settings: list[str]) -> list[str]:
    """The grid's settings with the best test log-likelihood, seed 0."""
    choices = [[f"{k}={v}" for k, v in zip(GRID, values, strict=True)] for values in itertools.product(*GRID.values())]
    scores = []
    for choice in choices:
        found = train(config, factorized(config, [*settings, *choice]))
        scores.append(found["log_likelihood"])
        print(f"  factorized, {', '.join(choice)}: {scores[-1]:.2f}", flush=True)
    return choices[int(np.argmax(scores))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--chosen", action="append", help="the factorized prior's settings, instead of tuning them")
    parser.add_argument("--out", type=Path, help="write the results here as JSON")
    arguments = parser.parse_args()
    best = arguments.chosen or tune(arguments.config, arguments.settings)
    print("factorized prior tuned to", ", ".join(best))
    results: dict[str, list[dict[str, Any]]] = {"boltzmann": [], "factorized": []}
    for seed in range(arguments.seeds):
        settings = [*arguments.settings, f"training.seed={seed}"]
        results["boltzmann"].append(train(arguments.config, settings))
        results["factorized"].append(train(arguments.config, factorized(arguments.config, [*settings, *best])))
        for name, found in results.items():
            row = found[-1]
            print(
                f"seed {seed}  {name:10s}  log-likelihood {row['log_likelihood']:.2f} ± {row['log_likelihood_stderr']:.2f}  "
                f"ELBO {row['elbo']:.2f}  log Z ± {row['log_z_stderr']:.3f}  {row['training_seconds']:.0f} s",
                flush=True,
            )
    report(results)
    if arguments.out:
        arguments.out.write_text(json.dumps({"factorized_settings": best} | results, indent=2) + "\n")


def report(results: dict[str, list[dict[str, Any]]]) -> None:
    values = {name: np.array([row["log_likelihood"] for row in rows]) for name, rows in results.items()}
    gain = values["boltzmann"] - values["factorized"]
    spread = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else float("nan")
    print(f"gain of the Boltzmann prior: {gain.mean():.2f} nats (± {spread:.2f} over {len(gain)} seeds)")


if __name__ == "__main__":
    main()
