"""Variances of gradients beside published ones, and what remedies make of them.

    python benchmarks/plateaus.py
"""

from __future__ import annotations

from collections.abc import Iterator
from math import pi

import torch

from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.gradients.variance import GradientVariance, exponential_decay, gradient_variance, power_decay
from qvae.circuits.initialisation import FirstLayers, IdentityBlocks, SmallAngles, Start, uniform
from qvae.circuits.library import compose, hardware_efficient
from qvae.circuits.library.costs import global_cost, local_cost
from qvae.circuits.library.placed import placed_gates

SIZES = tuple(range(2, 13))


def product_circuits() -> None:
    """One RX a qubit, uniform angles: the closed forms of Cerezo et al. 2021."""
    print("| qubits | global cost | (1/8)(3/8)^(n-1) | off by | local cost | 1/(8 n^2) | off by |")
    print("|---|---|---|---|---|---|---|")
    everywhere, local = [], []
    for n in SIZES:
        circuit = placed_gates(n, [("rx", (qubit,)) for qubit in range(n)])
        everywhere.append(gradient_variance(circuit, global_cost(n), starts=20_000 if n < 12 else 5000, seed=n))
        local.append(gradient_variance(circuit, local_cost(n), weight=None, starts=2000, seed=n))
        first, second = against(everywhere[-1], (1 / 8) * (3 / 8) ** (n - 1)), against(local[-1], 1 / (8 * n**2))
        print(f"| {n} | {first} | {second} |", flush=True)
    bits, power = exponential_decay(SIZES, everywhere), power_decay(SIZES, local)
    print(f"\nglobal: {bits.rate:.3f} ± {bits.stderr:.3f} bits a qubit")
    print(f"local: power {power.rate:.3f} ± {power.stderr:.3f}\n")


def deep_circuits() -> None:
    """The middle weight of 5 n layers beside random unitaries: one bit a qubit, McClean et al. 2018."""
    sizes, found = (2, 4, 6, 8), []
    print("| qubits | variance | d^2 / (2 (d^2-1) (d+1)) | off by |\n|---|---|---|---|")
    for n in sizes:
        circuit, dim = hardware_efficient(n, 5 * n, entangler="cz"), 2**n
        found.append(gradient_variance(circuit, string(n), weight=circuit.num_weights // 2, starts=200, seed=n))
        print(f"| {n} | {against(found[-1], dim**2 / (2 * (dim**2 - 1) * (dim + 1)))} |", flush=True)
    fit = exponential_decay(sizes[1:], found[1:])
    print(f"\n{fit.rate:.3f} ± {fit.stderr:.3f} bits a qubit from 4 qubits on\n")


def remedies() -> None:
    """Mean squares of derivatives by all weights, at 16 layers and the same gates."""
    print("| start | 4 qubits | 6 qubits |\n|---|---|---|")
    rows: dict[str, list[str]] = {}
    for n in (4, 6):
        for name, circuit, observable, start in remedied(n):
            found = gradient_variance(circuit, observable, weight=None, starts=50, start=start, seed=n)
            rows.setdefault(name, []).append(f"{found.mean_square:.1e}")
    for name, cells in rows.items():
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def remedied(n: int) -> Iterator[tuple[str, Circuit, list[tuple[str, float]], Start]]:
    tilted = Circuit(n, [Gate("ry", (qubit,), (pi / 4,)) for qubit in range(n)])
    blocks = IdentityBlocks(hardware_efficient(n, 2, entangler="cz"), blocks=4)
    circuit = compose(tilted, blocks.circuit)
    yield "uniform angles", circuit, string(n), uniform
    yield "identity blocks", circuit, string(n), blocks
    yield "small angles, 0.05", circuit, string(n), SmallAngles(0.05)
    yield "the first of 16 layers", circuit, string(n), FirstLayers(3 * n)
    shallow = compose(tilted, hardware_efficient(n, 2, entangler="cz"))
    yield "uniform, 2 layers, global cost", shallow, global_cost(n), uniform
    yield "uniform, 2 layers, local cost", shallow, local_cost(n), uniform


def string(n: int) -> list[tuple[str, float]]:
    return [("I" * (n - 2) + "ZZ", 1.0)]


def against(found: GradientVariance, exact: float) -> str:
    return f"{found.variance:.3e} ± {found.stderr:.0e} | {exact:.3e} | {(found.variance - exact) / found.stderr:+.1f}"


if __name__ == "__main__":
    torch.set_num_threads(1)
    product_circuits()
    deep_circuits()
    remedies()
