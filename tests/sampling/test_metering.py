"""A paid sampler of somebody else: what it gets without a line of its own."""

import json
import math
from typing import Annotated

import pytest
import torch
from pydantic import Field

from qvae.config.load import parse_backend
from qvae.errors import BudgetExhausted, CapabilityError, SamplerError
from qvae.ising import graphs
from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.options import checked_options
from qvae.sampling.abilities import KeepsFiles, Metered, Remote, Structured, native_graph
from qvae.sampling.make import make_sampler
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


def test_the_ledger_keeps_notes_of_all_and_a_damaged_one_begins_anew(tmp_path):
    first, second = Meter(None), Meter(None)
    for number, meter in enumerate((first, second)):
        meter.attach(tmp_path)
        meter.notes["betas"] = {f"mode {number}": number}
        meter.pay(0.1, lambda: (None, 0.1))
    assert first.read()["betas"] == {"mode 0": 0, "mode 1": 1}
    (tmp_path / "ledger.json").write_text('{"qpu_sec')
    assert first.read() == {}
    first.pay(0.1, lambda: (None, 0.1))
    assert first.read()["submissions"] == 2


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


# Making ---------------------------------------------------------------------------------------------------------------


def test_a_specification_is_made_in_one_place_with_its_seed_and_its_files(tmp_path):
    spec = parse_backend(f"{__name__}:Coins:max_seconds=0.5")
    sampler = make_sampler(spec, 7, tmp_path)
    assert (sampler.seed, sampler.meter.budget, sampler.folder) == (7, 0.5, tmp_path)
    assert make_sampler(parse_backend("gibbs:sweeps=2,seed=3"), 4).seed == 4
    assert make_sampler(parse_backend("exact"), None, tmp_path).seed is not None
    with pytest.raises(SamplerError, match="max_seconds is 0; it must be a number above 0"):
        make_sampler(parse_backend(f"{__name__}:Coins:max_seconds=0"), 7)
