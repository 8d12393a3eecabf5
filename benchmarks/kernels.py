"""Hot paths of our samplers against their floors, against dwave-samplers' annealer, and how their cost grows.

    OMP_NUM_THREADS=1 python benchmarks/kernels.py
    OMP_NUM_THREADS=1 python benchmarks/kernels.py --scaling --figure scaling.png
    python benchmarks/kernels.py --speed-up --threads 2 --rounds 30
    python benchmarks/kernels.py --device cuda

The floor is the sum of what a sweep can't do without, each measured alone in the same run. With numba's kernels: a product of
matrices with as many multiplications (one for every coupling and chain, where neighbours are gathered; two, of digits in int8,
where sweeps multiply these), and a draw for each bit as in a sweep of spins without couplings. With torch's
(QVAE_KERNELS=torch, CUDA), on arrays as large: products, or sums over neighbours, random numbers (16 bits each; a float each
for path integrals), and pointwise work (a sigmoid and a comparison for each bit; the ten steps of a cluster update). Times are
CPU milliseconds with one thread, else milliseconds on the clock; the best of the rounds, which take turns, so that a drift of
the machine hits all of them.

The annealer (held at beta = 1, or annealed to it for half of its sweeps) and ours make equally many sweeps from random spins;
their moments' errors, root mean square over all means and correlations, are against a long run in float32. What perfect
samples would show is given beside them.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from path_integral import GAMMA, SLICES, Clock, parts
from torch import Tensor

from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.graphs import Graph, edge_list, pegasus, rbm, zephyr
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.products import multiplies_int8
from qvae.ising.world_lines import WorldLines
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Moments, Samples

CHAINS = (256, 1000)
SWEEPS, LINE_SWEEPS = 20, 5
PEER_SWEEPS = 100
REFERENCE_CALLS, REFERENCE_CHAINS = 40, 2000

Work = Callable[[], object]


def problem(graph: Graph, device: str, coupling: float = 0.1, gamma: float = 0.0) -> IsingHamiltonian:
    """Random fields and couplings with mostly one mode."""
    numbers = torch.Generator().manual_seed(0)
    h = 0.3 * torch.randn(graph.num_spins, generator=numbers)
    J = coupling * torch.randn(graph.num_edges, generator=numbers)
    return IsingHamiltonian(h, graph, J, gamma).to(device)


# Floors ---------------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    """One hot path: ``SWEEPS`` sweeps of it, and as many sweeps' worth of each part alone."""

    name: str
    chains: int
    sweeps: Work
    alone: dict[str, Work]


def repeated(work: Work, times: int = 1) -> Work:
    return lambda: [work() for _ in range(times * SWEEPS)]


def compiled_parts(gibbs: BlockGibbs, couplings: int, bits: int) -> dict[str, Work]:
    """As many multiplications as there are couplings, at the pace of dense matrices, and a draw for each of some bits."""
    assert gibbs.fused is not None
    of_digits = gibbs.fused.factors is not None and multiplies_int8()
    side, rows, most = 128, 256, 512
    columns = -(-couplings // side**2)
    times = -(-columns // most)
    left, right = torch.rand(side, side), torch.rand(side, -(-columns // times))
    product, multiply, generator = torch.empty(side, right.shape[1]), torch.mm, torch.Generator().manual_seed(0)
    if of_digits:  # two of each weight
        left, right, multiply = left.repeat(2, 1).to(torch.int8), right.to(torch.int8), torch._int_mm
        product = torch.empty(2 * side, right.shape[1], dtype=torch.int32)
    free = BlockGibbs(IsingHamiltonian(torch.zeros(rows), Graph(rows, []), []))
    state = free.random_state(-(-bits // rows), generator).to(free.quickest)
    return {
        "products": repeated(lambda: multiply(left, right, out=product), times),
        "draws": lambda: free.sweep(state, SWEEPS, generator),
    }


def gibbs_case(name: str, graph: Graph, chains: int, device: str) -> Case:
    gibbs = BlockGibbs(problem(graph, device))
    generator = torch.Generator(device).manual_seed(0)
    state = gibbs.random_state(chains, generator).to(gibbs.quickest)
    if gibbs.fused is not None:
        alone = compiled_parts(gibbs, 2 * graph.num_edges * chains, graph.num_spins * chains)
        return Case(name, chains, lambda: gibbs.sweep(state, SWEEPS, generator), alone)
    words = torch.empty(graph.num_spins * chains // 4, dtype=torch.int64, device=device)
    logits, uniform = (torch.rand(state.shape, device=device) for _ in range(2))
    room = torch.empty_like(state)

    def products() -> None:
        for block, (b, weights) in enumerate(zip(gibbs._blocks, gibbs._weights, strict=True)):
            neighbours = state[b.low : b.high]
            if gibbs._dense:
                torch.mm(weights.to(state.dtype), neighbours, out=room[gibbs.rows(block)])
            else:
                columns, starts = gibbs._bags[block]
                torch.nn.functional.embedding_bag(
                    columns, neighbours, starts, mode="sum", per_sample_weights=weights, include_last_offset=True
                )

    def pointwise() -> None:
        for block in range(gibbs.num_blocks):
            rows = gibbs.rows(block)
            torch.sigmoid(logits[rows], out=logits[rows])
            torch.lt(uniform[rows], logits[rows], out=logits[rows])

    alone = {
        "products": repeated(products),
        "random numbers": repeated(lambda: words.random_(-(2**63), None, generator=generator)),
        "pointwise": repeated(pointwise),
    }
    return Case(name, chains, lambda: gibbs.sweep(state, SWEEPS, generator), alone)


def path_integral_case(chains: int, device: str) -> Case:
    generator = torch.Generator(device).manual_seed(0)
    lines = WorldLines(problem(rbm(128, 128), device, 0.05, GAMMA), SLICES)
    bits, name = lines.random_state(chains, generator), "path integral, RBM 128 + 128, 16 slices"
    if lines.gibbs.fused is not None:
        alone = compiled_parts(lines.gibbs, 2 * lines.gibbs.graph.num_edges * SLICES * chains, bits.numel())
        return Case(name, chains, lambda: lines.sweep(bits, SWEEPS, generator), alone)
    size = next(iter(lines._parts(bits)))[1].shape[2]
    # Two colours, and as many parts of the chains as are updated one after the other.
    whole, rest = divmod(2 * chains, size)
    alone = {"products" if name == "matrix products" else name: work for name, work in parts(lines, bits, generator).items()}
    alone = {part: repeated(work, max(1, whole + (rest > 0))) for part, work in alone.items()}
    return Case(name, chains, lambda: lines.sweep(bits, SWEEPS, generator), alone)


def cases(device: str) -> Iterator[Case]:
    paths = {"RBM 32 + 32": rbm(32, 32), "RBM 128 + 128": rbm(128, 128), "Zephyr Z6": zephyr(6), "Pegasus P7": pegasus(7)}
    for chains in CHAINS:
        for name, graph in paths.items():
            yield gibbs_case(f"{name}, {graph.num_spins} spins", graph, chains, device)
        yield path_integral_case(chains, device)


def floors(clock: Clock, device: str, rounds: int) -> None:
    for number, case in enumerate(cases(device)):
        if not number:
            print(f"| hot path | chains | ms a sweep | {' | '.join(case.alone)} | floor | ratio |")
            print("|---" * (5 + len(case.alone)) + "|")
        case.sweeps()
        found: dict[str, list[float]] = {}
        for _ in range(rounds):
            found.setdefault("sweep", []).append(clock.seconds(case.sweeps) / SWEEPS)
            for name, work in case.alone.items():
                found.setdefault(name, []).append(clock.seconds(work) / SWEEPS)
        best = {name: 1e3 * min(times) for name, times in found.items()}
        floor = sum(best[name] for name in case.alone)
        cells = [f"{best[name]:.2f}" for name in ("sweep", *case.alone)]
        print(f"| {case.name} | {case.chains} | {' | '.join(cells)} | {floor:.2f} | {best['sweep'] / floor:.2f} |", flush=True)


# Peers ----------------------------------------------------------------------------------------------------------------


def rms_error(found: Moments, truth: Tensor) -> float:
    return float((torch.cat([found.spins, found.pairs]) - truth).square().mean().sqrt())


def reference(hamiltonian: IsingHamiltonian) -> Tensor:
    """Means and correlations of a long run in float32, (n + m,)."""
    generator, gibbs = torch.Generator().manual_seed(123), BlockGibbs(hamiltonian)
    state = gibbs.sweep(gibbs.random_state(REFERENCE_CHAINS, generator), 300, generator)
    total = torch.zeros(hamiltonian.num_spins + hamiltonian.graph.num_edges, dtype=torch.float64)
    for _ in range(REFERENCE_CALLS):
        spins = gibbs.to_spins(gibbs.sweep(state, 10, generator))
        moments = Moments.from_samples(Samples(spins), hamiltonian)
        total += torch.cat([moments.spins, moments.pairs]) / REFERENCE_CALLS
    return total.float()


def peers(clock: Clock, rounds: int) -> None:
    print(f"\n| {PEER_SWEEPS} sweeps | chains | sampler | CPU ms | error of moments | perfect samples | cost at equal error |")
    print("|---|---|---|---|---|---|---|")
    ours = load_sampler("gibbs", sweeps=PEER_SWEEPS, burn_in=0, persistent=False, seed=0)
    held, annealed = (load_sampler("dimod", num_sweeps=PEER_SWEEPS, held=part, seed=0) for part in (1.0, 0.5))
    runs: dict[str, Callable[[IsingHamiltonian, int], Moments]] = {
        "gibbs, moments": ours.moments,
        "gibbs, samples": lambda hamiltonian, chains: Moments.from_samples(ours.sample(hamiltonian, chains), hamiltonian),
        "SA held at beta = 1": held.moments,
        "SA annealed to 1": annealed.moments,
    }
    for name, graph, coupling in (("RBM 128 + 128", rbm(128, 128), 0.05), ("Zephyr Z6", zephyr(6), 0.15)):
        hamiltonian = problem(graph, "cpu", coupling)
        truth = reference(hamiltonian)
        for chains in CHAINS:
            perfect = float(((1 - truth.square()) / chains).mean().sqrt())
            found: dict[str, list[tuple[float, float]]] = {}
            for _ in range(rounds):
                for label, run in runs.items():
                    moments: list[Moments] = []
                    work = functools.partial(lambda call, to, *work: to.append(call(*work)), run, moments, hamiltonian, chains)
                    found.setdefault(label, []).append((clock.seconds(work), rms_error(moments[0], truth)))
            least = None
            for label, pairs in found.items():
                seconds, error = min(pairs)[0], (sum(error**2 for _, error in pairs) / rounds) ** 0.5
                # Errors fall as the root of the number of samples, and times grow with it.
                cost = seconds * error**2
                least = least or cost
                print(
                    f"| {name}, {graph.num_spins} spins | {chains} | {label} | {1e3 * seconds:.0f} | {error:.4f} "
                    f"| {perfect:.4f} | {cost / least:.1f} |",
                    flush=True,
                )


# Threads --------------------------------------------------------------------------------------------------------------


def calls() -> Iterator[tuple[str, int, Work]]:
    """A call's sweeps for several numbers of chains, fewer of path integrals, with compiled kernels."""
    for name, graph, numbers in (("RBM 128 + 128", rbm(128, 128), (256, 1000, 2000)), ("Zephyr Z6", zephyr(6), CHAINS)):
        for chains in numbers:
            yield name, chains, gibbs_case(name, graph, chains, "cpu").sweeps
    for chains in CHAINS:
        lines, generator = WorldLines(problem(rbm(128, 128), "cpu", 0.05, GAMMA), SLICES), torch.Generator().manual_seed(0)
        bits = lines.random_state(chains, generator)
        yield "path integral", chains, functools.partial(lines.sweep, bits, LINE_SWEEPS, generator)


def speed_up(threads: int, rounds: int) -> None:
    """Milliseconds on the clock of calls on one thread and on several, in turns."""
    print(f"| path | chains | one thread | {threads} | ratio, best | median |")
    print("|---|---|---|---|---|---|")
    for name, chains, call in calls():
        times = torch.empty(rounds, 2)
        for number in range(-1, rounds):
            for column, count in enumerate((1, threads)):
                torch.set_num_threads(count)
                began = time.perf_counter()
                call()
                times[number, column] = 1e3 * (time.perf_counter() - began)  # the first round's is overwritten by the last
        (one, several), ratio = times.amin(0).tolist(), times[:, 0].median() / times[:, 1].median()
        print(f"| {name} | {chains} | {one:.1f} | {several:.1f} | {one / several:.2f} | {ratio:.2f} |", flush=True)


# Growth ---------------------------------------------------------------------------------------------------------------


def cubic(side: int) -> Graph:
    """A lattice of side^3 spins, six neighbours each but at the faces."""
    place = torch.arange(side**3).view(side, side, side)
    pairs = [torch.stack([place.narrow(d, 0, side - 1), place.narrow(d, 1, side - 1)], -1).view(-1, 2) for d in range(3)]
    return edge_list(torch.cat(pairs), side**3)


def bipartite(half: int, degree: int) -> Graph:
    """Spins of one half joined to ``degree`` of the other half."""
    left = torch.arange(half).repeat_interleave(degree)
    right = half + (left + torch.arange(degree).repeat(half) * (half // degree)) % half
    return edge_list(torch.stack([left, right], 1), 2 * half)


def growth(device: str) -> Iterator[tuple[str, str, list[tuple[int, Graph, int]]]]:
    """What is drawn: a label, what grows, and (value, graph, chains) of each point."""
    cubes = [cubic(side) for side in (5, 10, 22, 46)]
    yield "cubic lattice, 200 chains", "spins", [(graph.num_spins, graph, 200) for graph in cubes]
    dense = [rbm(size, size) for size in (16, 64, 256, 1024)]
    yield "RBM, 200 chains", "couplings", [(graph.num_edges, graph, 200) for graph in dense]
    sparse = [bipartite(1000, degree) for degree in (4, 16, 64, 125)]
    yield "2,000 spins, 200 chains", "couplings", [(graph.num_edges, graph, 200) for graph in sparse]
    for name, graph in (("RBM 128 + 128", rbm(128, 128)), ("Zephyr Z3, 336 spins", zephyr(3))):
        yield name, "chains", [(chains, graph, chains) for chains in (10, 100, 1000, 10_000, 100_000)]


def ms_a_sweep(clock: Clock, graph: Graph, chains: int, device: str) -> float:
    gibbs, generator = BlockGibbs(problem(graph, device)), torch.Generator(device).manual_seed(0)
    state = gibbs.random_state(chains, generator).to(gibbs.quickest)
    number = max(2, min(50, 10**7 // (graph.num_spins * chains)))
    gibbs.sweep(state, 1, generator)
    return 1e3 / number * min(clock.seconds(lambda: gibbs.sweep(state, number, generator)) for _ in range(3))


def scaling(clock: Clock, device: str, figure: str) -> None:
    import matplotlib.pyplot as plt

    axes = dict(zip(("spins", "couplings", "chains"), plt.subplots(1, 3, figsize=(12, 4))[1], strict=True))
    print("| path | grows | ms a sweep | power over the last step |")
    print("|---|---|---|---|")
    for label, what, points in growth(device):
        values = [value for value, _, _ in points]
        times = [ms_a_sweep(clock, graph, chains, device) for _, graph, chains in points]
        power = torch.tensor([times[-1] / times[-2], values[-1] / values[-2]]).log()
        cells = ", ".join(f"{value:,}: {ms:.3g}" for value, ms in zip(values, times, strict=True))
        print(f"| {label} | {what} | {cells} | {float(power[0] / power[1]):.2f} |", flush=True)
        axes[what].loglog(values, times, "o-", label=label)
    for what, axis in axes.items():
        axis.set(xlabel=what, ylabel="ms a sweep")
        low, high = axis.get_xlim()
        bottom = axis.get_ylim()[0]
        axis.plot([low, high], [bottom, bottom * high / low], "k:", linewidth=0.8, label="linear")
        axis.legend(fontsize=7)
    plt.tight_layout()
    plt.savefig(figure, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--speed-up", action="store_true", help="measure --threads threads against one")
    parser.add_argument("--scaling", action="store_true", help="measure the growth with spins, couplings and chains")
    parser.add_argument("--figure", default="scaling.png", help="where --scaling draws it")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clock = Clock(options.device, options.threads)
    if options.speed_up:
        speed_up(options.threads, options.rounds)
        return
    if options.scaling:
        scaling(clock, options.device, options.figure)
        return
    floors(clock, options.device, options.rounds)
    if options.device == "cpu":
        peers(clock, options.rounds)


if __name__ == "__main__":
    main()
