"""What helps chains that are stuck: longer burn-in, tempering, annealing on trained priors, error against CPU time.

    OMP_NUM_THREADS=1 python benchmarks/mixing.py
    OMP_NUM_THREADS=1 python benchmarks/mixing.py --training

The first command draws fresh samples: of priors whose truth is known from a reference run with an error bar of its own. The
second trains: a fully visible Boltzmann machine on the graph of such a prior learns the prior's moments in some hundred steps
of Adam, from no couplings on, with the negative phase by the sampler at hand; its moments at the end, measured by a large
population, are compared with those it was to learn.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch
from torch import Tensor

from qvae import load_sampler
from qvae.ising.annealing import bidirectional_annealing
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.measuring.problems import make_problem
from qvae.measuring.truth import Truth, find_truth
from qvae.sampling.sampler import Moments

FRESH: tuple[dict[str, Any], ...] = (
    {"burn_in": 100},
    {"burn_in": 300},
    {"burn_in": 1000},
    {"burn_in": 3000},
    {"tempering": 12, "burn_in": 50},
    {"tempering": 12, "burn_in": 200},
    {"annealing": 1},
    {"annealing": 5},
    {"annealing": 20},
)
TRAINING: tuple[tuple[int, dict[str, Any]], ...] = (
    (256, {"sweeps": 10}),
    (256, {"sweeps": 100}),
    (64, {"tempering": 12, "sweeps": 10}),
    (64, {"tempering": 12, "sweeps": 40}),
    (256, {"annealing": 2, "persistent": False}),
    (256, {"annealing": 5, "persistent": False}),
)
RATE = 0.03


def rms(difference: Tensor) -> float:
    """Root mean square."""
    return float(difference.double().square().mean().sqrt())


def words(options: dict[str, Any]) -> str:
    """Options as the command line of the benchmark takes them."""
    return ",".join(f"{key}={str(value).lower()}" for key, value in options.items())


def one_off(spec: str, truth: Truth, hamiltonian: IsingHamiltonian, chains: int, seeds: int) -> None:
    """Rows of fresh samples: CPU seconds of a call and errors, root mean squares over seeds."""
    exact = truth.moments
    spins_floor, pairs_floor = (math.sqrt(float((1 - m**2).mean()) / chains) for m in (exact.spins, exact.pairs))
    spins_error, pairs_error, _ = truth.rms_errors
    print(f"| {spec} | the reference | {truth.cpu_seconds:.0f} | {spins_error:.4f} | {pairs_error:.4f} | | |")
    print(f"| {spec} | {chains} perfect samples | | {spins_floor:.4f} | {pairs_floor:.4f} | | |")
    for options in FRESH:
        found: list[Moments] = []
        started = time.thread_time()
        for seed in range(seeds):
            sampler = load_sampler("gibbs", seed=seed, persistent=False, **options)
            found.append(sampler.moments(hamiltonian, chains))
        seconds = (time.thread_time() - started) / seeds
        spins = math.sqrt(sum(rms(m.spins - exact.spins) ** 2 for m in found) / seeds)
        pairs = math.sqrt(sum(rms(m.pairs - exact.pairs) ** 2 for m in found) / seeds)
        log_z = "".join(f"{m.info['log_z']:.2f} ± {m.info['log_z_stderr']:.2f} " for m in found if "log_z" in m.info)
        stuck = sum(bool(m.advice) for m in found)
        errors = f"{spins:.4f} | {pairs:.4f}"
        print(f"| {spec} | {words(options)} | {seconds:.2f} | {errors} | {stuck} of {seeds} | {log_z}|", flush=True)
    started = time.thread_time()
    both = bidirectional_annealing(hamiltonian)
    seconds = time.thread_time() - started
    print(f"| {spec} | AIS forward and reverse | {seconds:.2f} | | | | {both.value:.2f} ± {both.stderr:.2f} |", flush=True)


def train(spec: str, truth: Truth, target: IsingHamiltonian, steps: int) -> None:
    """Rows of trainings: CPU milliseconds of a step's negative phase, and how far the model is from what it was to learn."""
    data = [truth.moments.spins.float(), truth.moments.pairs.float()]
    for chains, options in TRAINING:
        sampler = load_sampler("gibbs", seed=0, **options)
        h, J = -torch.atanh(data[0].clamp(-0.99, 0.99)), torch.zeros_like(target.J)
        optimizer = torch.optim.Adam([h, J], betas=(0.9, 0.99))
        seconds, trouble = 0.0, 0
        for step in range(steps):
            started = time.thread_time()
            found = sampler.moments(target.replace(h, J), chains)
            seconds += time.thread_time() - started
            trouble += bool(found.advice)
            # grad(-log likelihood) = <grad E>_data - <grad E>_model
            h.grad, J.grad = data[0] - found.spins, data[1] - found.pairs
            optimizer.param_groups[0]["lr"] = RATE * min(1.0, (steps - step) / (0.6 * steps))
            optimizer.step()
        judge = load_sampler("gibbs", seed=1, annealing=10, persistent=False)
        end = judge.moments(target.replace(h, J), 4000)
        errors = f"{rms(end.spins - data[0]):.4f} | {rms(end.pairs - data[1]):.4f}"
        milliseconds = 1000 * seconds / steps
        print(f"| {spec} | {chains} | {words(options)} | {milliseconds:.1f} | {errors} | {trouble} |", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problem", action="append", help="as of `qvae benchmark samplers`; may be repeated")
    parser.add_argument("--training", action="store_true", help="train instead of drawing fresh samples")
    parser.add_argument("--steps", type=int, default=300, help="of a training")
    parser.add_argument("--chains", type=int, default=1000, help="of fresh samples")
    parser.add_argument("--seeds", type=int, default=3, help="of fresh samples")
    parser.add_argument("--reference", type=float, default=60.0, help="CPU seconds of each reference run")
    arguments = parser.parse_args()
    if arguments.training:
        print("| prior | chains | options | CPU ms a step | means | correlations | calls that say stuck |")
    else:
        print("| prior | options | CPU s | means | correlations | says stuck | log Z |")
    print("|---|---|---|---|---|---|---|")
    for spec in arguments.problem or ("trained-digits", "trained-mnist", "trained-zephyr", "trained-pegasus"):
        hamiltonian = make_problem(spec).hamiltonian
        truth = find_truth(hamiltonian, arguments.reference)
        if arguments.training:
            train(spec, truth, hamiltonian, arguments.steps)
        else:
            one_off(spec, truth, hamiltonian, arguments.chains, arguments.seeds)


if __name__ == "__main__":
    main()
