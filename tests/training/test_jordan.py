"""Models trained by measured gradients end as those that are trained by exact ones."""

import pytest
import torch
from torch import nn
from torch.nn.functional import mse_loss

from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError
from qvae.training.jordan import jordan_backward

X = torch.linspace(-2, 2, 16, dtype=torch.float64).unsqueeze(1)


def trained(model, y, steps, lr, momentum=0.0, **settings):
    """The losses before and after so many steps, by exact gradients if there are no settings."""
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = mse_loss(model(X), y)
        if settings:
            jordan_backward(model, lambda predict: mse_loss(predict(X), y), **settings)
        else:
            loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses[0], losses[-1]


def test_a_sigmoid_unit_finds_its_teacher():
    y = torch.sigmoid(2 * X - 1)
    unit = nn.Sequential(nn.Linear(1, 1), nn.Sigmoid()).double()
    nn.init.zeros_(unit[0].weight)
    nn.init.zeros_(unit[0].bias)
    executor = load_executor("statevector", seed=0)
    before, after = trained(unit, y, 60, lr=4.0, bound=0.25, curvature=1.0, executor=executor, qubits=6)
    assert after < 1e-3 < 0.05 < before
    assert float(unit[0].weight.detach()) == pytest.approx(2, abs=0.4)
    assert float(unit[0].bias.detach()) == pytest.approx(-1, abs=0.2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 2), nn.Tanh(), nn.Linear(2, 1)).double()


def test_a_small_network_learns_as_from_exact_gradients():
    y = torch.exp(-X.square())
    before, exact = trained(network(), y, 40, lr=0.3, momentum=0.8)
    executor = load_executor("statevector", seed=0)
    _, measured = trained(network(), y, 40, 0.3, 0.8, bound=1.0, curvature=10.0, executor=executor, qubits=5)
    assert exact < 1e-3 < 0.2 < before
    assert measured < 5e-3


def test_gradients_are_within_their_precision_and_add_up():
    model, y = network(), torch.exp(-X.square())
    mse_loss(model(X), y).backward()
    exact = [parameter.grad.clone() for parameter in model.parameters()]
    model[2].bias.requires_grad_(False)
    settings = {"bound": 1.0, "curvature": 10.0, "repetitions": 15, "executor": load_executor("statevector", seed=1)}
    estimates = jordan_backward(model, lambda predict: mse_loss(predict(X), y), **settings)
    assert [len(each.gradient) for each in estimates] == [2, 2, 2]  # the bias that is held is left out
    for parameter, truth in zip(model.parameters(), exact, strict=True):
        measured = parameter.grad - truth  # beside what autograd had left there
        within = 0 if parameter is model[2].bias else estimates[0].precision
        assert ((measured - truth * parameter.requires_grad).abs() <= within).all()


def test_a_bound_that_is_passed_stops_the_training():
    with pytest.raises(CircuitError, match="raise bound"):
        jordan_backward(network(), lambda predict: predict(X).square().mean(), bound=1e-3, curvature=10.0)
