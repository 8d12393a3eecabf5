"""Cost of a circuit layer's step against qubits, depth and batch, beside what its plan can't do without.

    OMP_NUM_THREADS=1 python benchmarks/circuit_scaling.py --figure benchmarks/figures/circuits.png
    OMP_NUM_THREADS=1 python benchmarks/circuit_scaling.py --along batch

The circuit is the ring of ``circuit_cases.py``; a step is forward and backward, in complex64. Two floors stand beside it:

* traffic: one read and one write of the states in every pass of the plan, forward and again backward, at the speed of a copy
  of as many bytes as the states have that are run at once;
* products: the plan's matrices on the states, forward, and two such products backward, at the speed of a large complex64
  product, 8 operations for each multiplication.

``stored`` keeps the states of all passes for the gradients and ``adjoint`` undoes them; both are measured, and the one that the
executor would take is marked. Memory is what the process's peak rises by in the calls (Linux). Times are CPU milliseconds.
"""

from __future__ import annotations

import argparse
import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from circuit_cases import Case, ours, ring, step
from circuits import milliseconds
from qvae_backends import statevector
from qvae_backends.statevector_fusion import MatrixStep, Plan, plan
from qvae_backends.statevector_measured import Measurement

from qvae.memory import total_memory

AMPLITUDE = 8  # bytes
_ENOUGH = 1500.0  # milliseconds of calls that make a best time
SERIES = {
    "qubits": [(n, 3, 64) for n in range(4, 21, 2)],
    "depth": [(10, layers, 64) for layers in (2, 4, 8, 16, 32)],
    "batch": [(10, 3, batch) for batch in (1, 4, 16, 64, 256, 1024)],
}


@dataclass(frozen=True)
class Row:
    """Of one circuit and batch: milliseconds, and megabytes of memory.

    Attributes:
        passes: of the plan, with that which makes the product state.
        first: the first call, on two rows, which plans.
        stored, adjoint: a step; None where it isn't measured.
        chosen: the one of both that the executor takes.
    """

    qubits: int
    layers: int
    batch: int
    passes: int
    first: float
    stored: float | None
    adjoint: float
    chosen: str
    stored_memory: float | None
    adjoint_memory: float
    traffic: float
    products: float

    @property
    def time(self) -> float:
        """Of the way that the executor takes."""
        return self.stored if self.chosen == "stored" and self.stored is not None else self.adjoint

    def cells(self) -> list[str]:
        """Of the table."""
        floors = [f"{floor:.3g} ({self.time / floor:.1f})" for floor in (self.traffic, self.products)]
        memory = f"{_number(self.stored_memory)} / {_number(self.adjoint_memory)}"
        times = [
            _marked(_number(self.stored), self.chosen == "stored"),
            _marked(_number(self.adjoint), self.chosen == "adjoint"),
        ]
        sizes = [str(number) for number in (self.qubits, self.layers, self.batch, self.passes)]
        return [*sizes, _number(self.first), *times, *floors, memory]


HEAD = ["qubits", "layers", "batch", "passes", "first", "stored", "adjoint", "traffic (ratio)", "products (ratio)", "MB, both"]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.2g}"


def _marked(text: str, is_chosen: bool) -> str:
    return f"**{text}**" if is_chosen else text


def measured(qubits: int, layers: int, batch: int, gemm: float) -> Row:
    """One row; ``gemm`` is the speed of products in operations a millisecond."""
    case = ring(qubits, layers)
    x, w, dual = case.numbers(batch)
    layer = ours(case, w)
    once = step(layer, x, layer.weight, dual)
    first = milliseconds(lambda: layer(x[:1].expand(2, -1)))
    with adjoint_only():
        adjoint, adjoint_memory = cost(once)
    steps = plan(layer.circuit, case.qubits)
    last = Measurement(layer.observables, steps, torch.zeros(())).last
    stores = batch * (last + 3) * AMPLITUDE << qubits
    chosen = "stored" if stores < statevector._STORED * total_memory() else "adjoint"
    stored, stored_memory = cost(once) if chosen == "stored" else (None, None)
    traffic, products = floors(case, steps, last, batch, gemm)
    times = (first, stored, adjoint, chosen, stored_memory, adjoint_memory, traffic, products)
    return Row(qubits, layers, batch, last + 1, *times)


@contextmanager
def adjoint_only() -> Iterator[None]:
    """No states are stored."""
    kept, statevector._STORED = statevector._STORED, 0.0
    try:
        yield
    finally:
        statevector._STORED = kept


def best(once: Callable[[], object]) -> float:
    """Least CPU milliseconds of some calls."""
    times = [milliseconds(once)]
    while sum(times) < _ENOUGH and len(times) < 20:
        times.append(milliseconds(once))
    return min(times)


def cost(once: Callable[[], object]) -> tuple[float, float]:
    """Least CPU milliseconds, and megabytes by which the process's peak rises."""
    ctypes.CDLL(None).malloc_trim(0)  # what earlier calls left is given back
    Path("/proc/self/clear_refs").write_text("5")  # and their peak forgotten
    before = _megabytes("VmRSS")
    time = best(once)
    return time, _megabytes("VmHWM") - before


def _megabytes(key: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(key))


def floors(case: Case, steps: Plan, last: int, batch: int, gemm: float) -> tuple[float, float]:
    """Milliseconds of traffic and of products."""
    at_once = min(batch, max(1, statevector._AT_ONCE >> case.qubits))
    states = torch.randn(at_once << case.qubits, dtype=torch.complex64)
    target = torch.empty_like(states)
    copy = best(lambda: [target.copy_(states) for _ in range(10)]) / 10
    matrices = [found for found in steps.steps[:last] if isinstance(found, MatrixStep)]
    operations = 3 * sum(8 * 2**found.size for found in matrices) * (batch << case.qubits)
    return 2 * (last + 1) * copy * batch / at_once, operations / gemm


def gemm_speed() -> float:
    """Operations a millisecond of a large complex64 product."""
    a, b = (torch.randn(512, 512, dtype=torch.complex64) for _ in range(2))
    return 8 * 512**3 / best(lambda: a @ b)


def draw(rows: dict[str, list[Row]], path: Path) -> None:
    """A panel for each series: times, and the two floors."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(rows), 3.6), layout="constrained")
    panels = figure.subplots(1, len(rows), squeeze=False)[0]
    at = {"qubits": lambda row: row.qubits, "depth": lambda row: row.layers, "batch": lambda row: row.batch}
    fixed = {"qubits": "3 layers, batch 64", "depth": "10 qubits, batch 64", "batch": "10 qubits, 3 layers"}
    for panel, (along, found) in zip(panels, rows.items(), strict=True):
        places = [at[along](row) for row in found]
        stored = [(place, row.stored) for place, row in zip(places, found, strict=True) if row.stored is not None]
        panel.plot(*zip(*stored, strict=True), "o-", label="states stored")
        panel.plot(places, [row.adjoint for row in found], "s-", label="adjoint")
        panel.plot(places, [row.traffic for row in found], "--", color="0.4", label="floor: traffic of the passes")
        panel.plot(places, [row.products for row in found], ":", color="0.4", label="floor: products of the matrices")
        panel.set_yscale("log")
        if along != "qubits":
            panel.set_xscale("log", base=2)
        panel.set_xticks(places, [str(place) for place in places])
        panel.set_xlabel({"qubits": "qubits", "depth": "layers", "batch": "batch"}[along])
        panel.set_title(fixed[along], fontsize=10)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("forward and backward, ms")
    panels[0].legend(fontsize=8)
    figure.savefig(path, dpi=130)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--along", nargs="+", choices=SERIES, default=list(SERIES), help="default: all")
    parser.add_argument("--most", type=int, default=20, help="qubits")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--figure", type=Path, help="draw into this file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    gemm = gemm_speed()
    print(f"complex64 products: {gemm / 1e6:.0f} GFLOP/s\n\n| {' | '.join(HEAD)} |\n|{'---|' * len(HEAD)}")
    rows: dict[str, list[Row]] = {}
    for along in options.along:
        for qubits, layers, batch in SERIES[along]:
            if qubits <= options.most:
                row = measured(qubits, layers, batch, gemm)
                rows.setdefault(along, []).append(row)
                print(f"| {' | '.join(row.cells())} |", flush=True)
    if options.figure is not None:
        draw(rows, options.figure)


if __name__ == "__main__":
    main()
