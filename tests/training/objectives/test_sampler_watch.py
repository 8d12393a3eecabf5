"""What is seen of a sampler: the memory of its chains, its temperature, what its calls cost."""

import math
from types import SimpleNamespace

import pytest
import torch

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.diagnostics import Estimate
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Capabilities, Samples
from qvae.training.objective import Clock
from qvae.training.objectives import sampler_watch as module
from qvae.training.objectives.sampler_watch import SamplerWatch


def test_chain_memory_tells_mixing_from_stuck_chains():
    watch = SamplerWatch(print)
    generator = torch.Generator().manual_seed(0)
    first, second = (torch.randint(0, 2, (500, 40), generator=generator) * 2 - 1 for _ in range(2))
    assert math.isnan(watch.chain_memory(first))
    assert abs(watch.chain_memory(second)) < 5 / (500 * 40) ** 0.5
    assert watch.chain_memory(second) == pytest.approx(1.0)


def test_the_end_state_of_an_optimizer_raises_the_alarm():
    heard = []
    watch = SamplerWatch(lambda kind, text: heard.append(text))
    pair = IsingHamiltonian([0.0, 0.0], [(0, 1)], [-1.0])
    aligned = Samples(torch.ones(100, 2, dtype=torch.int8))
    found = watch.look(aligned, pair, load_sampler("exact", seed=0), Clock(10, 2, 0.5))
    assert math.isinf(found["effective_beta"])
    assert "effective inverse temperature is inf instead of 1 (epoch 2)" in heard[0]


@pytest.mark.parametrize(("field", "is_told"), [(1.0, True), (0.01, False)])
def test_a_temperature_that_nothing_determines_is_not_told(field, is_told):
    """Of n spins in a field h, the error of beta from R samples is 1 / (h sqrt(n R)) near h = 0: here 0.05 and 5."""
    watch, free = SamplerWatch(print), IsingHamiltonian([field] * 4, [], [])
    sampler = load_sampler("exact", seed=0)
    found = watch.look(sampler.sample(free, 100), free, sampler, Clock(10, 2, 0.5))
    assert math.isfinite(found["effective_beta"]) == math.isfinite(found["effective_beta_stderr"]) == is_told


def test_calls_of_an_epoch_are_averaged_and_their_price_is_added_up():
    watch = SamplerWatch(print)
    watch.record_call({"qpu_seconds": 1.0, "device_beta": 3.0})
    watch.record_call({"qpu_seconds": 2.0, "device_beta": 5.0})
    assert watch.live == {"qpu_seconds": 3.0}
    assert watch.end_epoch() == {"qpu_seconds_per_call": 1.5, "device_beta": 4.0, "qpu_seconds": 3.0}
    watch.record_call({"qpu_seconds": 0.5})
    resumed = SamplerWatch(print)
    resumed.load_state_dict(watch.state_dict())
    assert resumed.end_epoch() == {"qpu_seconds_per_call": 0.5, "qpu_seconds": 3.5}


@pytest.mark.parametrize(
    ("sampling", "rest", "is_said"),
    [(95.0, 5.0, True), (85.0, 15.0, False), (9.5, 0.5, False), (90.0, 10.0, False), (20.0, 0.0, False)],
)
def test_a_sampler_that_takes_nine_tenths_of_a_step_is_said(sampling, rest, is_said):
    heard = []
    watch = SamplerWatch(lambda kind, text: heard.append(text))
    watch.check_times({"ms_forward": rest, "ms_negative_phase": sampling})
    assert [text.split(":")[0] for text in heard] == ["the sampler takes 95 of the 100 ms of a step"] * is_said
    watch.check_times({})


def test_what_a_sampler_knows_of_its_circuit_and_temperature_is_among_the_figures():
    heard = []
    watch = SamplerWatch(lambda kind, text: heard.append(text))
    watch.record_call({"qubits": 6, "depth": 10, "fidelity": 0.9, "two_qubit_gates": "many"})
    watch.record_call({"qubits": 6, "depth": 20, "fidelity": 0.8})
    assert watch.end_epoch() == {"qubits": 6, "depth": 15, "fidelity": pytest.approx(0.85)}
    quantum = IsingHamiltonian([0.0, 0.0], [(0, 1)], [-1.0], 0.5)
    spins = torch.ones(100, 2, dtype=torch.int8)
    sampler = load_sampler("exact", seed=0)
    assert math.isnan(watch.look(Samples(spins), quantum, sampler, Clock(10, 2, 0.5))["effective_beta"])
    told = Samples(spins, info={"effective_beta": 0.51, "effective_beta_stderr": 0.02})
    assert watch.look(told, quantum, sampler, Clock(10, 2, 0.5))["effective_beta"] == 0.51


PAIR = IsingHamiltonian([0.3, -0.2], [(0, 1)], [-1.0])


@pytest.mark.parametrize(("error", "is_kept"), [(0.5, True), (0.51, False)])
def test_a_temperature_is_kept_up_to_an_error_of_a_half(monkeypatch, error, is_kept):
    monkeypatch.setattr(module, "effective_beta", lambda samples, hamiltonian: Estimate(1.5, error))
    samples = Samples(torch.ones(10, 2, dtype=torch.int8))
    found = SamplerWatch(print).look(samples, PAIR, load_sampler("exact"), Clock(10, 2, 0.5))
    assert math.isfinite(found["effective_beta"]) == math.isfinite(found["effective_beta_stderr"]) == is_kept


@pytest.mark.parametrize(("native_beta", "persistent"), [(True, False), (False, True)])
def test_a_look_holds_what_the_sampler_can_not_promise(monkeypatch, native_beta, persistent):
    """An energy's temperature where samples have one of their own, at draws of the step; memory where chains go on."""
    seeds, samples = [], Samples(torch.ones(100, 2, dtype=torch.int8))

    def by_energy(given, hamiltonian, generator):
        assert (given, hamiltonian) == (samples, PAIR)
        seeds.append(generator.initial_seed())
        return Estimate(0.7, 0.05)

    monkeypatch.setattr(module, "effective_beta", lambda given, hamiltonian: Estimate(0.98, 0.01))
    monkeypatch.setattr(module, "energy_matching_beta", by_energy)
    sampler = SimpleNamespace(capabilities=Capabilities(native_beta=native_beta, persistent=persistent))
    found = SamplerWatch(print).look(samples, PAIR, sampler, Clock(11, 2, 0.5))
    expected = {"effective_beta": 0.98, "effective_beta_stderr": 0.01}
    if not native_beta:
        expected |= {"energy_beta": 0.7, "energy_beta_stderr": 0.05}
    assert seeds == ([] if native_beta else [11])
    assert math.isnan(found.pop("chain_memory", math.nan if not persistent else 0.0))
    assert found == expected


@pytest.mark.parametrize(
    ("beta", "error", "is_told"),
    [(0.85, 0.0, True), (0.95, 0.0, False), (1.15, 0.0, True), (1.17, 0.02, False), (0.83, 0.02, False), (1.2, 0.02, True),
     (0.8, 0.02, True), (math.nan, math.nan, False), (math.inf, math.nan, True)],
)  # fmt: skip
def test_a_temperature_is_told_beyond_a_tenth_and_four_errors(beta, error, is_told):
    heard = []
    SamplerWatch(lambda kind, text: heard.append((kind, text)))._check_temperature(beta, error, 5)
    assert [kind for kind, _ in heard] == ["temperature"] * is_told
    assert all(f"is {beta:.2f} instead of 1 (epoch 5)" in text for _, text in heard)


def test_chains_are_stuck_after_three_looks_in_a_row():
    heard = []
    watch = SamplerWatch(lambda kind, text: heard.append((kind, text)))
    for memory in (0.6, 0.9, 0.5, 0.7, 0.8):
        watch._check_memory(memory, 3)
    assert heard == []
    resumed = SamplerWatch(lambda kind, text: heard.append((kind, text)))
    resumed.load_state_dict(watch.state_dict())
    resumed._check_memory(0.75, 4)
    assert [kind for kind, _ in heard] == ["mixing"]
    assert "correlation 0.75 with themselves since the last look, epoch 4" in heard[0][1]


def test_memory_of_chains_is_a_correlation_over_spins():
    """Of two spins: the first is the same in all chains but one, the second turned over in half of them."""
    before = torch.tensor([[1, 1], [1, 1], [-1, -1], [-1, -1]])
    now = torch.tensor([[1, 1], [1, -1], [-1, 1], [1, -1]])
    watch = SamplerWatch(print)
    watch.chain_memory(before)
    # Covariances 1/2 - 0 and 0, variances (1 + 3/4) / 2 and 1.
    assert watch.chain_memory(now) == pytest.approx(0.5 / (0.875 + 1.0))
    assert math.isnan(watch.chain_memory(now[:3]))
