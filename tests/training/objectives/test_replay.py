"""What is played again on CUDA, and when it is recorded; that it is right is tested where there is a GPU."""

import pytest
import torch

import qvae
from qvae.circuits.circuit import Circuit
from qvae.ising.recorded import CALLS_BEFORE
from qvae.training.objectives.replay import Replay, can_be_replayed
from qvae.training.objectives.surrogate import Surrogate


class Own(torch.nn.Linear):
    """A user's module, of which nobody knows what it does from step to step."""


class OwnExecutor(type(qvae.load_executor("statevector"))):
    """A user's, as above."""


def test_models_of_others_and_with_hooks_are_not_recorded():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    assert can_be_replayed(model)
    assert not can_be_replayed(torch.nn.Sequential(model, Own(2, 2)))
    model[0].register_forward_hook(lambda *arguments: None)
    assert not can_be_replayed(model)


def test_circuits_that_are_watched_or_run_by_others_are_not_recorded():
    layer = qvae.CircuitLayer(Circuit(1, [], num_parameters=0, num_inputs=0))
    assert can_be_replayed(layer, layer.executor)
    assert not can_be_replayed(layer, OwnExecutor())
    layer.watchers.append(lambda *arguments: None)
    assert not can_be_replayed(layer, layer.executor)


@pytest.fixture
def recordings(monkeypatch):
    """How often something was to be recorded, which never succeeds here."""
    asked = []
    monkeypatch.setattr("qvae.ising.recorded.records", lambda device: True)
    monkeypatch.setattr("qvae.training.objectives.replay.record", lambda works, generator: asked.append(len(works)))
    return asked


def test_steps_are_recorded_once_they_have_been_the_same_for_a_while(recordings):
    model = torch.nn.Linear(3, 1)
    replay = Replay(model, torch.Generator(), lambda rows: Surrogate(*model(rows).expand(-1, 3).unbind(1)))

    def steps(number, rows):
        for _ in range(number):
            terms, loss = replay.loss(rows, 0.5)
            torch.testing.assert_close(loss, terms.loss(0.5))
            loss.backward()

    steps(CALLS_BEFORE, torch.ones(4, 3))
    assert recordings == []
    steps(1, torch.ones(4, 3))
    assert recordings == [2]
    assert model.weight.grad is not None  # of the step that Python has made, after it couldn't be recorded
    steps(5, torch.ones(4, 3))
    assert recordings == [2]
    steps(CALLS_BEFORE, torch.ones(2, 3))
    assert recordings == [2]
    steps(1, torch.ones(2, 3))
    assert recordings == [2, 2]
    model.weight.data = model.weight.data.clone()
    steps(CALLS_BEFORE, torch.ones(2, 3))
    assert recordings == [2, 2]
    steps(1, torch.ones(2, 3))
    assert recordings == [2, 2, 2]
    model.bias.requires_grad_(False)
    steps(CALLS_BEFORE + 1, torch.ones(2, 3))
    assert recordings == [2, 2, 2, 2]


def test_a_weight_of_the_kl_part_may_be_on_the_device():
    """A graph reads it there."""
    terms = Surrogate(*torch.randn(3, 5, generator=torch.Generator().manual_seed(0)).unbind(0))
    for weight in (0.0, 0.3, 1.0):
        torch.testing.assert_close(terms.loss(torch.tensor(weight)), terms.loss(weight))
