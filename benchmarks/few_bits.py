"""Networks of few-bit weights trained as polynomials of bits: how often each way finds the optimum that enumeration knows.

    python benchmarks/few_bits.py --runs 20
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial

import torch

import qvae
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.qubo.minimise import Minimum, minimise_by_sampling, minimise_exhaustively
from qvae.qubo.network import FewBitNetwork
from qvae.qubo.qaoa import minimise_by_qaoa

CASES = (((6, 1), 2, True), ((2, 2, 1), 1, False), ((2, 2, 1), 1, True))


def sampled(loss: PseudoBoolean, seed: int, name: str, strength: float = 0.05) -> Minimum:
    return minimise_by_sampling(loss, qvae.load_sampler(name, seed=seed), strength=strength)


def by_qaoa(loss: PseudoBoolean, seed: int, steps: int) -> Minimum:
    executor = qvae.load_executor("statevector", seed=seed)
    return minimise_by_qaoa(loss, executor, steps=steps, num_samples=100)


def by_chance(loss: PseudoBoolean, seed: int) -> Minimum:
    # Other bits than the teacher's.
    bits = torch.randint(2, (100, loss.num_bits), generator=torch.Generator().manual_seed(10_000 + seed))
    values = loss.values(bits)
    return Minimum.of(values, bits[values.argmin()])


WAYS: dict[str, Callable[[PseudoBoolean, int], Minimum]] = {
    "by chance": by_chance,
    "gibbs, annealed": partial(sampled, name="gibbs"),
    "gibbs, penalties of strength 1.25": partial(sampled, name="gibbs", strength=1.25),
    "dimod": partial(sampled, name="dimod"),
    "QAOA, 3 layers, untrained": partial(by_qaoa, steps=0),
    "QAOA, 3 layers, 30 steps": partial(by_qaoa, steps=30),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=20)
    runs = parser.parse_args().runs
    print("| network | bits | spins | way | runs with the optimum | draws with it | seconds |\n|---|---|---|---|---|---|---|")
    for sizes, bits, bias in CASES:
        problems = []
        for seed in range(runs):
            generator = torch.Generator().manual_seed(seed)
            network = FewBitNetwork(sizes, bits, bias=bias)
            network.bits.copy_(torch.randint(2, (network.num_bits,), generator=generator))
            x = torch.randn(20, sizes[0], generator=generator)
            y = network(x) + 0.3 * torch.randn(20, sizes[-1], generator=generator)
            loss = network.loss(x, y)
            problems.append((seed, loss, minimise_exhaustively(loss)))
        for name, way in WAYS.items():
            if "strength" in name and loss.degree == 2:
                continue
            found, draws, started = 0, 0.0, time.process_time()
            for seed, loss, truth in problems:
                best = way(loss, seed)
                is_optimum = best.value <= truth.value + 1e-9
                found += is_optimum
                draws += best.frequency * is_optimum / runs
            seconds = (time.process_time() - started) / runs
            spins = loss.quadratised().hamiltonian.num_spins
            shape = "-".join(map(str, sizes)) + (", biases" if bias else "")
            counts = f"{found}/{runs} | {draws:.1%} | {seconds:.2f}"
            print(f"| {shape} | {loss.num_bits} | {spins} | {name} | {counts} |", flush=True)


if __name__ == "__main__":
    main()
