"""An annealer that isn't there: the ideal graph of a family of D-Wave's, to plan on where there is no token."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from qvae.sampling.metering import Fault
from qvae_backends.dwave_recording import RecordedSolver
from qvae_backends.dwave_solver import Answer, LeapSolver, NoToken, Solver, Submission

_FAMILIES = {
    "zephyr": (12, ("zephyr", "advantage2")),
    "pegasus": (16, ("pegasus", "advantage")),
    "chimera": (16, ("chimera", "2000q")),
}
"""Sizes of the largest systems, and what names of solvers have in them; the first family is taken where none is named."""
_PARAMETERS = (
    "anneal_offsets", "anneal_schedule", "annealing_time", "answer_mode", "auto_scale", "fast_anneal", "flux_biases",
    "flux_drift_compensation", "initial_state", "label", "max_answers", "num_reads", "programming_thermalization",
    "readout_thermalization", "reduce_intersample_correlation", "reinitialize_state",
)  # fmt: skip


def connect(settings: dict[str, Any], timeout: float, replay: Path | None, is_rehearsal: bool) -> Solver:
    """The solver of D-Wave's service, or of a recording; for a rehearsal without a token, an ideal one.

    Raises:
        SamplerError: as :class:`~qvae_backends.dwave_solver.LeapSolver`.
    """
    if replay is not None:
        return RecordedSolver(replay)
    try:
        return LeapSolver(settings, timeout)
    except NoToken:
        if not is_rehearsal:
            raise
        return IdealSolver(settings.get("solver"))


class IdealSolver:
    """All qubits and couplers of a family's largest graph work; times are those that D-Wave's own client supposes in tests.

    Args:
        name: of a solver, which tells the family; None is that of the newest systems.
    """

    def __init__(self, name: str | None) -> None:
        from dwave.cloud.solver import StructuredSolver
        from dwave.cloud.testing import mocks

        family = family_of(name)
        definition: dict[str, Any] = getattr(mocks, f"qpu_{family}_solver_data")(_FAMILIES[family][0])
        definition["properties"] |= {
            "problem_timing_data": mocks.qpu_problem_timing_data(),
            "parameters": dict.fromkeys(_PARAMETERS, ""),
        }
        definition["identity"] = {
            "name": f"ideal {family} graph of {definition['properties']['num_qubits']:,} qubits, since there is no token",
            "version": {"graph_id": family},
        }
        self.structure = StructuredSolver(client=None, data=definition)

    @property
    def source(self) -> str:
        """There are no credentials."""
        return "none"

    def answer(self, submission: Submission) -> Answer:
        """Nothing."""
        raise Fault("it is a plan and no annealer", helps_to_repeat=False)

    def rewind(self, position: int, spent: float) -> None:
        """It remembers nothing."""

    def close(self) -> None:
        """There is no connection."""


def family_of(name: str | None) -> str:
    """The family that a solver's name tells of.

    >>> family_of("Advantage2_system1.4"), family_of("Advantage_system6.4"), family_of("DW_2000Q_6"), family_of(None)
    ('zephyr', 'pegasus', 'chimera', 'zephyr')
    """
    text = (name or "").lower()
    return next((family for family, (_, words) in _FAMILIES.items() if any(word in text for word in words)), "zephyr")
