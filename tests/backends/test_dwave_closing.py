"""The client's 17 threads go with whoever had it made, also where nobody closes it or it fails on its way."""

import gc
import threading
import time

import pytest
import torch

import qvae
from qvae import workflow
from qvae.errors import CapabilityError, SamplerError
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.runs.plan import plan

RUN = ["sampler.name=dwave", "model.latent.graph=native", "model.latent.sizes=[8]", "model.network.hidden=[4]"]
HAMILTONIAN = IsingHamiltonian(torch.zeros(3), graphs.complete(3), torch.zeros(3))


def number_of_threads():
    """Once those have gone that are on their way."""
    gc.collect()
    found, ended = None, time.monotonic() + 5
    while found != (found := threading.active_count()) or time.monotonic() < ended - 4.8:
        time.sleep(0.05)
        assert time.monotonic() < ended
    return found


def forgotten():
    qvae.load_sampler("dwave").check(HAMILTONIAN)


def closed_twice():
    sampler = qvae.load_sampler("dwave")
    sampler.check(HAMILTONIAN)
    sampler.close()
    sampler.close()


def without_a_solver():
    with pytest.raises(SamplerError, match="no solver"):
        qvae.load_sampler("dwave", solver="none-such").check(HAMILTONIAN)


def planned(tmp_path):
    plan(qvae.load_config("digits", RUN), tmp_path / "run")


def beyond_the_hardware(tmp_path):
    with pytest.raises(CapabilityError, match="hang together"):
        plan(qvae.load_config("digits", [*RUN, "model.latent.sizes=[100000]"]), tmp_path / "run")


def beyond_another_sampler(tmp_path):
    settings = [*RUN, "model.latent.sizes=[30]", "generation.sampler.name=exact"]
    with pytest.raises(CapabilityError, match="at most 20 spins"):
        workflow.train(qvae.load_config("digits", settings), tmp_path / "run")


@pytest.mark.parametrize("work", [forgotten, closed_twice, without_a_solver])
def test_threads_of_samplers(server, work):
    before = number_of_threads()
    work()
    assert number_of_threads() == before


@pytest.mark.parametrize("work", [planned, beyond_the_hardware, beyond_another_sampler])
def test_threads_of_runs(server, work, tmp_path):
    before = number_of_threads()
    work(tmp_path)
    assert number_of_threads() == before


def test_a_wrong_token(server, monkeypatch):
    before = number_of_threads()
    monkeypatch.setenv("DWAVE_API_TOKEN", "DEV-another")
    with pytest.raises(SamplerError, match="the token is not accepted"):
        forgotten()
    assert number_of_threads() == before


def test_all_samplers_of_a_run_that_can_t_be_put_together_are_closed(tmp_path, monkeypatch):
    from qvae_backends.gibbs import GibbsSampler

    closed = []
    monkeypatch.setattr(GibbsSampler, "close", lambda self: closed.append(self))
    settings = ["model.latent.sizes=[15,15]", "training.fallback=gibbs", "generation.sampler.name=exact"]
    with pytest.raises(CapabilityError):
        workflow.train(qvae.load_config("digits", settings), tmp_path / "run")
    assert len(closed) == 2
