"""Worker of openjij: simulated annealing held at beta = 1."""

from __future__ import annotations

import numpy as np
import openjij  # type: ignore[import-not-found]
from openjij.model.model import BinaryQuadraticModel  # type: ignore[import-not-found]
from protocol import Timer, serve

_model: BinaryQuadraticModel
_sparse = True


def load(problem: str) -> int:
    global _model, _sparse
    data = np.load(problem)
    h = dict(enumerate(data["h"].tolist()))
    J = {tuple(edge): value for edge, value in zip(data["edges"].tolist(), data["J"].tolist(), strict=True)}
    _sparse = not len(data["sizes"])  # on an RBM its dense matrices are the quicker ones
    _model = BinaryQuadraticModel(h, J, 0.0, "SPIN", sparse=_sparse)
    return len(h)


def anneal(out: str, samples: int, sweeps: int) -> dict[str, float]:
    """Without a seed: with one, all reads are the same."""
    with Timer() as timer:
        found = openjij.SASampler().sample(_model, num_reads=samples, schedule=[(1.0, sweeps)], sparse=_sparse)
    return _keep(found, out, timer)


def _keep(found: openjij.Response, out: str, timer: Timer) -> dict[str, float]:
    order = np.argsort(np.asarray(list(found.variables)))
    np.savez(out, spins=found.record.sample[:, order].astype(np.int8))
    return timer.seconds()


if __name__ == "__main__":
    serve({"load": load, "anneal": anneal}, ["openjij"])
