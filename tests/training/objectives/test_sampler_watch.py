"""What is seen of a sampler: the memory of its chains, its temperature, what its calls cost."""

import math

import pytest
import torch

from qvae.ising.hamiltonian import IsingHamiltonian
from qvae.sampling.registry import load_sampler
from qvae.sampling.sampler import Samples
from qvae.training.objective import Clock
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


@pytest.mark.parametrize(("sampling", "rest", "is_said"), [(95.0, 5.0, True), (85.0, 15.0, False), (9.5, 0.5, False)])
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
