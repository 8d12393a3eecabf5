"""The quantum natural gradient beside Adam on three textbook problems, with the settings of both tuned alike.

    OMP_NUM_THREADS=1 python benchmarks/gradients/textbook.py     # a minute or two of one core

Steps until the energy is within a goal of the ground state's, from ten random starts. Eight settings of each optimizer, four
rates times two of a second setting, are tried on two other starts. Energies and metrics are exact; circuits are those that a
quantum computer would have to run, by parameter shift and, for the full metric, overlaps. The ground state is diagonalized.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import product
from statistics import mean, median
from typing import NamedTuple

import torch
from torch.optim import Adam, Optimizer

from qvae.circuits.circuit import Circuit
from qvae.circuits.gradients import ParameterShift
from qvae.circuits.gradients.metric import num_overlaps
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import hardware_efficient
from qvae.circuits.library.qaoa import qaoa
from qvae.training.optimizers import QuantumNaturalGradient

STARTS, TUNING_STARTS, STEPS = range(10), range(100, 102), 120
NONE = torch.zeros(1, 0, dtype=torch.float64)
Terms = list[tuple[str, float]]


class Problem(NamedTuple):
    """Energies of a circuit, and how near to the lowest one is near enough."""

    name: str
    circuit: Circuit
    terms: Terms
    goal: float


def string(num_qubits: int, letters: dict[int, str]) -> str:
    return "".join(letters.get(qubit, "I") for qubit in reversed(range(num_qubits)))


def ising_chain(n: int = 4) -> Problem:
    terms = [(string(n, {q: "Z", q + 1: "Z"}), -1.0) for q in range(n - 1)] + [(string(n, {q: "X"}), -1.0) for q in range(n)]
    return Problem(f"critical Ising chain, {n} qubits", hardware_efficient(n, 5, ("ry",)), terms, 0.05)


def hydrogen() -> Problem:
    """At 0.735 angstrom in a minimal basis, by the parity mapping without its two symmetric qubits: Kandala et al. 2017."""
    terms = [("II", -1.052373), ("IZ", 0.397937), ("ZI", -0.397937), ("ZZ", -0.011280), ("XX", 0.180931)]
    return Problem("hydrogen, 2 qubits", hardware_efficient(2, 2, ("ry", "rz")), terms, 1.6e-3)  # chemical accuracy


def ring_cut(n: int = 6) -> Problem:
    """Its cut is found exactly by n / 2 layers: Farhi, Goldstone and Gutmann 2014."""
    terms = [(string(n, {q: "Z", (q + 1) % n: "Z"}), 0.5) for q in range(n)]
    return Problem(f"MaxCut of a ring by QAOA, {n} qubits", qaoa(terms, n // 2), terms, 0.06)


OPTIMIZERS: dict[str, tuple[Callable[..., Optimizer], tuple[float, ...], str, tuple[float, ...]]] = {
    "Adam": (
        lambda layer, rate, beta: Adam(layer.parameters(), rate, betas=(beta, 0.999)),
        (0.03, 0.1, 0.2, 0.4),
        "beta 1",
        (0.9, 0.6),
    ),
    "QNG": (
        lambda layer, rate, damping: QuantumNaturalGradient(layer, rate, damping=damping),
        (0.03, 0.1, 0.2, 0.4),
        "damping",
        (1e-3, 1e-1),
    ),
}


class Run(NamedTuple):
    steps: float  # until the goal, infinite if it wasn't reached
    gap: float
    seconds: float


def run(problem: Problem, ground: float, make: Callable[[CircuitLayer], Optimizer], start: int) -> Run:
    """One training, which ends at the goal."""
    torch.manual_seed(start)
    layer = CircuitLayer(problem.circuit, [problem.terms]).double()
    optimizer = make(layer)
    started = time.process_time()
    for step in range(STEPS + 1):
        optimizer.zero_grad()
        energy = layer(NONE).sum()
        gap = float(energy.detach()) - ground
        if gap < problem.goal or step == STEPS:
            break
        energy.backward()
        optimizer.step()
    return Run(step if gap < problem.goal else float("inf"), gap, time.process_time() - started)


def ground_energy(problem: Problem) -> float:
    letters = {
        "I": torch.eye(2, dtype=torch.complex128),
        "X": torch.tensor([[0, 1], [1, 0]], dtype=torch.complex128),
        "Z": torch.tensor([[1, 0], [0, -1]], dtype=torch.complex128),
    }
    total = torch.zeros(2**problem.circuit.num_qubits, 2**problem.circuit.num_qubits, dtype=torch.complex128)
    for label, coefficient in problem.terms:
        matrix = torch.ones(1, 1, dtype=torch.complex128)
        for letter in label:
            matrix = torch.kron(matrix, letters[letter])
        total += coefficient * matrix
    return float(torch.linalg.eigvalsh(total)[0])


def main() -> None:
    torch.set_num_threads(1)
    print("| problem | weights | optimizer | tuned | goal reached | steps to it | circuits to it | CPU s | gap at the end |")
    print("|---|---|---|---|---|---|---|---|---|")
    for problem in (hydrogen(), ring_cut(), ising_chain()):
        ground, number = ground_energy(problem), problem.circuit.num_weights
        for name, (make, rates, second, values) in OPTIMIZERS.items():

            def tried(setting: tuple[float, float], starts: range, make=make, problem=problem, ground=ground) -> list[Run]:
                return [run(problem, ground, lambda layer: make(layer, *setting), start) for start in starts]

            def cost(setting: tuple[float, float], tried=tried) -> tuple[float, float]:
                found = tried(setting, TUNING_STARTS)
                return mean(min(each.steps, STEPS) for each in found), mean(each.gap for each in found)

            best = min(product(rates, values), key=cost)
            found = tried(best, STARTS)
            steps = median(each.steps for each in found)
            a_step = 1 + ParameterShift().executions(problem.circuit, range(number))
            a_step += num_overlaps(problem.circuit) if name == "QNG" else 0
            reached = sum(each.steps <= STEPS for each in found)
            cells = [
                problem.name,
                str(number),
                name,
                f"rate {best[0]:g}, {second} {best[1]:g}",
                f"{reached}/{len(STARTS)}",
                *((f"{steps:.0f}", f"{steps * a_step:,.0f}") if steps <= STEPS else (f"more than {STEPS}", "-")),
                f"{median(each.seconds for each in found):.2f}",
                f"{median(each.gap for each in found):.2g}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
