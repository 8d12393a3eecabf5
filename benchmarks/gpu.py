"""Hot paths on a GPU against their floors of flops, bytes and draws, and against torch's kernels, which were all there was.

    python benchmarks/gpu.py
    python benchmarks/gpu.py --only training --set data.root=FOLDER

What the GPU can do is measured first: a copy, large products, a kernel that does nothing, and draws of bits of uncoupled spins.
The floor of a sweep is its multiplications at the pace of large products (of float16 where blocks are multiplied, and twice, by
both parts of a weight; of float32 where neighbours are gathered), and a draw for each bit, two in a path integral. That of a
circuit's step is what its states take to be read and written once by every step of its plan, and three times backwards, or the
flops of these, whichever is longer. That of a training step is its products, launched by one graph, and what weights, their
gradients and moments take to be read and written once. Times are of the clock, the GPU awaited, the best of the rounds.
"""

from __future__ import annotations

import argparse
import itertools
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from circuit_cases import Case, ours, ring, scattered, step
from kernels import problem
from path_integral import GAMMA, SLICES
from qvae_backends.statevector_fusion import MatrixStep, plan
from training_step import record_of

import qvae
from qvae.circuits.layer import CircuitLayer
from qvae.ising.block_gibbs import BlockGibbs
from qvae.ising.compiled import SWITCH
from qvae.ising.graphs import Graph, pegasus, rbm, zephyr
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.world_lines import WorldLines
from qvae.runs.assemble import assemble
from qvae.training.objective import Clock

Work = Callable[[], object]
CUDA = torch.device("cuda")
SWEEPS, TORCH_SWEEPS = 100, 20
TRAININGS = ("mnist-vqvae", "digits", "mnist")


def seconds(work: Work, rounds: int = 5, times: int = 1) -> float:
    """Of one call, the best of the rounds of so many."""
    work()
    found = []
    for _ in range(rounds):
        torch.cuda.synchronize()
        began = time.perf_counter()
        for _ in range(times):
            work()
        torch.cuda.synchronize()
        found.append((time.perf_counter() - began) / times)
    return min(found)


@contextmanager
def torch_s_kernels() -> Iterator[None]:
    os.environ[SWITCH] = "torch"
    try:
        yield
    finally:
        del os.environ[SWITCH]


def replayed(work: Work) -> Work:
    """The same as one launch."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


# What the GPU can do --------------------------------------------------------------------------------------------------


@dataclass
class Ceilings:
    """Bytes, flops in float16 and float32, and drawn bits in a second."""

    bytes: float
    half: float
    single: float
    draws: float


def ceilings() -> Ceilings:
    source = torch.empty(2**30, dtype=torch.uint8, device=CUDA).random_(0, 255)
    target = torch.empty_like(source)
    moved = 2 * source.numel() / seconds(lambda: target.copy_(source), times=5)
    flops = []
    for dtype in (torch.float16, torch.float32):
        left, right = (torch.randn(8192, 8192, device=CUDA, dtype=dtype) for _ in range(2))
        flops.append(2 * 8192**3 / seconds(lambda left=left, right=right: left @ right, times=3))
    free = BlockGibbs(IsingHamiltonian(torch.zeros(256), Graph(256, []), []).to("cuda"))
    generator = torch.Generator("cuda").manual_seed(0)
    state = free.random_state(100_000, generator).to(free.quickest)
    draws = state.numel() * SWEEPS / seconds(lambda: free.sweep(state, SWEEPS, generator))
    few = target[:4]
    launch = seconds(lambda: few.zero_(), times=200)
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}")
    products = f"products {flops[0] / 1e12:.0f} TFLOP/s in float16, {flops[1] / 1e12:.0f} in float32"
    others = f"{draws / 1e9:.0f} bits drawn a ns, {1e6 * launch:.1f} us to ask for a kernel"
    print(f"copy {moved / 1e12:.2f} TB/s, {products}, {others}", flush=True)
    return Ceilings(moved, *flops, draws)


# Sweeps ---------------------------------------------------------------------------------------------------------------


def sweeps(most: Ceilings) -> None:
    print("\n| path | chains | us a sweep | floor | ratio | torch's kernels | times |\n|---|---|---|---|---|---|---|")
    graphs = {
        "RBM 128 + 128": rbm(128, 128),
        "RBM 512 + 512": rbm(512, 512),
        "RBM 2048 + 2048": rbm(2048, 2048),
        "Zephyr Z6": zephyr(6),
        "Pegasus P7": pegasus(7),
    }
    for name, graph in graphs.items():
        for chains in (256, 1000, 10_000, 100_000):
            if graph.num_edges * chains < 3e10:
                _row(name, chains, _gibbs(graph, chains), _floor(graph, chains, most))
    for chains in (256, 1000, 4000):
        floor = SLICES * (_floor(rbm(128, 128), chains, most) + 256 * chains / most.draws)
        _row("path integral, RBM 128 + 128, 16 slices", chains, _lines(chains), floor)


def _floor(graph: Graph, chains: int, most: Ceilings) -> float:
    """Seconds of a sweep's products and draws."""
    flops = 4 * graph.num_edges * chains
    products = 2 * flops / most.half if graph.bipartite_sizes is not None else flops / most.single
    return products + graph.num_spins * chains / most.draws


def _gibbs(graph: Graph, chains: int) -> Callable[[int], object]:
    generator = torch.Generator("cuda").manual_seed(0)

    def sweep(number: int) -> object:
        return gibbs.sweep(state.to(gibbs.quickest), number, generator)

    gibbs = BlockGibbs(problem(graph, "cuda"))
    state = gibbs.random_state(chains, generator).to(torch.int8)
    return sweep


def _lines(chains: int) -> Callable[[int], object]:
    generator, lines = torch.Generator("cuda").manual_seed(0), WorldLines(problem(rbm(128, 128), "cuda", 0.05, GAMMA), SLICES)
    bits = lines.random_state(chains, generator)
    return lambda number: lines.sweep(bits, number, generator)


def _row(name: str, chains: int, sweep: Callable[[int], object], floor: float) -> None:
    time_of_ours = seconds(lambda: sweep(SWEEPS), 3) / SWEEPS
    with torch_s_kernels():
        time_of_torch = seconds(lambda: sweep(TORCH_SWEEPS), 3) / TORCH_SWEEPS
    cells = [f"{1e6 * time_of_ours:.1f}", f"{1e6 * floor:.2f}", f"{time_of_ours / floor:.1f}", f"{1e6 * time_of_torch:.0f}"]
    print(f"| {name} | {chains} | {' | '.join(cells)} | {time_of_torch / time_of_ours:.1f} |", flush=True)


# Circuits -------------------------------------------------------------------------------------------------------------


def circuits(most: Ceilings) -> None:
    print("\n| circuit | rows | ms a step | as one graph | floor | ratio |\n|---|---|---|---|---|---|")
    for case, rows in ((ring(8), 64), (ring(8), 1024), (ring(12), 256), (ring(16), 64), (ring(20), 4), (scattered(12), 64)):
        x, w, dual = case.numbers(rows)
        layer = ours(case, w).to(CUDA)
        once = step(layer, x.to(CUDA), layer.weight, dual.to(CUDA))
        by_python, as_graph = seconds(once, 5, 5), seconds(replayed(once), 5, 5)
        floor = _floor_of_circuit(layer, case, rows, most)
        cells = [f"{1e3 * by_python:.2f}", f"{1e3 * as_graph:.2f}", f"{1e3 * floor:.3f}", f"{as_graph / floor:.1f}"]
        print(f"| {case.title} | {rows} | {' | '.join(cells)} |", flush=True)


def _floor_of_circuit(layer: CircuitLayer, case: Case, rows: int, most: Ceilings) -> float:
    steps = plan(layer.circuit, layer.circuit.num_inputs).steps
    amplitudes = rows << case.qubits
    moved = 5 * len(steps) * 8 * amplitudes
    flops = 3 * sum(8 * amplitudes << one.size for one in steps if isinstance(one, MatrixStep))
    return max(moved / most.bytes, flops / most.single)


# Training -------------------------------------------------------------------------------------------------------------


def trainings(most: Ceilings, settings: list[str]) -> None:
    print("\n| training | ms a step | by Python | busy | floor | ratio |\n|---|---|---|---|---|---|")
    for name in TRAININGS:
        own = [one for one in settings if name.startswith("mnist") or not one.startswith("data.root")]
        config = qvae.load_config(name, [*own, "training.max_seconds=null", "training.device=cuda"])
        take, count = _steps(config)
        with torch_s_kernels():
            by_python = seconds(take, 3, 30)
            products = record_of((take() for _ in range(1)), keeps_products=True).products
        floor = seconds(replayed(lambda products=products: [one() for one in products]), 5, 20) + 28 * count / most.bytes
        ours = seconds(take, 3, 30)
        cells = [*(f"{1e3 * time:.2f}" for time in (ours, by_python, _busy(take), floor)), f"{ours / floor:.1f}"]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def _steps(config: qvae.Config) -> tuple[Work, int]:
    """What takes a step as in the middle of a training, and how many numbers the step moves."""
    parts, numbers = assemble(Path("unused"), config), itertools.count(1001)
    rows = parts.dataset.train[: config.training.batch_size].flatten(1).to(CUDA)
    count = sum(parameter.numel() for parameter in parts.objective.parameters().values())
    return lambda: parts.objective.step(rows, Clock(step=next(numbers), epoch=2, progress=0.5)), count


def _busy(work: Work) -> float:
    """Seconds that the GPU works for one call."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in range(5):
            work()
        torch.cuda.synchronize()
    return sum(event.self_device_time_total for event in profiled.key_averages()) / 5e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=["sweeps", "circuits", "training"])
    parser.add_argument("--set", dest="settings", action="append", default=[], help="of the trainings, as data.root=FOLDER")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no CUDA device here")
    most = ceilings()
    if options.only in (None, "sweeps"):
        sweeps(most)
    if options.only in (None, "circuits"):
        circuits(most)
    if options.only in (None, "training"):
        trainings(most, options.settings)


if __name__ == "__main__":
    main()
