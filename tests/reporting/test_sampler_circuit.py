"""The picture of a sampler's circuit: of the one that trained, which is let go whatever happens."""

import pytest

import qvae
from qvae.circuits.circuit import Circuit, Gate
from qvae.errors import SamplerError
from qvae.reporting import sampler_circuit as module
from qvae.reporting.sampler_circuit import sampler_circuit_figure


class Preparing:
    """Prepares a Gibbs state on two qubits, or fails."""

    def __init__(self, fault=None):
        self.fault, self.is_closed, self.of = fault, False, None

    def circuit(self, hamiltonian):
        self.of = hamiltonian
        if self.fault:
            raise self.fault
        return Circuit(2, [Gate("h", (0,)), Gate("cx", (0, 1))])

    def close(self):
        self.is_closed = True


@pytest.fixture
def drawn(trained, monkeypatch):
    run = qvae.load_run(trained)

    def call(sampler, kind=Preparing):
        asked = []
        monkeypatch.setattr(module.SAMPLERS, "find", lambda name: kind)
        monkeypatch.setattr(module, "make_sampler", lambda *given, **named: asked.append((given, named)) or sampler)
        try:
            return sampler_circuit_figure(run, run.model.prior.frozen())
        finally:
            for (spec, config, folder), named in asked:
                assert (spec, config, folder, named) == (run.config.sampler, run.config, run.path, {"purpose": 1})
                assert sampler.is_closed
                assert sampler.of.num_spins == 8

    return call


def test_it_is_drawn_and_the_sampler_closed(drawn):
    assert drawn(Preparing()) is not None


def test_a_sampler_that_fails_is_closed(drawn):
    sampler = Preparing(SamplerError("no machine"))
    with pytest.raises(SamplerError, match="no machine"):
        drawn(sampler)
    assert sampler.is_closed


def test_of_a_sampler_without_a_circuit_there_is_none(drawn):
    assert drawn(None, kind=object) is None
