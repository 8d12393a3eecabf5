"""Whether seeds, states and pickles make two backends agree; and results, reports and dense states by hand."""

import itertools
import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.errors import SamplerError
from qvae.sampling.registered import SAMPLERS
from qvae.sampling.sampler import LatentSampler
from qvae.testing.copies import Subject, _same_state, _travelled
from qvae.testing.dense import dense_expectation, dense_state
from qvae.testing.results import CheckResult, ConformanceError, ConformanceReport, Skipped, run_check

_OTHERS = itertools.count(1)  # what nobody draws again


class Counter(LatentSampler):
    """Draws seed + number of calls; the state is that number. What it does wrong is in ``fault``."""

    fault = ""
    is_remote = False

    def __init__(self, seed=0, width=1):
        self.seed, self.width, self.calls, self.name = seed, width, 0, "counter"

    @property
    def capabilities(self):
        return SimpleNamespace(remote=self.is_remote)

    def _sample(self, hamiltonian, num_samples):
        raise NotImplementedError

    def draw(self):
        self.calls += 1
        slip = self.fault == "late" and self.calls == 2
        return torch.tensor([100 * self.seed + self.calls + (next(_OTHERS) if slip or self.fault == "random" else 0)])

    def state_dict(self):
        return {} if self.fault == "stateless" else {"seed": self.seed, "calls": self.calls}

    def load_state_dict(self, state):
        if self.fault != "forgets":
            self.seed, self.calls = state["seed"], state["calls"] + (self.fault == "counts")

    def __getstate__(self):
        return self.__dict__ | (
            {"calls": 0} if self.fault == "starts anew" else {"name": ""} if self.fault == "nameless" else {}
        )


def subject(fault="", backend=Counter, remote=False, **options):
    Counter.fault, Counter.is_remote = fault, remote
    return Subject(SAMPLERS, LatentSampler, backend, options, Counter.draw)


@pytest.mark.parametrize(
    ("fault", "remote", "check", "error", "message"),
    [
        ("", False, Subject.same_seed, None, ""),
        ("random", False, Subject.same_seed, AssertionError, "^two samplers with seed=5 returned different samples$"),
        ("late", False, Subject.same_seed, AssertionError, "two samplers with seed=5"),  # in their second calls
        ("", True, Subject.same_seed, Skipped, "it is remote: hardware doesn't repeat itself"),
        ("", False, Subject.another_seed, None, ""),
        ("", False, Subject.state, None, "holds calls, seed"),
        ("stateless", False, Subject.state, Skipped, "it keeps no state"),
        ("forgets", False, Subject.state, AssertionError, "state_dict right after load_state_dict isn't what was loaded"),
        ("counts", False, Subject.state, AssertionError, "state_dict right after load_state_dict isn't what was loaded"),
        ("late", False, Subject.state, AssertionError, "samples after load_state_dict differ from those of the sampler it was"),
        ("late", True, Subject.state, None, "holds calls, seed"),
        ("", False, Subject.pickles, None, ""),
        ("nameless", False, Subject.pickles, AssertionError, "the copy's name is '', not 'counter'"),
        ("starts anew", False, Subject.pickles, AssertionError, "samples of a pickled copy differ from those of the sampler"),
        ("starts anew", True, Subject.pickles, None, ""),
        ("stateless", False, Subject.pickles, None, ""),
    ],
)
def test_each_check_refuses_its_fault(fault, remote, check, error, message):
    tried = subject(fault, remote=remote)
    if error is None:
        assert check(tried) == message
    else:
        with pytest.raises(error, match=message):
            check(tried)


class Wakes(Counter):
    """A copy of it can't draw."""

    def __setstate__(self, state):
        self.__dict__ = state | {"calls": None}


def test_a_copy_without_state_is_used_all_the_same():
    with pytest.raises(TypeError, match="NoneType"):
        subject("stateless", Wakes).pickles()


def test_seeds_go_to_those_that_take_them():
    assert subject().make(3).seed == 3
    assert subject(seed=8).make(3).seed == 8  # said by the user
    assert subject(seed=8).seeded(3).seed == 3  # but the checks of seeds have their own
    assert (subject(width=5).make(3).width, subject(width=5).seeded(3).width) == (5, 5)
    original = Counter(seed=9)
    copy = subject(backend=original).make(3)
    assert (copy.seed, copy is original) == (9, False)
    for backend in (original, lambda: Counter(4)):
        for check in (Subject.same_seed, Subject.another_seed):
            with pytest.raises(Skipped, match="it takes no seed, or was handed over as an object"):
                check(subject(backend=backend))
    assert subject(backend=lambda: Counter(4)).make(3).seed == 4
    assert subject(backend=lambda seed: Counter(seed)).make(3).seed == 3
    assert subject(backend="gibbs", sweeps=7).make(3).seed == 3
    with pytest.raises(AssertionError, match="samplers with seed=5 and seed=6 returned the same samples"):
        subject(backend=lambda seed: Counter(1)).another_seed()


def test_a_state_travels_as_a_checkpoint_s_does():
    tensor = torch.ones(2, requires_grad=True)
    state = {"a": tensor, "b": [1, 2.5, None, True, "x", {"c": [tensor]}]}
    found = _travelled(state, "state_dict()")
    assert not found["a"].requires_grad
    assert found["a"].data_ptr() != tensor.data_ptr()
    assert found["b"][:5] == [1, 2.5, None, True, "x"]
    assert _same_state(found, state)
    for value, message in (
        ({"a": {3: 1}}, r"state_dict\(\)\['a'\] has the key \[3\], which is no text"),
        ({"a": [0, (1, 2)]}, r"state_dict\(\)\['a'\]\[1\] is a tuple; a state holds tensors, dicts, lists, numbers, texts"),
        ({"a": np.float64(1)}, r"state_dict\(\)\['a'\] is a float64"),
        ({"a": b"x"}, "is a bytes"),
    ):
        with pytest.raises(AssertionError, match=message):
            _travelled(value, "state_dict()")


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (torch.ones(2), torch.ones(2), True),
        (torch.ones(2), torch.tensor([1.0, 2.0]), False),
        (torch.ones(()), 1.0, False),
        (1.0, torch.ones(()), False),
        ({"a": 1}, {"a": 1, "b": 2}, False),
        ({"a": 1, "b": 2}, {"a": 1, "b": 3}, False),
        ({"a": torch.ones(1)}, {"a": torch.zeros(1)}, False),
        ([1, 2], [1, 2], True),
        ([1, 2], [1, 2, 3], False),
        ([1, 2, 3], [1, 2], False),
        ([1, torch.ones(1)], [1, torch.zeros(1)], False),
        ({}, [], False),
        ("a", "b", False),
    ],
)
def test_states_are_compared_to_the_last_number(first, second, same):
    assert _same_state(first, second) is same


def test_results_and_reports():
    def raises(error, cause=None):
        def check(*_):
            raise error from cause

        return check

    ours, theirs = SamplerError("sampler 'x' failed."), KeyError("qubits")
    for check, outcome, detail in (
        (lambda a, b: f"{a} and {b}", "passed", "1 and 2"),
        (raises(Skipped("no such device")), "skipped", "no such device"),
        (raises(AssertionError("off by 3")), "failed", "off by 3"),
        (raises(ours, theirs), "failed", "raised KeyError: 'qubits'"),
        (raises(ours, SamplerError("another of ours.")), "failed", "raised SamplerError: sampler 'x' failed."),
        (raises(SamplerError("alone.")), "failed", "raised SamplerError: alone."),
        (raises(ValueError("two\n  lines"), OSError("below")), "failed", "raised ValueError: two lines"),
    ):
        found = run_check("name", check, 1, 2)
        assert (found.name, found.outcome, found.detail) == ("name", outcome, detail)
    results = [CheckResult("a", "passed"), CheckResult("b", "failed", "off by 3"), CheckResult("c", "skipped", "why")]
    report = ConformanceReport(results)
    assert str(report) == "passed  a\nfailed  b: off by 3\nskipped  c: why"
    assert report.failures == results[1:2]
    error = ConformanceError(report)
    assert str(error) == "1 of 3 checks failed:\n  b: off by 3"
    assert error.report is report


def test_dense_states_by_hand():
    """Qubit 0 is the lowest bit of an index, and the last letter of a label; a gate's first qubit is its own lowest bit."""
    root = 1 / math.sqrt(2)
    gates = [Gate("h", (0,)), Gate("cx", (0, 2)), Gate("ry", (1,), (Affine(0, 2.0, 0.5),))]
    state = dense_state(Circuit(3, gates, 1), torch.tensor([0.3]))
    cos, sin = math.cos(0.55), math.sin(0.55)
    expected = np.zeros(8)
    expected[[0b000, 0b101, 0b010, 0b111]] = root * np.array([cos, cos, sin, sin])
    assert state == pytest.approx(expected)
    assert dense_expectation(state, [("IZI", 1.0)]) == pytest.approx(math.cos(1.1))
    assert dense_expectation(state, [("IXI", 2.0), ("III", 0.25)]) == pytest.approx(2 * math.sin(1.1) + 0.25)
    assert dense_expectation(state, [("ZIZ", 1.0)]) == pytest.approx(1)
    assert dense_expectation(state, [("YIY", 1.0)]) == pytest.approx(-1)
    assert dense_expectation(state, [("YIX", 1.0)]) == pytest.approx(0)
    turned = dense_state(Circuit(1, [Gate("rx", (0,), (0.4,))]), torch.zeros(0))  # about x, from z to -y
    assert dense_expectation(turned, [("Y", 1.0)]) == pytest.approx(-math.sin(0.4))
