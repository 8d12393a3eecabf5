"""World-line updates: ours, the floor of their parts measured alone, and D-Wave's path-integral sampler on the same work.

    OMP_NUM_THREADS=1 python benchmarks/path_integral.py
    python benchmarks/path_integral.py --device cuda

The work is 1,000 chains of an RBM of 128 + 128 spins at gamma = 1, 100 updates of every world line; ours has 16 slices of
imaginary time, D-Wave's has none: its world lines are continuous. D-Wave's runs fewer reads, and its time is taken to be
proportional to them. Times are CPU seconds with one thread, else seconds on the clock; the best of the rounds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import Tensor

from qvae.ising.graphs import rbm
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines

SIDE, CHAINS, SLICES, SWEEPS, GAMMA = 128, 1000, 16, 100, 1.0
REPEATS = 100  # of each part alone


def problem(device: str) -> IsingHamiltonian:
    """A random RBM with couplings as large as a trained one's, and mostly one mode."""
    numbers = torch.Generator().manual_seed(0)
    h = 0.3 * torch.randn(2 * SIDE, generator=numbers)
    J = 0.05 * torch.randn(SIDE * SIDE, generator=numbers)
    return IsingHamiltonian(h, rbm(SIDE, SIDE), J, GAMMA).to(device)


class Clock:
    """Seconds of a piece of work: CPU time with one thread, which other processes hardly disturb."""

    def __init__(self, device: str, threads: int) -> None:
        self.cuda = device != "cpu"
        self.now = time.process_time if threads == 1 and not self.cuda else time.perf_counter

    def seconds(self, work: Callable[[], object]) -> float:
        self._finish()
        started = self.now()
        work()
        self._finish()
        return self.now() - started

    def _finish(self) -> None:
        if self.cuda:
            torch.cuda.synchronize()


def parts(lines: WorldLines, bits: Tensor, generator: torch.Generator) -> dict[str, Callable[[], object]]:
    """What one sweep of one part of the chains can't do without, on arrays as large as its own."""
    _, state = next(iter(lines._parts(bits)))
    shape = (SIDE, SLICES, state.shape[2])
    weights, columns, product = torch.randn(SIDE, SIDE), torch.randn(SIDE, SLICES * shape[2]), torch.empty(shape)
    a, b, c = (torch.rand(shape) for _ in range(3))
    weights, columns, product, a, b, c = (x.to(bits.device) for x in (weights, columns, product, a, b, c))

    def pointwise() -> None:
        torch.ne(a, b, out=product)  # kinks
        torch.maximum(a, b, out=product)  # probability of a cut
        torch.ge(a, b, out=product)  # cuts
        torch.addcmul(a, b, c, out=product)  # sums over segments, twice around
        torch.addcmul(a, b, c, out=product)
        torch.sigmoid(a, out=product)
        torch.mul(a, b, out=product)
        torch.lt(a, b, out=product)  # signs
        torch.addcmul(a, b, c, out=product)  # signs to whole segments, twice around
        torch.addcmul(a, b, c, out=product)

    return {
        "matrix products": lambda: torch.mm(weights, columns, out=product.view(SIDE, -1)),
        "random numbers": lambda: torch.rand(shape, generator=generator, out=a),
        "pointwise": pointwise,
    }


def dwave(hamiltonian: IsingHamiltonian, reads: int) -> tuple[Callable[[], None], list[float]]:
    """D-Wave's sampler at equilibrium, and where the energies of its reads go."""
    import dimod
    from dwave.samplers import PathIntegralAnnealingSampler

    fields = dict(enumerate(hamiltonian.h.tolist()))
    couplings = {tuple(edge): J for edge, J in zip(hamiltonian.edges.tolist(), hamiltonian.J.tolist(), strict=True)}
    bqm, energies = dimod.BinaryQuadraticModel(fields, couplings, 0.0, "SPIN"), []

    def run() -> None:
        found = PathIntegralAnnealingSampler().sample(
            bqm,
            num_reads=reads,
            num_sweeps=SWEEPS,
            beta_schedule_type="custom",
            Hp_field=[1.0] * SWEEPS,
            Hd_field=[GAMMA] * SWEEPS,
            Gamma=1.0,
            seed=len(energies) + 1,
        )
        energies.extend(found.record.energy.tolist())

    return run, energies


def mean_and_error(energies: Tensor) -> str:
    return f"{float(energies.mean()):.2f} ± {float(energies.std()) / len(energies) ** 0.5:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dwave-reads", type=int, default=10)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock, hamiltonian = Clock(options.device, options.threads), problem(options.device)
    generator = torch.Generator(options.device).manual_seed(0)
    lines = WorldLines(hamiltonian, SLICES)
    bits = lines.random_state(CHAINS, generator)
    alone = parts(lines, bits, generator)
    size = next(iter(lines._parts(bits)))[1].shape[2]
    pieces = 2 * SWEEPS * CHAINS / size  # colours x sweeps x parts of the chains
    theirs, their_energies = dwave(hamiltonian, options.dwave_reads)
    lines.sweep(bits, 2, generator)
    times: dict[str, list[float]] = {}
    # In turns, so that a drift of the machine hits all of them.
    for _ in range(options.rounds):
        times.setdefault("ours", []).append(clock.seconds(lambda: lines.sweep(bits, SWEEPS, generator)))
        for name, work in alone.items():
            some = clock.seconds(lambda work=work: [work() for _ in range(REPEATS)])
            times.setdefault(name, []).append(some * pieces / REPEATS)
        times.setdefault("dwave", []).append(clock.seconds(theirs) * CHAINS / options.dwave_reads)
    best = {name: min(found) for name, found in times.items()}
    floor = sum(best[name] for name in alone)
    print(f"{CHAINS} chains x {2 * SIDE} spins x {SWEEPS} sweeps, {options.device}, {options.threads} thread(s)")
    print(f"ours, {SLICES} slices                  {best['ours']:8.2f} s")
    for name in alone:
        print(f"  {name + ' alone':<26}{best[name]:8.2f} s")
    print(f"  floor, their sum          {floor:8.2f} s   ours is {best['ours'] / floor:.2f} times that")
    print(f"PathIntegralAnnealingSampler{best['dwave']:8.2f} s   {best['dwave'] / best['ours']:.1f} times ours;", end=" ")
    print(f"extrapolated linearly from {options.dwave_reads} reads, on one core of the processor")
    ours = hamiltonian.energy(lines.to_spins(bits))
    print(f"mean classical energy: ours {mean_and_error(ours)}, theirs {mean_and_error(torch.tensor(their_energies))}")


if __name__ == "__main__":
    main()
