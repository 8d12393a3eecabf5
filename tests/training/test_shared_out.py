"""What processes share out and put together, in one process: the others' numbers are made up, and the outcome is by hand."""

from types import SimpleNamespace

import pytest
import torch

from qvae.errors import ConfigError, RanksError
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.sampler import Capabilities, Moments, Samples
from qvae.training import pulse, ranks
from qvae.training.objectives import sharing
from qvae.training.rank_states import fitting, own_state

SPINS = torch.tensor([[1, -1], [1, 1], [-1, 1]], dtype=torch.int8)
PAIR = IsingHamiltonian([0.1, 0.2], [(0, 1)], [0.3])


@pytest.fixture
def three(monkeypatch):
    """This is the second of three processes."""
    monkeypatch.setattr(ranks, "_count", 3)
    monkeypatch.setattr(ranks, "_number", 1)


def sampler(remote=False, found=None):
    return SimpleNamespace(
        capabilities=Capabilities(remote=remote), is_lent=False, sample=lambda hamiltonian, share: found, asked=[]
    )


def test_rows_of_a_batch_are_shared_out_in_the_order_of_the_processes(three):
    assert ranks.own_part(torch.arange(12)).tolist() == [4, 5, 6, 7]
    ranks.require_equal_parts(12)
    with pytest.raises(ConfigError, match="a batch of 13 rows can't be shared out among 3 processes"):
        ranks.require_equal_parts(13)


def test_chains_are_shared_out_unless_the_first_process_asks_for_all(three):
    assert sharing.share_of(12, sampler()) == 4
    assert sharing.share_of(13, sampler(remote=True)) == 13
    with pytest.raises(ConfigError, match="13 chains can't be shared out among 3 processes"):
        sharing.share_of(13, sampler())


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 0.25, 0.25])])
def test_samples_of_all_processes_stand_one_after_another_and_weigh_as_much(three, monkeypatch, weights):
    others = [(-SPINS, None if weights is None else weights.flip(0)), (SPINS[:1].expand(3, -1), weights)]
    monkeypatch.setattr(ranks, "gathered", lambda mine: [others[0], mine, others[1]])
    found = sharing.samples_of_all(sampler(found=Samples(SPINS, weights, {"sweeps": 5})), PAIR, 3)
    assert torch.equal(found.spins, torch.cat([-SPINS, SPINS, others[1][0]]))
    assert found.info["sweeps"] == 5
    if weights is None:
        assert found.weights is None
    else:
        expected = torch.cat([weights.flip(0), weights, weights]) / 3
        torch.testing.assert_close(found.weights, expected, check_dtype=False)
        assert float(found.weights.sum()) == pytest.approx(1)


def test_moments_of_the_first_process_are_everybody_s(three, monkeypatch):
    told = Moments(torch.tensor([0.5, -0.5]), torch.tensor([0.25]), {"qpu_seconds": 2.0})
    monkeypatch.setattr(ranks, "first_does", lambda work: [told.spins, told.pairs])
    found = sharing.moments_of_first(lambda: pytest.fail("this process has nothing to ask"), PAIR)
    assert (found.spins.tolist(), found.pairs.tolist(), dict(found.info)) == ([0.5, -0.5], [0.25], {})
    monkeypatch.setattr(ranks, "first_does", lambda work: work())
    assert sharing.moments_of_first(lambda: told, PAIR) is told


STATE = {"model": 1, "step": 2, "generator": 3, "sampler": 4, "monitor": 5, "first": {"watch": 6, "generator": 7}}
OWN = {"generator": 13, "sampler": 14, "monitor": 15, "first": {"generator": 17}}
MINE = {"generator": 23, "sampler": 24, "monitor": 25, "first": {"generator": 27}}


def test_each_process_goes_on_with_what_was_its_own(three, monkeypatch):
    assert own_state(STATE) == {"generator": 3, "sampler": 4, "monitor": 5, "first": {"generator": 7}}
    saved, said = {**STATE, "ranks": [OWN, MINE]}, []
    found = fitting(saved, lambda: pytest.fail("all is in the checkpoint"), "cpu", said.append)
    assert {key: found[key] for key in STATE} == {**STATE, **OWN, "first": {"watch": 6, "generator": 17}}
    monkeypatch.setattr(ranks, "_number", 2)
    assert fitting(saved, dict, "cpu", said.append)["first"] == {"watch": 6, "generator": 27}
    monkeypatch.setattr(ranks, "_number", 0)
    assert fitting(saved, dict, "cpu", said.append) is saved
    assert said == []


def test_of_another_number_of_processes_random_numbers_are_fresh_and_open_figures_go_on(three):
    said = []
    found = fitting({**STATE, "ranks": [OWN]}, lambda: {**STATE, **MINE}, "cpu", said.append)
    assert {key: found[key] for key in STATE} == {**STATE, **MINE, "monitor": 5, "first": {"watch": 6, "generator": 27}}
    assert said[0].startswith("this checkpoint is of 2 processes and goes on with 3: with fresh chains")
    fitting(STATE, lambda: STATE, "cpu", said.append)
    assert said[1].startswith("this checkpoint is of 1 process and goes on with 3")


def test_weights_that_have_drifted_apart_are_seen_and_those_that_are_rounded_are_made_the_same(three, monkeypatch):
    taken, weights = [], [torch.ones(3), torch.full((2,), 0.5)]  # of the squared size 3.5
    monkeypatch.setattr(ranks, "take_first_", taken.extend)
    monkeypatch.setattr(ranks, "highest", lambda sizes: [sizes[0] + 1e-7, sizes[1]])
    ranks.require_same_weights(weights, "Mine")
    assert [each is weight for each, weight in zip(taken, weights, strict=True)] == [True, True]
    monkeypatch.setattr(ranks, "highest", lambda sizes: [sizes[0], sizes[1] + 1e-4])
    with pytest.raises(RanksError, match="have drifted apart: Mine must call"):
        ranks.require_same_weights(weights, "Mine")


def test_the_process_that_is_silent_for_longest_is_missed():
    """Looks at two others, of which one gives no sign after its third, and the other none where the store isn't there."""
    looks, given = [], []

    class Store:
        def set(self, key, value):
            given.append((key, value))

        def multi_get(self, keys):
            looks.append(keys)
            if len(looks) == 2:
                raise RuntimeError("the store is gone")
            return [str(min(len(looks), 3)).encode(), str(len(looks)).encode()]

    def missed_after(turns):
        looks.clear()
        given.clear()
        found = object.__new__(pulse.Pulse)
        found._store, found._mine, found._others = Store(), "pulse 0", {1: "pulse 1", 2: "pulse 2"}
        found._last, found._silent = {1: b"", 2: b""}, {1: 0, 2: 0}
        turns = iter([False] * turns + [True])
        found._stop = SimpleNamespace(wait=lambda seconds: next(turns))
        found._beat()
        return found.missed

    assert missed_after(3 + 9) is None  # one that is late, or even stopped for a while, isn't missed
    assert missed_after(3 + 10) == 1
    assert pulse.PATIENCE == 50  # seconds, as the error says
    assert given[:2] == [("pulse 0", "1"), ("pulse 0", "2")]
    assert set(map(tuple, looks)) == {("pulse 1", "pulse 2")}


def test_a_checkpoint_goes_on_on_another_kind_of_device_with_fresh_chains(monkeypatch):
    said = []
    monkeypatch.setattr(ranks, "count", lambda: 1)
    for saved, device in ((STATE, "cuda"), (STATE | {"device": "cuda"}, "cpu")):
        found = fitting(saved, lambda: {**STATE, **MINE}, device, said.append)
        assert {key: found[key] for key in STATE} == {**STATE, **MINE, "monitor": 5, "first": {"watch": 6, "generator": 27}}
        assert said.pop().startswith(f"this checkpoint goes on with {device}, where it was not saved: with fresh chains")
    same = STATE | {"device": "cuda"}
    assert fitting(same, lambda: pytest.fail("all is in the checkpoint"), "cuda", said.append) is same
    assert not said
