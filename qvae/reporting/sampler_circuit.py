"""The circuit that a run's sampler measures, as a picture."""

from __future__ import annotations

from matplotlib.figure import Figure

from qvae.circuits.preparing import PreparesByCircuit
from qvae.config.schema import MEMORY
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.reporting.circuit_figure import circuit_figure
from qvae.runs.backends import make_sampler
from qvae.runs.run import Run
from qvae.sampling.closing import close
from qvae.sampling.registered import SAMPLERS

DRAWN_GATES = 40
"""Gates of a circuit that are drawn, the first ones: a page holds their wires."""


def sampler_circuit_figure(run: Run, hamiltonian: IsingHamiltonian) -> Figure | None:
    """The circuit on which the negative phase was measured; None where the sampler has none.

    Raises:
        SamplerError: the sampler can't be had here, or a file names it and its user hasn't said a word for it.
    """
    spec = run.config.sampler
    if spec.name == MEMORY:
        return None
    SAMPLERS.require_words(spec, run.config.trust, run.path)  # before a class that a file names is imported
    if not issubclass(SAMPLERS.find(spec.name), PreparesByCircuit):
        return None
    sampler = make_sampler(spec, run.config, run.path, purpose=1)
    assert isinstance(sampler, PreparesByCircuit)
    try:
        circuit = sampler.circuit(hamiltonian)
    finally:
        close(sampler)
    return circuit_figure(circuit, DRAWN_GATES)
