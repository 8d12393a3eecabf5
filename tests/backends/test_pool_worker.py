"""What a worker does with orders, in this process: shares begin, go on, are lost, handed over and forgotten."""

import pickle
from types import SimpleNamespace

import pytest
import torch
from qvae_backends import pool_worker
from qvae_backends.pool_worker import Order, Origin, draw, forget, state

from qvae.config.backends import BackendSpec
from qvae.errors import SamplerError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.registry import load_sampler

PAIR = IsingHamiltonian([0.5, -1.0], [(0, 1)], [0.75])
EXACT = BackendSpec(name="exact")


@pytest.fixture(autouse=True)
def now(monkeypatch):
    """The worker's clock, and no shares from before."""
    found = [0.0]
    monkeypatch.setattr(pool_worker, "time", SimpleNamespace(monotonic=lambda: found[0]))
    monkeypatch.setattr(pool_worker, "_shares", {})
    return found


def ask(calls=0, begins=False, key="a", hamiltonian=None, values=PAIR, num_samples=50, moments=False, **others):
    origin = Origin(EXACT, 3) if begins else None
    whole = PAIR if begins and hamiltonian is None else hamiltonian
    numbers = (values.h, values.J, values.gamma)
    answer = draw(pickle.dumps(Order(key, calls, numbers, num_samples, moments, origin, whole, **others)))
    return None if answer is None else pickle.loads(answer)


def test_a_share_goes_on_as_its_sampler_would_and_only_from_where_it_is():
    sampler = load_sampler("exact", seed=3)
    expected = [sampler.sample(PAIR, 50).spins for _ in range(2)]
    assert ask() is None  # nothing has begun
    first = ask(begins=True)
    assert torch.equal(first.found[0], expected[0])
    assert (first.found[1], first.state) == (None, None)
    assert first.info["method"] == "enumeration of 2^2 states"
    assert ask(calls=0) is ask(calls=2) is ask(calls=1, key="b") is None
    assert torch.equal(ask(calls=1).found[0], expected[1])
    moved = PAIR.replace(2 * PAIR.h, -PAIR.J)
    moments = ask(calls=2, values=moved, moments=True).found
    exact = load_sampler("exact").moments(moved, 1)
    assert torch.allclose(moments[0], exact.spins)
    assert torch.allclose(moments[1], exact.pairs)
    other = IsingHamiltonian([0.1, 0.2, 0.3], [], [])
    assert ask(calls=3, hamiltonian=other, values=other).found[0].shape == (50, 3)
    assert ask(calls=4, values=other, num_samples=7).found[0].shape == (7, 3)  # on the graph that was seen last


def test_a_state_is_handed_out_where_the_share_is_what_it_is_taken_for():
    ask(begins=True)
    assert state("a", 0) is state("b", 1) is None
    sampler = load_sampler("exact", seed=3)
    sampler.sample(PAIR, 50)
    assert torch.equal(pickle.loads(state("a", 1))["generator"], sampler.state_dict()["generator"])


def test_a_worker_that_keeps_nothing_hands_the_state_over():
    found = ask(begins=True, returns_state=True)
    assert pool_worker._shares == {}
    sampler = load_sampler("exact", seed=3)
    sampler.sample(PAIR, 50)
    assert torch.equal(found.state["generator"], sampler.state_dict()["generator"])


def test_a_share_that_nobody_asked_for_in_a_day_is_forgotten_when_another_begins(now):
    closed = []
    for key, begun in (("old", 0.0), ("used", 0.0), ("new", 50.0)):
        now[0] = begun
        ask(begins=True, key=key)
        pool_worker._shares[key].sampler.close = lambda key=key: closed.append(key)
    now[0] = 10.0
    ask(calls=1, key="used")
    now[0] = 86_400.0
    ask(begins=True, key="a")
    assert closed == []
    now[0] = 86_405.0
    ask(begins=True, key="b")
    assert closed == ["old"]
    assert set(pool_worker._shares) == {"used", "new", "a", "b"}
    forget("new")
    forget("new")  # which is nothing
    assert closed == ["old", "new"]


def test_what_can_not_be_sent_is_said(monkeypatch):
    ask(begins=True)
    sampler = pool_worker._shares["a"].sampler
    sample = sampler.sample

    def with_a_generator(hamiltonian, num_samples):
        found = sample(hamiltonian, num_samples)
        found.info.extra["it"] = (each for each in ())
        return found

    monkeypatch.setattr(sampler, "sample", with_a_generator)
    with pytest.raises(SamplerError, match=r"what 'exact' tells in info can't be sent from a worker \(.*generator"):
        ask(calls=1)
