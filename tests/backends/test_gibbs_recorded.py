"""When a sampler's calls are recorded on CUDA; that what is played again is right is tested where there is a GPU."""

import copy
import pickle

import pytest
import torch

import qvae
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.ising.recorded import CALLS_BEFORE

GRAPH = graphs.rbm(2, 3)


@pytest.fixture
def recordings(monkeypatch):
    """How often a call was to be recorded, which never succeeds here."""
    asked = []
    monkeypatch.setattr("qvae.ising.recorded.records", lambda device: True)
    monkeypatch.setattr("qvae.ising.recorded.CALLS_BETWEEN", 0)
    monkeypatch.setattr("qvae_backends.gibbs_recorded.record", lambda works, generator: asked.append(len(works)))
    return asked


def moments(sampler, calls, chains=20, graph=GRAPH, dtype=torch.float32):
    for _ in range(calls):
        sampler.moments(IsingHamiltonian(torch.zeros(5), graph, torch.randn(6)).to(dtype=dtype), chains)


def gibbs(**options):
    pytest.importorskip("numba")  # only states in int8 are moved in place
    return qvae.load_sampler("gibbs", sweeps=2, burn_in=2, seed=0, **options)


def test_calls_are_recorded_once_they_have_been_the_same_for_a_while(recordings):
    sampler = gibbs()
    moments(sampler, 1 + CALLS_BEFORE)  # the first one starts the chains
    assert recordings == []
    moments(sampler, 1)
    assert recordings == [1]
    moments(sampler, 5)
    assert recordings == [1]


CHANGES = {"chains": {"chains": 10}, "graph": {"graph": graphs.rbm(2, 3)}, "type": {"dtype": torch.float64}}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_others_are_recorded_anew(change, recordings):
    sampler = gibbs()
    moments(sampler, 2 + CALLS_BEFORE)
    moments(sampler, 1 + CALLS_BEFORE - ("dtype" in change), **change)
    assert recordings == [1]
    moments(sampler, 1, **change)
    assert recordings == [1, 1]


def test_another_number_of_sweeps_is_recorded_anew(recordings):
    sampler = gibbs()
    moments(sampler, 2 + CALLS_BEFORE)
    sampler.sweeps = 5
    moments(sampler, CALLS_BEFORE)
    assert recordings == [1]
    moments(sampler, 1)
    assert recordings == [1, 1]


@pytest.mark.parametrize("options", [{"tempering": 2}, {"persistent": False}, {"annealing": 2, "persistent": False}], ids=str)
def test_chains_that_start_afresh_or_change_places_are_not(options, recordings):
    moments(gibbs(**options), 8)
    assert recordings == []


def test_copies_record_for_themselves(recordings):
    sampler = gibbs()
    moments(sampler, 2 + CALLS_BEFORE)
    for twin in (copy.deepcopy(sampler), pickle.loads(pickle.dumps(sampler))):
        recordings.clear()
        moments(twin, 2 + CALLS_BEFORE)
        assert recordings == [1]
        assert twin._recorded._call.__self__ is twin
