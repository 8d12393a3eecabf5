"""The time of a circuit in a step: it is found where that costs nothing, and leaves the training as it is."""

import pytest
import torch

import qvae
from qvae.circuits.executor import ExecutorCapabilities, SeededExecutor
from qvae.circuits.library import angle_encoding, compose, strongly_entangling
from qvae.training import circuit_time
from qvae.training.circuit_time import circuit_milliseconds

CIRCUIT = compose(angle_encoding(3), strongly_entangling(3, 1))


class Shots(SeededExecutor):
    """Would cost something."""

    capabilities = ExecutorCapabilities(remote=True)

    def _sample(self, circuit, values, shots):
        raise AssertionError


@pytest.mark.parametrize("bits", [False, True])
def test_a_circuit_is_timed_and_nothing_changed(bits):
    layer = qvae.CircuitLayer(CIRCUIT)
    layer.weight.grad = torch.ones_like(layer.weight)
    state = torch.get_rng_state()
    found = circuit_milliseconds(layer, 16, bits)
    assert found is not None
    assert found > 0
    assert torch.equal(layer.weight.grad, torch.ones_like(layer.weight))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("is_training", [True, False])
def test_the_time_is_that_of_the_better_of_two_in_milliseconds(monkeypatch, is_training):
    readings, seen = iter([1.0, 6.0, 10.0, 12.5]), []
    monkeypatch.setattr(circuit_time, "now", lambda device: next(readings))
    layer = qvae.CircuitLayer(CIRCUIT).train(is_training)
    layer.watchers.append(lambda layer, values: seen.append((values.shape, layer.training)))
    assert circuit_milliseconds(layer, 16, bits=False) == 2500.0
    assert seen == [((16, 3), False)] * 2
    assert layer.training is is_training


def test_a_frozen_circuit_is_timed_too():
    assert circuit_milliseconds(qvae.CircuitLayer(CIRCUIT).requires_grad_(False), 4, bits=False) > 0


def test_a_circuit_that_is_measured_is_not_run_for_its_time():
    assert circuit_milliseconds(qvae.CircuitLayer(CIRCUIT, executor=Shots()), 4, bits=False) is None
