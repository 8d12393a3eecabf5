"""How close the variational Gibbs state comes to the exact one, and how long its training takes.

    OMP_NUM_THREADS=1 python benchmarks/gibbs_ansatz.py
    OMP_NUM_THREADS=1 python benchmarks/gibbs_ansatz.py --spins 10 --trainers simulator --gammas 1 --seeds 1

Complete graphs, h and J normal of standard deviation 0.5, one thread. All figures are of the trained state, without shots.
After the cold start every coefficient of h and J moves by 0.01 in a random direction, kept for ten steps, as in the training
of a prior; the row "warm" is the state after the last step, and its seconds are those of one step.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch

from qvae import IsingHamiltonian
from qvae.circuits.gibbs_ansatz import (
    ExactGibbsState,
    GibbsAnsatz,
    Solution,
    follow_imaginary_time,
    minimise_free_energy,
)
from qvae.ising import graphs
from qvae.ising.exact import exact_distribution

Trainer = Callable[[GibbsAnsatz, IsingHamiltonian, Solution | None], Solution]
TRAINERS: dict[str, Trainer] = {"simulator": minimise_free_energy, "varqite": follow_imaginary_time}


def quality(ansatz: GibbsAnsatz, solution: Solution, hamiltonian: IsingHamiltonian) -> list[float]:
    """KL(exact || ansatz) in nats, 1 - fidelity, and the free energy above the exact one."""
    p, q = exact_distribution(hamiltonian).probabilities, ansatz.probabilities(solution.angles)
    matrix = ansatz.matrix(solution.coefficients)
    exact = ExactGibbsState(matrix)
    gap = float(ansatz.free_energy(solution.angles, matrix)) - exact.free_energy
    return [float((p * (p.log() - q.log())).sum()), 1 - exact.fidelity(ansatz.state(solution.angles)), gap]


def cold_and_warm(train: Trainer, n: int, gamma: float, seed: int, layers: int, steps: int) -> np.ndarray:
    """KL, infidelity, gap, seconds and iterations after the cold start and after the last warm step, (2, 5)."""
    generator = torch.Generator().manual_seed(seed)
    graph = graphs.complete(n)
    h, J = (0.5 * torch.randn(k, generator=generator) for k in (n, graph.num_edges))
    hamiltonian = IsingHamiltonian(h, graph, J, gamma)
    ansatz = GibbsAnsatz(graph, layers)
    started = time.perf_counter()
    solution = train(ansatz, hamiltonian, None)
    seconds = time.perf_counter() - started
    cold = [*quality(ansatz, solution, hamiltonian), seconds, float(solution.iterations)]
    seconds, iterations = 0.0, 0
    for step in range(steps):
        if step % 10 == 0:
            dh, dJ = (0.01 * torch.randn(k, generator=generator).sign() for k in (n, graph.num_edges))
        hamiltonian = hamiltonian.replace(hamiltonian.h + dh, hamiltonian.J + dJ)
        started = time.perf_counter()
        solution = train(ansatz, hamiltonian, solution)
        seconds += time.perf_counter() - started
        iterations += solution.iterations
    warm = [*quality(ansatz, solution, hamiltonian), seconds / steps, iterations / steps]
    return np.array([cold, warm])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spins", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--gammas", type=float, nargs="+", default=[0.0, 0.5, 1.0, 2.0])
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--steps", type=int, default=20, help="warm steps after each cold start")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| trainer | n | gamma | start | KL, mean | KL, worst | 1 - fidelity | free energy gap | seconds | iterations |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for name in arguments.trainers:
        for n in arguments.spins:
            for gamma in arguments.gammas:
                runs = [
                    cold_and_warm(TRAINERS[name], n, gamma, seed, arguments.layers, arguments.steps)
                    for seed in range(arguments.seeds)
                ]
                for start, rows in zip(("cold", "warm"), np.stack(runs, axis=1), strict=True):
                    kl, infidelity, gap, seconds, iterations = rows.mean(0)
                    print(
                        f"| {name} | {n} | {gamma:g} | {start} | {kl:.1e} | {rows[:, 0].max():.1e} | {infidelity:.1e} "
                        f"| {gap:.1e} | {seconds:.3g} | {iterations:.3g} |",
                        flush=True,
                    )


if __name__ == "__main__":
    main()
