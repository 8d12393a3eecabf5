"""Does a transverse field help, and at what price? Transverse fields x samplers x seeds, at equal latent size and epochs.

    python benchmarks/quantum_prior.py digits --spins 8 --epochs 60 --seeds 3 --sampler exact --sampler path_integral
    python benchmarks/quantum_prior.py mnist --set data.root=FOLDER --set 'model.latent.sizes=[64,64]' --sampler path_integral

Every run is trained on the Q-ELBO with the field fixed; results are the true ELBO and the Q-ELBO, apart. Samplers that can't
take a field or so many spins are left out where they can't. Finished runs are kept in --out and not trained again.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

import qvae
from qvae.errors import CapabilityError, RunError

GAMMAS = (0.0, 0.5, 1.0, 2.0)


def settings_of(arguments: argparse.Namespace, gamma: float, sampler: str, seed: int) -> list[str]:
    latent = [] if arguments.spins is None else ["model.latent.graph=complete", f"model.latent.sizes=[{arguments.spins}]"]
    epochs = [] if arguments.epochs is None else [f"training.epochs={arguments.epochs}"]
    chosen = [f"sampler.name={sampler}", f"model.latent.gamma={gamma}", f"training.seed={seed}"]
    return [*latent, *epochs, *chosen, "evaluation.tsne_every=0", "evaluation.probes=false", *arguments.settings]


def result(arguments: argparse.Namespace, gamma: float, sampler: str, seed: int) -> dict[str, Any] | None:
    """One run's numbers; None where the sampler can't."""
    folder = arguments.out / f"{arguments.config}-{sampler}-gamma{gamma}-seed{seed}"
    try:
        run = qvae.load_run(folder)
    except RunError:
        try:
            run = qvae.train(qvae.load_config(arguments.config, settings_of(arguments, gamma, sampler, seed)), out=folder)
        except CapabilityError:
            return None
    found = run.evaluation
    assert found is not None
    distances = found["frechet"].get("distances", {})
    return {
        "gamma": gamma,
        "sampler": sampler,
        "seed": seed,
        "elbo": found["elbo"],
        "elbo_stderr": found["elbo_stderr"],
        "q_elbo": found["elbo"] if found["q_elbo"] is None else found["q_elbo"],
        "log_likelihood": found["log_likelihood"],
        "frechet": distances.get("samples of the prior", {}).get("value", float("nan")),
        "seconds": run.metrics[-1]["seconds"],
    }


def over_seeds(rows: Sequence[dict[str, Any]], key: str) -> tuple[float, float]:
    values = np.array([row[key] for row in rows], dtype=float)
    return values.mean(), values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else float("nan")


def table(groups: dict[tuple[str, float], list[dict[str, Any]]]) -> str:
    lines = ["| sampler | gamma | ELBO | Q-ELBO | Frechet distance | training, s | seeds |", "|---|---|---|---|---|---|---|"]
    for (sampler, gamma), rows in groups.items():
        cells = []
        for key, digits in (("elbo", 2), ("q_elbo", 2), ("frechet", 1), ("seconds", 0)):
            mean, error = over_seeds(rows, key)
            cells.append(f"{mean:.{digits}f}" + (f" ± {error:.{digits}f}" if np.isfinite(error) and digits else ""))
        lines.append(f"| {sampler} | {gamma:g} | {' | '.join(cells)} | {len(rows)} |")
    return "\n".join(lines)


def draw(groups: dict[tuple[str, float], list[dict[str, Any]]], file: Path, title: str) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for sampler in dict.fromkeys(sampler for sampler, _ in groups):
        points = [(gamma, rows) for (name, gamma), rows in groups.items() if name == sampler]
        gammas = [gamma for gamma, _ in points]
        for axes, key, style in ((left, "elbo", "o-"), (left, "q_elbo", "x:"), (right, "seconds", "o-")):
            means, errors = np.array([over_seeds(rows, key) for _, rows in points]).T
            colour = f"C{list(dict.fromkeys(s for s, _ in groups)).index(sampler)}"
            label = f"{sampler}{', Q-ELBO' if key == 'q_elbo' else ', ELBO' if key == 'elbo' else ''}"
            axes.errorbar(gammas, means, np.nan_to_num(errors), fmt=style, color=colour, capsize=2, label=label)
    left.set(xlabel="transverse field", ylabel="nats per image", title=title)
    right.set(xlabel="transverse field", ylabel="training, s", title="Price", yscale="log")
    left.legend(loc="lower left", fontsize=7, frameon=False)
    figure.savefig(file, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", nargs="?", default="digits")
    parser.add_argument("--spins", type=int, help="a complete graph of so many spins; else the configuration's latent")
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--gamma", type=float, action="append")
    parser.add_argument("--sampler", action="append")
    parser.add_argument("--set", dest="settings", action="append", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/quantum_prior"))
    arguments = parser.parse_args()
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    cases = itertools.product(arguments.sampler or ["exact"], arguments.gamma or GAMMAS, range(arguments.seeds))
    for sampler, gamma, seed in cases:
        row = result(arguments, gamma, sampler, seed)
        if row is None:
            print(f"{sampler} can't take gamma {gamma:g} here", flush=True)
            continue
        groups.setdefault((sampler, gamma), []).append(row)
        print(f"{sampler} gamma {gamma:g} seed {seed}: ELBO {row['elbo']:.2f}, Q-ELBO {row['q_elbo']:.2f}", flush=True)
    print(table(groups))
    rows = [row for part in groups.values() for row in part]
    (arguments.out / f"{arguments.config}.json").write_text(json.dumps(rows, indent=2) + "\n")
    draw(groups, arguments.out / f"{arguments.config}.png", arguments.config)


if __name__ == "__main__":
    main()
