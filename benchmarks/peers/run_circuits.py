"""Ours and the peers in one run: a forward and backward pass of the same circuits.

    OMP_NUM_THREADS=1 python benchmarks/peers/run_circuits.py --write
    OMP_NUM_THREADS=1 python benchmarks/peers/run_circuits.py --peer pennylane --qubits 8 --out ratios.json

Each peer gets an environment of its own below ``--environments``, as in ``run.py`` beside this file. A call of ours comes
before every call of a peer; the first call of each, which plans or compiles, isn't among them and is told apart. Times are
CPU seconds, ratios a peer's over ours next to it, and errors the largest of values and gradients against float64.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(1, str(Path(__file__).parent.parent))  # of circuit_cases.py

import numpy as np
import torch
from circuit_cases import Case, Found, largest_error, ours, reference, ring, scattered, step
from command import parsed, parser, publish
from environments import CIRCUITS
from methods import Bench
from protocol import PeerError, Timer
from report import environment, times, with_table

Row = dict[str, Any]
KINDS = {"a ring of three layers": ring, "150 random gates": scattered}

_WRONG = 1e-3  # an error above which a time is worth nothing
_ROUNDS, _LONG = 7, 6.0  # calls of a peer, and CPU seconds after which three are enough
_OWN_CALLS = 3  # of ours before each, whose mean counts: they are short


@dataclass(frozen=True)
class Method:
    """A peer's way to compute gradients."""

    label: str
    peer: str
    arguments: dict[str, str] = field(default_factory=dict)


METHODS = (
    Method("tensorcircuit-ng, jax, jit + vmap", "tensorcircuit-ng"),
    Method("pennylane default.qubit", "pennylane", {"device": "default.qubit", "gradient": "backprop"}),
    Method("pennylane lightning.qubit", "pennylane", {"device": "lightning.qubit", "gradient": "adjoint"}),
    Method("pyqtorch", "pyqtorch"),
    Method("torchquantum-ng", "torchquantum-ng"),
    Method("deepquantum", "deepquantum"),
)


def compare(bench: Bench, case: Case, batch: int) -> Row:
    """All methods in turn, each beside ours."""
    numbers = x, w, dual = case.numbers(batch)
    true = reference(case, *numbers)
    layer = ours(case, w)
    once = step(layer, x, layer.weight, dual)
    with Timer() as timer:
        found = once()
    own = {"label": "qvae", "first": timer.cpu, "error": largest_error(found, true), "all": []}
    (bench.folder / "case.json").write_text(json.dumps(case.to_json()))
    np.savez(bench.folder / "numbers.npz", x=x.numpy(), w=w.numpy(), dual=dual.numpy())
    rows = [_row(bench, method, once, true, own["all"]) for method in METHODS if method.peer in bench.workers]
    if own["all"]:
        own["cpu"] = median(own["all"])
    return {"title": case.title, "rows": [own, *rows]}


def _row(bench: Bench, method: Method, once: Callable[[], Found], true: Found, own: list[float]) -> Row:
    """Of one method; ``own`` gathers our times."""
    worker, out, row = bench.workers[method.peer], bench.folder / "found.npz", {"label": method.label}
    files = {"case": str(bench.folder / "case.json"), "numbers": str(bench.folder / "numbers.npz"), "out": str(out)}
    try:
        first = worker.ask("load", **files, **method.arguments)["cpu"]
        found = np.load(out)
        error = largest_error(tuple(torch.from_numpy(found[key]) for key in ("values", "by_x", "by_w")), true)
        if error > _WRONG:
            raise PeerError(f"its result is off by {error:.0e}")
        pairs: list[tuple[float, float]] = []
        while len(pairs) < 3 or (len(pairs) < _ROUNDS and sum(theirs for _, theirs in pairs) < _LONG):
            pairs.append((_own_seconds(once), worker.ask("run")["cpu"]))
    except PeerError as fault:
        return row | {"fault": str(fault)}
    own += [mine for mine, _ in pairs]
    ratios = [theirs / mine for mine, theirs in pairs]
    row |= {"first": first, "error": error, "cpu": median(theirs for _, theirs in pairs), "all": pairs}
    return row | {"ratio": [median(ratios), min(ratios), max(ratios)]}


def _own_seconds(once: Callable[[], Found]) -> float:
    """CPU time of one call."""
    with Timer() as timer:
        for _ in range(_OWN_CALLS):
            once()
    return timer.cpu / _OWN_CALLS


def markdown(results: Row) -> str:
    """Two tables, as they stand in the README."""
    where = results["environment"]
    versions = ", ".join(f"{name} {version}" for name, version in results["versions"].items())
    machine = f"{where['cores']} cores of {where['cpu']}, {where['threads']} thread(s)"
    parts = [f"Measured on {where['date']}: {machine}; {versions}."]
    parts += [f"{name} is missing: {reason}." for name, reason in results["missing"].items()]
    return "\n\n".join([*parts, *(_table(kind, tables) for kind, tables in results["kinds"].items())])


def _table(kind: str, tables: list[Row]) -> str:
    head = ["forward and backward", *(table["title"] for table in tables), "first call, s", "largest error"]
    rows = []
    for row in zip(*(table["rows"] for table in tables), strict=True):
        first = " / ".join(f"{found['first']:.2g}" if "first" in found else "-" for found in row)
        error = max((found["error"] for found in row if "error" in found), default=None)
        rows.append([row[0]["label"], *map(_cell, row), first, "-" if error is None else f"{error:.0e}"])
    return with_table(f"**{kind[0].upper()}{kind[1:]}**: CPU ms, and the ratio to ours, median (range).", head, rows)


def _cell(row: Row) -> str:
    if "fault" in row:
        return str(row["fault"])
    time = f"{1e3 * row['cpu']:,.3g}" if row["cpu"] < 1 else f"{1e3 * row['cpu']:,.0f}"
    if "ratio" not in row:
        return time
    middle, least, most = row["ratio"]
    return f"{time}, **{times(middle)}** ({times(least)} to {times(most)})"


def main() -> None:
    command = parser(__doc__, CIRCUITS)
    command.add_argument("--qubits", nargs="+", type=int, default=[8, 10, 12])
    command.add_argument("--batch", type=int, default=64)
    options = parsed(command)
    results: Row = {"kinds": {kind: [] for kind in KINDS}}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.environments.resolve(), Path(folder), options.peer, options.threads)
        try:
            for kind, make in KINDS.items():
                for n in options.qubits:
                    print(f"measuring: {kind}, {n} qubits", file=sys.stderr, flush=True)
                    results["kinds"][kind].append(compare(bench, make(n), options.batch))
        finally:
            bench.close()
    results |= {"environment": environment(options.threads), "versions": bench.versions, "missing": bench.missing}
    publish(markdown(results), results, options, "circuits")


if __name__ == "__main__":
    main()
