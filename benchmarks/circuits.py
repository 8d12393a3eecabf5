"""A circuit layer's step beside code written by hand for the same circuit, and on random circuits.

    OMP_NUM_THREADS=1 python benchmarks/circuits.py
    OMP_NUM_THREADS=1 python benchmarks/circuits.py --qubits 10 --batch 256 --rounds 100
    OMP_NUM_THREADS=1 python benchmarks/circuits.py --keep-memory

A step is forward and backward, in complex64, to inputs and weights. The two take turns in one process; a ratio is ours over
the step by hand next to it. Errors are the largest, of values and gradients, against float64, gate by gate. Times are CPU
milliseconds. With --keep-memory the allocator keeps what a step frees, as in the process of the command line.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from circuit_cases import Case, Found, kron, largest_error, ours, reference, ring, scattered, step

from qvae.memory import keep_freed_memory


def milliseconds(once: Callable[[], object]) -> float:
    """CPU time of one call."""
    started = time.process_time()
    once()
    return 1e3 * (time.process_time() - started)


def spread(numbers: list[float], form: str = ".2f") -> str:
    """Median (least to largest)."""
    return f"{median(numbers):{form}} ({min(numbers):{form}} to {max(numbers):{form}})"


def by_hand(case: Case, x: torch.Tensor, w: torch.Tensor, dual: torch.Tensor) -> Callable[[], Found]:
    """The step of :func:`circuit_cases.kron`."""
    run, weights = kron(case.qubits), w.clone().requires_grad_()
    return step(lambda x: run(x, weights), x, weights, dual)


def of_layer(case: Case, x: torch.Tensor, w: torch.Tensor, dual: torch.Tensor) -> Callable[[], Found]:
    """The step of ours."""
    layer = ours(case, w)
    return step(layer, x, layer.weight, dual)


def row(case: Case, batch: int, rounds: int, has_kron: bool) -> str:
    """One line of the table."""
    numbers = case.numbers(batch)
    true = reference(case, *numbers)
    steps = [of_layer(case, *numbers), *([by_hand(case, *numbers)] if has_kron else [])]
    errors = [largest_error(once(), true) for once in steps]  # the first call, which plans, isn't counted
    times: list[list[float]] = [[] for _ in steps]
    for _ in range(rounds):
        for found, once in zip(times, steps, strict=True):
            found.append(milliseconds(once))
    cells = [case.title, *(f"{median(found):.2f}" for found in times), *([] if has_kron else ["-"])]
    cells.append(spread([a / b for a, b in zip(*times, strict=True)]) if has_kron else "-")
    return f"| {' | '.join([*cells, ', '.join(f'{error:.0e}' for error in errors)])} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qubits", nargs="+", type=int, default=[8, 10, 12])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-memory", action="store_true")
    options = parser.parse_args()
    if options.keep_memory:
        keep_freed_memory()
    torch.set_num_threads(options.threads)
    print("| circuit | ours, ms | by hand, ms | ratio | errors |\n|---|---|---|---|---|")
    for n in options.qubits:
        print(row(ring(n), options.batch, options.rounds, has_kron=True), flush=True)
    for n in options.qubits:
        print(row(scattered(n), options.batch, options.rounds, has_kron=False), flush=True)


if __name__ == "__main__":
    main()
