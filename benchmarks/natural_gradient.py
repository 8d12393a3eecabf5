"""The natural gradient: time of its metric, and QN-SPSA beside it as in figure 1(b) of Gacon et al. 2021.

    OMP_NUM_THREADS=2 python benchmarks/natural_gradient.py metric
    OMP_NUM_THREADS=1 python benchmarks/natural_gradient.py figure --trials 25 --steps 300

The figure's task (arXiv:2103.09232): <ZZ> of two of 11 qubits behind RY(pi/4) on all, and four layers of rotations about random
axes with ladders of CZ between; learning rate and perturbation 0.01. Its data aren't published, so that the curves which it
describes are made anew: SPSA beside gradient descent, and QN-SPSA beside the natural gradient, from one start. Gains are
held constant, as there; expectations and overlaps are exact, unless ``--shots`` has Aer measure them.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from math import pi
from statistics import median

import torch
from torch import Tensor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gradients.metric import fubini_study
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import angle_encoding, compose, hardware_efficient
from qvae.circuits.registry import load_executor
from qvae.training.optimizers import QNSPSA, SPSA, QuantumNaturalGradient
from qvae.training.optimizers.solving import conjugate_gradients, solved_by_cholesky

RATE, STEP = 0.01, 0.01
NONE = torch.zeros(1, 0, dtype=torch.float64)


# Time -----------------------------------------------------------------------------------------------------------------


def metric_times(rounds: int = 7) -> None:
    """Seconds of metric and solve, of 100 weights on 10 qubits."""
    circuit = compose(angle_encoding(10), hardware_efficient(10, 5, ("ry", "rz")))
    executor = load_executor("statevector")
    print("| type | rows | metric, s (CPU s) | Cholesky, ms | conjugate gradients, ms |\n|---|---|---|---|---|")
    for dtype in (torch.float32, torch.float64):
        for rows in (1, 8):
            torch.manual_seed(0)
            x, w, gradient = torch.rand(rows, 10, dtype=dtype), torch.rand(100, dtype=dtype), torch.randn(100, dtype=dtype)
            fubini_study(executor, circuit, x, w)  # which plans
            found = [[0.0] * 4 for _ in range(rounds)]
            for times in found:
                started, cpu = time.perf_counter(), time.process_time()
                metric = fubini_study(executor, circuit, x, w)
                times[0], times[1] = time.perf_counter() - started, time.process_time() - cpu
                started = time.perf_counter()
                solved_by_cholesky(metric, gradient, 1e-3)
                times[2], started = 1e3 * (time.perf_counter() - started), time.perf_counter()
                conjugate_gradients(lambda vector, metric=metric: metric @ vector + 1e-3 * vector, gradient)  # type: ignore[misc]
                times[3] = 1e3 * (time.perf_counter() - started)
            wall, cpu, cholesky, cg = (median(column) for column in zip(*found, strict=True))
            name = str(dtype).removeprefix("torch.")
            print(f"| {name} | {rows} | {wall:.2f} ({cpu:.2f}) | {cholesky:.2f} | {cg:.1f} |", flush=True)


# The figure -----------------------------------------------------------------------------------------------------------


def two_design(num_qubits: int, layers: int, seed: int) -> Circuit:
    """RY(pi/4) on all, then rotations about random axes, with CZ of all neighbours between the layers."""
    axes = torch.randint(3, (layers, num_qubits), generator=torch.Generator().manual_seed(seed)).tolist()
    gates = [Gate("ry", (qubit,), (pi / 4,)) for qubit in range(num_qubits)]
    for layer, row in enumerate(axes):
        if layer:
            gates += [Gate("cz", (q, q + 1)) for start in (0, 1) for q in range(start, num_qubits - 1, 2)]
        gates += [Gate(("rx", "ry", "rz")[axis], (q,), (Affine(layer * num_qubits + q),)) for q, axis in enumerate(row)]
    return Circuit(num_qubits, gates, num_parameters=layers * num_qubits)


def curve(layer: CircuitLayer, start: Tensor, marks: list[int], update: Callable[[int], object]) -> Tensor:
    """The exact loss after so many steps."""
    exact = CircuitLayer(layer.circuit, layer.observables).double()
    exact.weight = layer.weight
    with torch.no_grad():
        layer.weight.copy_(start)
    losses = []
    for step in range(marks[-1] + 1):
        if step in marks:
            losses.append(float(exact(NONE).detach()))
        update(step)
    return torch.tensor(losses)


def figure(trials: int, steps: int, qubits: int, shots: int | None, blocking: float, only: str | None) -> None:
    """Losses of the four methods along the way."""
    executor = load_executor("statevector") if shots is None else load_executor("aer", shots=shots, seed=0)
    circuit, observable = two_design(qubits, 4, seed=42), [[("I" * (qubits - 2) + "ZZ", 1.0)]]
    start = torch.rand(circuit.num_weights, generator=torch.Generator().manual_seed(42), dtype=torch.float64)
    layer, exact = (CircuitLayer(circuit, observable, each).double() for each in (executor, None))

    def loss() -> Tensor:
        with torch.no_grad():
            return layer(NONE).sum()

    def by_gradients(optimizer: torch.optim.Optimizer) -> Callable[[int], None]:
        def update(step: int) -> None:
            optimizer.zero_grad()
            exact(NONE).sum().backward()
            optimizer.step()

        return update

    def spsa(trial: int) -> Callable[[int], None]:
        optimizer = SPSA(layer.parameters(), RATE, STEP, seed=trial)

        def update(step: int) -> None:  # Spall's gains undone: constant ones
            optimizer.param_groups[0].update(lr=RATE * (step + 1) ** 0.602, step=STEP * (step + 1) ** 0.101)
            optimizer.step(loss)

        return update

    def qnspsa(trial: int, blocking: float | None = None) -> Callable[[int], object]:
        optimizer = QNSPSA(layer, RATE, STEP, blocking=blocking, seed=trial)
        return lambda step: optimizer.step(loss)

    marks = [mark for mark in (0, 50, 100, 150, 200, 250, 300, 450, 600) if mark <= steps]
    descent = torch.optim.SGD(exact.parameters(), RATE)
    print("| method | " + " | ".join(f"{mark} steps" for mark in marks) + " |\n|" + "---|" * (len(marks) + 1), flush=True)
    for name, optimizer in (("gradient descent", descent), ("natural gradient", QuantumNaturalGradient(exact, RATE))):
        values = curve(exact, start, marks, by_gradients(optimizer))
        print(f"| {name} | " + " | ".join(f"{value:.3f}" for value in values) + " |", flush=True)
    several: dict[str, Callable[[int], Callable[[int], object]]] = {
        "SPSA": spsa,
        "QN-SPSA": qnspsa,
        "QN-SPSA, blocking": lambda trial: qnspsa(trial, blocking),
    }
    for name, make in several.items():
        if only not in (None, name):
            continue
        curves = torch.stack([curve(layer, start, marks, make(trial)) for trial in range(trials)])
        pairs = zip(curves.mean(0), curves.std(0), strict=True)
        print(f"| {name} | " + " | ".join(f"{mean:.3f} ± {spread:.3f}" for mean, spread in pairs) + " |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["metric", "figure"])
    parser.add_argument("--trials", type=int, default=25)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--qubits", type=int, default=11)
    parser.add_argument("--shots", type=int, default=None)
    parser.add_argument("--blocking", type=float, default=0.0, help="how much a step may raise the loss")
    parser.add_argument("--only", default=None, help="one of the methods with trials, as QN-SPSA")
    options = parser.parse_args()
    if options.what == "metric":
        metric_times()
    else:
        figure(options.trials, options.steps, options.qubits, options.shots, options.blocking, options.only)


if __name__ == "__main__":
    main()
