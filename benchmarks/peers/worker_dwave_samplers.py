"""Worker of dwave-samplers: simulated annealing and path-integral annealing, both at equilibrium."""

from __future__ import annotations

from typing import Any

import dimod
import numpy as np
from dwave.samplers import PathIntegralAnnealingSampler, SimulatedAnnealingSampler
from protocol import Timer, serve

_model: dimod.BinaryQuadraticModel
_gamma = 0.0


def load(problem: str) -> int:
    global _model, _gamma
    data = np.load(problem)
    (i, j), h = data["edges"].T, data["h"]
    _model = dimod.BinaryQuadraticModel.from_numpy_vectors(h, (i, j, data["J"]), 0.0, dimod.SPIN)
    _gamma = float(data["gamma"].max())
    return len(h)


def anneal(out: str, samples: int, sweeps: int, seed: int, rule: str, held: bool) -> dict[str, float]:
    """Held at beta = 1, or beta rising linearly from 0 to 1 in the given number of sweeps."""
    schedule = np.ones(sweeps) if held else np.linspace(0, 1, sweeps)
    settings: dict[str, Any] = {"beta_schedule_type": "custom", "beta_schedule": schedule, "proposal_acceptance_criteria": rule}
    with Timer() as timer:
        found = SimulatedAnnealingSampler().sample(_model, num_reads=samples, seed=seed, **settings)
    return _keep(found, out, timer)


def path_integral(out: str, samples: int, sweeps: int, seed: int) -> dict[str, float]:
    """Every sweep at the same fields: Hp = 1 (the classical energy at beta = 1) and Hd = Gamma."""
    fields = {"Hp_field": [1.0] * sweeps, "Hd_field": [_gamma] * sweeps, "Gamma": 1.0}
    settings: dict[str, Any] = {"beta_schedule_type": "custom"} | fields
    with Timer() as timer:
        found = PathIntegralAnnealingSampler().sample(_model, num_reads=samples, num_sweeps=sweeps, seed=seed, **settings)
    return _keep(found, out, timer)


def _keep(found: Any, out: str, timer: Timer) -> dict[str, float]:
    order = np.argsort(np.asarray(list(found.variables)))
    spins = np.repeat(found.record.sample[:, order], found.record.num_occurrences, axis=0)
    np.savez(out, spins=spins.astype(np.int8))
    return timer.seconds()


if __name__ == "__main__":
    serve({"load": load, "anneal": anneal, "path_integral": path_integral}, ["dwave-samplers", "dimod"])
