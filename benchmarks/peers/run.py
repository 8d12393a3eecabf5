"""Ours and the peers in one run: samplers on the same problems and a training step of the same network.

    python benchmarks/peers/run.py
    python benchmarks/peers/run.py --peer rbms openjij --part rbm --out ratios.json
    python benchmarks/peers/run.py --write

Each peer gets an environment of its own below ``--environments`` (built at the first run: minutes and 3 GB), so that it
leaves no trace in ours; our own side runs in the interpreter that starts the command. Which build of torch the peers get is
pip's own configuration's choice. True moments of large problems are computed at the first run, too (minutes), and kept there.

Every comparison alternates ours and a peer's, after one call of each that isn't counted. Times are CPU seconds (``wall`` is
in the file of ``--out``); a ratio is a peer's over ours next to it, as median and range. All chains start from random spins.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(1, str(Path(__file__).parent.parent))  # of trainer_overhead.py, the hand-written loop

from command import parsed, parser, publish
from environments import SAMPLERS
from measure import compare, curves, first_sweeps, train
from methods import (
    ANNEALED,
    ANNEALED_MOMENTS,
    BIPARTITE,
    BLOCK,
    GIBBS,
    GIBBS_MOMENTS,
    OPENJIJ,
    PATH_ANNEALING,
    PATH_INTEGRAL,
    PATH_INTEGRAL_MOMENTS,
    RBMS,
    SA_ANNEALED,
    SA_GIBBS,
    SA_METROPOLIS,
    TEMPERING,
    THRML,
    Bench,
    Method,
)
from problems import moderate_rbm, native_graph, quantum_exact, quantum_rbm, trained, truth
from report import environment, markdown

Results = dict[str, Any]


def rbm(bench: Bench, references: Path) -> Results:
    """RBM 128x128, 256 chains, 100 sweeps."""
    peers = [SA_METROPOLIS, SA_GIBBS, BLOCK, BIPARTITE, RBMS, THRML, OPENJIJ]
    tables = []
    for problem in (moderate_rbm(), trained("trained-mnist")):
        known = truth(problem, references)
        tables.append(compare(bench, problem, known, GIBBS, peers, samples=256, sweeps=100, repeats=3))
    return {"tables": tables}


def sparse(bench: Bench, references: Path) -> Results:
    """A native graph at several numbers of sweeps, 1,000 chains, and the time to come close to perfect samples."""
    problem = native_graph()
    known = truth(problem, references)
    methods: list[Method] = [GIBBS, SA_METROPOLIS, SA_GIBBS, BLOCK, THRML]
    found = curves(bench, problem, known, methods, samples=1000, sweeps=[5, 10, 20, 50, 100], repeats=2, limit=10.0)
    return {"curves": [found], "target": 1.1 * known.floor(1000), "reached": first_sweeps(found, 1.1 * known.floor(1000))}


def quantum(bench: Bench, references: Path) -> Results:
    """A transverse field: a small system with an exact answer, and an RBM."""
    tables = []
    for problem, samples, sweeps in ((quantum_exact(), 1000, 50), (quantum_rbm(), 100, 100)):
        known, peers = truth(problem, references), [PATH_ANNEALING]
        tables.append(compare(bench, problem, known, PATH_INTEGRAL, peers, samples, sweeps, 2, [PATH_INTEGRAL_MOMENTS]))
    return {"tables": tables}


def priors(bench: Bench, references: Path) -> Results:
    """Error against time on trained priors, 1,000 chains."""
    ours: list[Method] = [GIBBS, GIBBS_MOMENTS, TEMPERING, ANNEALED, ANNEALED_MOMENTS]
    methods: list[Method] = [*ours, SA_METROPOLIS, SA_GIBBS, SA_ANNEALED, BLOCK, RBMS, THRML, OPENJIJ]
    found = []
    annealed = [trained(name, beta) for beta in (0.2, 1.0) for name in ("trained-zephyr", "trained-pegasus")]
    for problem in [trained("trained-mnist"), *annealed]:
        known = truth(problem, references)
        found.append(curves(bench, problem, known, methods, 1000, [3, 10, 30, 100, 300, 1000, 3000], repeats=2, limit=3.0))
    return {"curves": found}


PARTS = {"rbm": rbm, "sparse": sparse, "quantum": quantum, "priors": priors, "training": train}


def main() -> None:
    command = parser(__doc__, SAMPLERS)
    command.add_argument("--part", nargs="+", choices=PARTS, default=list(PARTS), help="default: all")
    options = parsed(command)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(options.environments.resolve(), Path(folder), options.peer, options.threads)
        results: Results = {"parts": {}}
        try:
            for part in options.part:
                print(f"measuring: {part}", file=sys.stderr, flush=True)
                results["parts"][part] = PARTS[part](bench, options.environments / "references")
        finally:
            bench.close()
    results |= {"environment": environment(options.threads), "versions": bench.versions, "missing": bench.missing}
    publish(markdown(results), results, options, "peers")


if __name__ == "__main__":
    main()
