"""A paid sampler of somebody else: what it gets without a line of its own."""

import json
import math
import os
from typing import Annotated

import pytest
import torch
from pydantic import Field

from qvae.errors import BudgetExhausted, CapabilityError, RunError, SamplerError
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.sampling.abilities import KeepsFiles, Metered, Remote, Structured, native_graph
from qvae.sampling.metering import Fault, Meter
from qvae.sampling.sampler import Samples, SeededSampler

PAIR = IsingHamiltonian([0.1, -0.2], [(0, 1)], [0.5])
PRICE = 0.01  # seconds a sample


class Coins(Metered, SeededSampler):
    """Coins at a price: a device of its own is all that an author writes."""

    @checked_options
    def __init__(self, max_seconds: Annotated[float, Field(gt=0)] | None = None, retries: int = 2, seed: int | None = None):
        super().__init__(seed)
        self.meter = Meter(max_seconds, "max_seconds", "coins.json", retries, retry_seconds=1e-3)
        self.faults, self.asked = [], 0

    def price(self, hamiltonian, num_samples):
        return PRICE * num_samples

    def _sample(self, hamiltonian, num_samples):
        before = self.meter.own_seconds
        spins = self.pay(self.price(hamiltonian, num_samples), lambda: self._device(num_samples, hamiltonian.num_spins))
        return Samples(spins, info={"qpu_seconds": self.meter.own_seconds - before})

    def _device(self, reads, num_spins):
        self.asked += 1
        if self.faults:
            raise self.faults.pop(0)
        bits = torch.randint(2, (reads, num_spins), generator=self.generator(torch.device("cpu")), dtype=torch.int8)
        return 2 * bits - 1, PRICE * reads


def ledger(folder):
    return json.loads((folder / "coins.json").read_text())


def test_a_call_that_the_budget_does_not_cover_is_refused_before_it_is_made():
    sampler = Coins(max_seconds=0.25)
    for _ in range(2):
        assert sampler.sample(PAIR, 10).info.qpu_seconds == pytest.approx(0.1)
    with pytest.raises(BudgetExhausted, match=r"0\.200 of 0\.25 s .* about 0\.100 s: raise sampler\.options\.max_seconds"):
        sampler.sample(PAIR, 10)
    assert sampler.asked == 2
    assert sampler.budget_share == pytest.approx(0.8)
    assert len(sampler.sample(PAIR, 5)) == 5
    assert Coins().budget_share == 0


def test_a_price_is_booked_before_it_is_spent_and_set_right_after(tmp_path):
    sampler, seen = Coins(), []
    sampler.attach(tmp_path)
    device = sampler._device
    sampler._device = lambda *a: (seen.append(ledger(tmp_path)["qpu_seconds"]), (device(*a)[0], 0.03))[1]
    sampler.sample(PAIR, 10)
    assert seen == [pytest.approx(0.1)]
    assert ledger(tmp_path)["qpu_seconds"] == pytest.approx(0.03)
    assert ledger(tmp_path)["submissions"] == 1


@pytest.mark.parametrize(("has_run", "cost"), [(False, 0.1), (True, 0.2)])
def test_a_fault_that_passes_is_repeated_and_its_price_given_back_if_nothing_ran(has_run, cost):
    sampler = Coins(max_seconds=1.0)
    sampler.faults = [Fault("the queue is full", helps_to_repeat=True, has_run=has_run)]
    assert len(sampler.sample(PAIR, 10)) == 10
    assert (sampler.asked, sampler.meter.seconds) == (2, pytest.approx(cost))


def test_faults_that_stay_are_said_with_the_remedy():
    sampler = Coins()
    sampler.faults = [Fault("the queue is full", helps_to_repeat=True) for _ in range(3)]
    with pytest.raises(SamplerError, match=r"'Coins' gave no samples, after 3 attempts: the queue is full\. Go on .*gibbs"):
        sampler.sample(PAIR, 10)
    sampler.faults = [Fault("it is broken", helps_to_repeat=False)]
    with pytest.raises(SamplerError, match="'Coins' gave no samples: it is broken"):
        sampler.sample(PAIR, 10)
    assert (sampler.asked, sampler.meter.seconds) == (4, 0)


def test_pauses_double_and_a_meter_repeats_three_times_from_a_second_on(monkeypatch):
    pauses = []
    monkeypatch.setattr("qvae.sampling.metering.time.sleep", pauses.append)

    def busy():
        raise Fault("busy", helps_to_repeat=True)

    with pytest.raises(Fault) as told:
        Meter(None).pay(0.1, busy)
    assert (pauses, told.value.attempts) == ([1.0, 2.0, 4.0], 4)
    pauses.clear()
    with pytest.raises(Fault):
        Meter(None, retries=1, retry_seconds=0.5).pay(0.1, busy)
    assert pauses == [0.5]


def test_a_share_is_of_what_is_not_kept_back_and_no_more_than_all_of_it():
    meter = Meter(2.0)
    meter.keep_back(0.5)
    meter.pay(0.75, lambda: (None, 0.75))
    assert (meter.allowance, meter.share) == (1.5, 0.5)
    meter.set_right(1.8)
    assert (meter.share, meter.seconds, meter.calls) == (1.0, 1.8, 1)
    assert (Meter(None).share, Meter(None).allowance) == (0.0, None)
    assert Meter(0.0).budget == 0.0
    with pytest.raises(ValueError, match=r"max_qpu_seconds is -0\.1; it must be 0 or more"):
        Meter(-0.1)


def test_two_samplers_of_a_run_folder_share_the_budget_which_outlives_them(tmp_path):
    samplers = [Coins(max_seconds=0.35), Coins(max_seconds=0.35)]
    for sampler in samplers:
        sampler.attach(tmp_path)
        sampler.sample(PAIR, 10)
    samplers[0].sample(PAIR, 10)
    with pytest.raises(BudgetExhausted):
        samplers[1].sample(PAIR, 10)
    later = Coins()  # has no budget of its own
    later.attach(tmp_path)
    with pytest.raises(BudgetExhausted):
        later.sample(PAIR, 10)


def test_what_is_kept_back_is_left_for_later_and_the_plan_says_so():
    sampler = Coins(max_seconds=1.0)
    assert sampler.plan(PAIR, 10) == {"qpu_seconds": pytest.approx(0.1), "budget": 1.0}
    sampler.keep_back(PAIR, 30)
    assert sampler.plan(PAIR, 10)["budget"] == pytest.approx(0.67)
    sampler.keep_back(PAIR, 1000)  # no more than half
    assert sampler.plan(PAIR, 10)["budget"] == 0.5
    with pytest.raises(BudgetExhausted, match="0.500 s are kept back"):
        sampler.sample(PAIR, 60)
    assert Coins().plan(PAIR, 10) == {"qpu_seconds": pytest.approx(0.1)}
    assert sampler.asked == 0


def test_a_call_of_several_parts_is_covered_as_a_whole_or_not_begun(tmp_path):
    meter = Meter(0.5)
    meter.attach(tmp_path)
    meter.require(0.5)
    with pytest.raises(BudgetExhausted):
        meter.require(0.6)
    Meter(math.inf).require(1e9)
    assert meter.seconds == 0


def test_what_a_sampler_spends_itself_is_told_from_what_the_folder_has_spent(tmp_path):
    first, second = Meter(None), Meter(None)
    for meter, seconds in ((first, 0.5), (second, 0.25), (first, 0.125)):
        meter.attach(tmp_path)
        meter.pay(0.1, lambda seconds=seconds: (None, seconds))
    assert (first.own_seconds, first.seconds) == (0.625, 0.875)
    assert (second.own_seconds, second.seconds) == (0.25, 0.75)


def test_the_ledger_keeps_notes_of_all(tmp_path):
    first, second = Meter(None), Meter(None)
    for number, meter in enumerate((first, second)):
        meter.attach(tmp_path)
        meter.notes["betas"] = {f"mode {number}": number}
        meter.pay(0.1, lambda: (None, 0.1))
    assert first.read()["betas"] == {"mode 0": 0, "mode 1": 1}


def test_who_goes_on_in_a_folder_has_spent_and_asked_what_the_books_say_or_more(tmp_path):
    """A run that was resumed knows as much as its checkpoint, and its folder may know of more, or have lost its books."""
    first = Meter(None)
    first.attach(tmp_path)
    for seconds in (0.5, 0.25):
        first.pay(0.1, lambda seconds=seconds: (None, seconds))
    for seconds, calls, expected in ((0.1, 1, (0.75, 2)), (2.0, 9, (2.0, 9))):
        later = Meter(None)
        later.seconds, later.calls = seconds, calls
        later.attach(tmp_path)
        assert (later.seconds, later.calls) == expected
    later = Meter(None)
    later.seconds, later.calls = 0.3, 4
    later.attach(tmp_path / "nowhere")
    assert (later.seconds, later.calls) == (0.3, 4)


BROKEN = [
    "", "{", "[]", "{}", "null",
    '{"qpu_seconds": -1}', '{"qpu_seconds": NaN}', '{"qpu_seconds": Infinity}', '{"qpu_seconds": "0"}',
    '{"qpu_seconds": true}', '{"qpu_seconds": 0, "submissions": -5}', '{"qpu_seconds": 0, "max_qpu_seconds": NaN}',
    '{"qpu_seconds": 0, "betas": 3}',
]  # fmt: skip


@pytest.mark.parametrize("budget", [None, 5.0])
@pytest.mark.parametrize("content", BROKEN)
def test_a_damaged_ledger_counts_as_spent_until_it_is_deleted(tmp_path, content, budget):
    (tmp_path / "coins.json").write_text(content)
    sampler = Coins(max_seconds=budget)
    sampler.attach(tmp_path)
    with pytest.raises(BudgetExhausted, match=r"the ledger .*coins\.json is damaged.* delete that file.*max_seconds"):
        sampler.sample(PAIR, 10)
    assert sampler.asked == 0
    assert (tmp_path / "coins.json").read_text() == content
    (tmp_path / "coins.json").unlink()
    assert len(sampler.sample(PAIR, 10)) == 10


@pytest.mark.parametrize("seconds", [-1.0, math.nan, math.inf])
def test_an_answer_of_negative_or_no_time_is_a_fault_and_its_price_is_spent(seconds):
    meter = Meter(1.0)
    with pytest.raises(Fault, match="the answer says that it took"):
        meter.pay(0.1, lambda: ("answer", seconds))
    assert meter.seconds == pytest.approx(0.1)
    with pytest.raises(Fault, match="its price is said to be"):
        meter.pay(seconds, lambda: pytest.fail("asked"))
    assert meter.seconds == pytest.approx(0.1)


def test_no_number_is_no_budget():
    with pytest.raises(ValueError, match="max_qpu_seconds is nan"):
        Meter(math.nan)


def test_a_price_is_on_the_disk_before_the_call(tmp_path, monkeypatch):
    order, sync = [], os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("synced"), sync(descriptor)))
    meter = Meter(1.0)
    meter.attach(tmp_path)
    meter.pay(0.1, lambda: (order.append("called"), 0.1))
    assert order[0] == "synced"
    assert order[-1] == "called"  # the answer isn't waited for: without it more is booked than was spent


def test_links_in_a_run_folder_are_not_followed(tmp_path):
    for name in ("start-file", "other"):
        (tmp_path / name).write_text("mine")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / ".ledger.json.part").symlink_to(tmp_path / "start-file")
    (folder / ".ledger.json.lock").symlink_to(tmp_path / "other")
    meter = Meter(1.0)
    meter.attach(folder)
    with pytest.raises(RunError, match=r"\.ledger\.json\.lock can't be opened"):
        meter.pay(0.1, lambda: (None, 0.1))
    (folder / ".ledger.json.lock").unlink()
    meter.pay(0.1, lambda: (None, 0.1))
    assert [(tmp_path / name).read_text() for name in ("start-file", "other")] == ["mine", "mine"]


# Other abilities ------------------------------------------------------------------------------------------------------


class Ring(Structured, SeededSampler):
    """Hardware whose units stand in a ring."""

    def native_graph(self, num_spins):
        return graphs.edge_list([(k, (k + 1) % num_spins) for k in range(num_spins)])

    def _sample(self, hamiltonian, num_samples):
        return Samples(torch.ones(num_samples, hamiltonian.num_spins, dtype=torch.int8))


def test_a_sampler_without_a_graph_says_who_has_one():
    assert native_graph(Ring(), 5).num_edges == 5
    with pytest.raises(CapabilityError, match=r"'Coins' has no hardware graph, .*; name a sampler that has one, as dwave"):
        native_graph(Coins(), 5)


def test_an_embedding_is_kept_for_its_graph_and_its_device(tmp_path):
    sampler, graph = Ring(), graphs.complete(3)
    sampler.keep_chains("ring", graph, [[0], [1, 2], [3]])  # nowhere
    sampler.attach(tmp_path)
    assert sampler.kept_chains("ring", graph) is None
    sampler.keep_chains("ring", graph, [[0], [1, 2], [3]])
    again = Ring()
    again.attach(tmp_path)
    assert again.kept_chains("ring", graph) == [[0], [1, 2], [3]]
    assert again.kept_chains("another", graph) is None
    assert again.kept_chains("ring", graphs.complete(4)) is None


NO_CHAINS = ["[[0], [1.5]]", "[[0], [true]]", '[[0], ["1"]]', "[[0], []]", "[[0], 1]", "7", f"[[{2**31}]]"]


@pytest.mark.parametrize("chains", NO_CHAINS)
def test_chains_that_are_no_lists_of_units_are_none(chains, tmp_path):
    """Whoever wrote the file may have meant harm: what it names is looked at."""
    sampler, graph = Ring(), graphs.complete(2)
    sampler.attach(tmp_path)
    sampler.keep_chains("ring", graph, [[0], [1, 2]])
    (file,) = tmp_path.glob("embedding.json")
    file.write_text(file.read_text().replace("[[0], [1, 2]]", chains))
    assert sampler.kept_chains("ring", graph) is None


def test_a_remote_sampler_works_in_the_background():
    class Far(Remote, Ring):
        def describe(self):
            return {"where": "far away"}

        def _sample(self, hamiltonian, num_samples):
            if num_samples == 13:
                raise RuntimeError("no.")
            return super()._sample(hamiltonian, num_samples)

    assert isinstance(Far(), KeepsFiles)
    assert len(Far().submit(PAIR, 5).result(timeout=60)) == 5
    with pytest.raises(SamplerError, match="'Far' failed with RuntimeError: no"):
        Far().submit(PAIR, 13).result(timeout=60)
