"""Parameters of an annealer: which of them a user sets, whether a solver takes them, and what reads then cost."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import Any

from qvae.errors import SamplerError, nearest
from qvae.sampling.metering import nanoseconds
from qvae_backends.dwave_solver import Solver

_PRICED = ("annealing_time", "anneal_schedule", "programming_thermalization", "readout_thermalization")
_OURS = ("num_reads", "answer_mode", "auto_scale", "initial_state", "reinitialize_state")


def solver_parameters(
    annealing_time: float | None,
    fast_anneal: bool,
    anneal_schedule: Sequence[Sequence[float]] | None,
    others: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The options that go to the solver as they are.

    Raises:
        ValueError: two options exclude each other, or the schedule is none.
    """
    found: dict[str, Any] = {}
    if annealing_time is not None:
        found["annealing_time"] = annealing_time
    if anneal_schedule is not None:
        if annealing_time is not None:
            raise ValueError("annealing_time and anneal_schedule are both given; the schedule has its own time")
        found["anneal_schedule"] = _schedule(anneal_schedule)
    if fast_anneal:
        found["fast_anneal"] = True
    for name, value in (others or {}).items():
        if name in _OURS or name in found:
            raise ValueError(f"parameters has {name!r}, which has its own option or is set for each submission; drop it")
        found[name] = value
    return found


def _schedule(points: Sequence[Sequence[float]]) -> list[list[float]]:
    pairs = [list(map(float, point)) for point in points]
    is_paired = len(pairs) >= 2 and all(len(pair) == 2 for pair in pairs)
    times, fractions = ([pair[k] for pair in pairs] if is_paired else [] for k in (0, 1))
    fits = is_paired and times[0] == 0 and fractions[0] in (0, 1) and fractions[-1] == 1
    if not fits or times != sorted(set(times)) or not all(0 <= s <= 1 for s in fractions):
        raise ValueError(
            f"anneal_schedule is {points!r}; it must be pairs [microseconds, fraction] with rising times from 0, fractions of "
            "0 to 1, from 0 (or 1 in a reverse anneal) to 1, as [[0, 0], [20, 0.4], [120, 0.4], [140, 1]]"
        )
    return pairs


def is_reverse(parameters: Mapping[str, Any]) -> bool:
    """Whether the anneal starts from a state of the spins."""
    schedule = parameters.get("anneal_schedule")
    return schedule is not None and schedule[0][1] == 1


def check_parameters(parameters: Mapping[str, Any], structure: Any) -> None:
    """Refuse, before anything is submitted, what the solver has no parameter for, or no such time.

    Raises:
        SamplerError: naming the option and what the solver takes.
    """
    known = set(structure.parameters)
    for name in parameters:
        if name not in known:
            raise SamplerError(f"solver {structure.name} has no parameter {name!r}: {nearest(name, known)}.")
    is_fast = parameters.get("fast_anneal", False)
    key = "fast_anneal_time_range" if is_fast else "annealing_time_range"
    shortest, longest = structure.properties.get(key, [0, math.inf])
    schedule = parameters.get("anneal_schedule")
    duration = parameters.get("annealing_time") if schedule is None else schedule[-1][0]
    if duration is not None and not shortest <= duration <= longest:
        option = "annealing_time" if schedule is None else "anneal_schedule"
        raise SamplerError(
            f"sampler.options.{option} takes {duration:g} microseconds, but solver {structure.name} takes {shortest:g} to "
            f"{longest:g}{' with fast_anneal' if is_fast else ''}."
        )
    points = structure.properties.get("max_anneal_schedule_points", math.inf)
    if schedule is not None and len(schedule) > points:
        raise SamplerError(f"sampler.options.anneal_schedule has {len(schedule)} points, but {structure.name} takes {points}.")


def access_seconds(structure: Any, parameters: Mapping[str, Any], num_qubits: int, reads: int) -> float:
    """QPU access time of one submission, by the solver's own timing model; 0 where it publishes none."""
    known = {name: parameters[name] for name in _PRICED if name in parameters}
    if is_reverse(parameters):
        known |= {"initial_state": [(0, 1)], "reinitialize_state": True}
    try:
        return nanoseconds(1e-6 * float(structure.estimate_qpu_access_time(num_qubits, reads, **known)))
    except (KeyError, ValueError):
        return 0.0


def largest_job(structure: Any, parameters: Mapping[str, Any], num_qubits: int) -> int:
    """Reads that the solver takes in one submission, by number and by duration."""
    most = int(structure.properties.get("num_reads_range", [1, 10_000])[1])
    longest = 1e-6 * structure.properties.get("problem_run_duration_range", [0, math.inf])[1]
    while most > 1 and access_seconds(structure, parameters, num_qubits, most) > longest:
        most = max(1, int(most * 0.9))
    return most


def rehearse(solver: Solver) -> None:
    """Use all that is asked of a solver's description; whatever comes of it where that is damaged."""
    facts(solver, {})
    with contextlib.suppress(SamplerError):
        check_parameters({"annealing_time": 1.0}, solver.structure)
    if largest_job(solver.structure, {}, len(solver.structure.nodes)) < 1:
        raise ValueError("no number of reads")


def portions(total: int, largest: int) -> list[int]:
    """``total`` in as few parts of at most ``largest`` as can be.

    >>> portions(25, 10)
    [10, 10, 5]
    """
    whole, rest = divmod(total, largest)
    return [largest] * whole + [rest] * (rest > 0)


def facts(solver: Solver, parameters: Mapping[str, Any]) -> dict[str, str]:
    """Credentials' source, solver, topology, load, and what reads cost, for a person to read."""
    structure = solver.structure
    topology = structure.properties.get("topology", {})
    shape = ", ".join(map(str, topology.get("shape", ())))
    found = {
        "credentials": solver.source,
        "solver": structure.name,
        "topology": f"{topology.get('type', 'unknown')} [{shape}]",
        "working qubits": f"{len(structure.nodes):,}",
        "working couplers": f"{len(structure.edges) // 2:,}",
        "load of the queue": "unknown" if structure.avg_load is None else f"{structure.avg_load:.0%}",
        "field and coupling ranges": f"{structure.properties['h_range']} and {structure.properties['j_range']}",
    }
    for reads in (1, 256):
        seconds = access_seconds(structure, parameters, len(structure.nodes), reads)
        found[f"{reads} read{'s' if reads > 1 else ''} of all qubits"] = f"{seconds * 1e3:.1f} ms of QPU access time"
    return found
