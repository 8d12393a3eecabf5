"""Estimators of a circuit's gradient at the same number of shots: how far each is from the exact one.

    OMP_NUM_THREADS=1 python benchmarks/gradient_estimators.py

A gradient of all weights of a hardware-efficient circuit, of <ZZI..> at random weights. Shots are all that a gradient takes
together, whichever circuits they are of; the error is the root mean square over draws, of the whole vector, over the exact
vector's length. Perturbations are 0.1; the shot budget has seen three gradients before.
"""

from __future__ import annotations

import argparse

import torch
from qvae_backends.statevector import StatevectorExecutor
from torch import Tensor

from qvae.circuits.circuit import Circuit
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gradients import SPSA, ClassicalShadows, GradientEstimator, HadamardTest, ParameterShift, ShotBudget
from qvae.circuits.library import hardware_efficient


class Measured(StatevectorExecutor):
    """Bits drawn from exact probabilities."""

    capabilities = ExecutorCapabilities()
    _weighted_expectations = Executor._weighted_expectations


def estimators(circuit: Circuit, shots: int) -> dict[str, tuple[GradientEstimator, int]]:
    """Each with the shots of one of its circuits."""
    number = circuit.num_parameters
    return {
        "parameter shift": (ParameterShift(), shots // (2 * number)),
        "shot budget": (ShotBudget(shots), 1),
        "Hadamard tests": (HadamardTest(), shots // number),
        "SPSA, one direction": (SPSA(seed=0), shots // 2),
        "SPSA, as many as weights": (SPSA(number, seed=0), shots // (2 * number)),
        "classical shadows": (ClassicalShadows(shots, seed=0), 1),
    }


def error(estimator: GradientEstimator, shots: int, circuit: Circuit, weights: Tensor, exact: Tensor, draws: int) -> float:
    """Of gradients of so many rows, relative."""
    executor, observables = Measured(seed=1), [[("I" * (circuit.num_qubits - 2) + "ZZ", 1.0)]]
    executor.shots = shots
    rows, dual = weights.expand(draws, -1), torch.ones(draws, 1, dtype=weights.dtype)
    wanted = range(circuit.num_parameters)
    for _ in range(3 if isinstance(estimator, ShotBudget) else 0):
        estimator.gradients(executor, circuit, rows[:1], observables, dual[:1], wanted)
    found = estimator.gradients(executor, circuit, rows, observables, dual, wanted)
    return float((found - exact).square().sum(1).mean().sqrt() / exact.norm())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qubits", type=int, default=4)
    parser.add_argument("--layers", type=int, default=3)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--shots", nargs="+", type=int, default=[2_000, 20_000])
    options = parser.parse_args()
    circuit = hardware_efficient(options.qubits, options.layers, ("ry", "rz"))
    weights = torch.rand(1, circuit.num_parameters, generator=torch.Generator().manual_seed(3), dtype=torch.float64) * 3
    leaf = weights.clone().requires_grad_()
    observables = [[("I" * (options.qubits - 2) + "ZZ", 1.0)]]
    (exact,) = torch.autograd.grad(StatevectorExecutor().expectations(circuit, leaf, observables).sum(), leaf)
    print(f"{options.qubits} qubits, {circuit.num_parameters} weights\n")
    print(f"| estimator | {' | '.join(f'{shots:,} shots' for shots in options.shots)} |")
    print(f"|{'---|' * (1 + len(options.shots))}")
    for name in estimators(circuit, options.shots[0]):
        errors = [
            error(*estimators(circuit, shots)[name], circuit, weights, exact, options.draws) for shots in options.shots
        ]
        print(f"| {name} | {' | '.join(f'{each:.3f}' for each in errors)} |", flush=True)


if __name__ == "__main__":
    main()
