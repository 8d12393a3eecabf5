"""The natural gradient's step by its formula, Adam beside it, and states that travel."""

import copy
import io

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor
from torch import nn

import qvae
from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gradients.metric import fubini_study
from qvae.errors import CircuitError
from qvae.training.optimizers import QuantumNaturalGradient

CIRCUIT = Circuit(
    2,
    [
        Gate("ry", (0,), (Affine(0),)),
        Gate("ry", (1,), (Affine(1),)),
        Gate("cx", (0, 1)),
        Gate("rx", (0,), (Affine(2),)),
        Gate("ry", (1,), (Affine(2, 0.5),)),
        Gate("rzz", (0, 1), (Affine(1),)),
    ],
    num_parameters=3,
    num_inputs=1,
)
X = torch.rand(5, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def network(seed=0):
    """Data beside weights, a weight in two gates, and the circuit between two classical layers."""
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(3, 1), qvae.CircuitLayer(CIRCUIT), nn.Linear(2, 1)).double()


def test_circuits_move_by_the_metric_and_the_rest_by_adam():
    model, twin = network(), network()
    ours = QuantumNaturalGradient(model, lr=0.1, damping=0.01, rows=4, classical_lr=0.02)
    adam = torch.optim.Adam([*twin[0].parameters(), *twin[2].parameters()], lr=0.02)
    for _ in range(3):
        before = model[1].weight.detach().clone()
        inputs = model[0](X).detach()[:4]
        for one in (model, twin):
            one.zero_grad()
            one(X).square().sum().backward()
        metric = fubini_study(StatevectorExecutor(), CIRCUIT, inputs, before)
        expected = before - 0.1 * torch.linalg.solve(metric + 0.01 * torch.eye(2), model[1].weight.grad)
        ours.step()
        adam.step()
        assert torch.allclose(model[1].weight, expected, atol=1e-12)
        with torch.no_grad():
            twin[1].weight.copy_(model[1].weight)
        for place in (0, 2):
            assert torch.allclose(model[place].weight, twin[place].weight, atol=1e-10)


@pytest.mark.parametrize("metric", ["full", "block-diagonal", "diagonal"])
def test_the_loss_goes_down(metric):
    model = network()
    optimizer = QuantumNaturalGradient(model, metric=metric, momentum=0.5)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = (model(X) - 0.7).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]


def test_a_layer_used_twice_has_the_mean_of_its_metrics():
    layer = qvae.CircuitLayer(CIRCUIT).double()
    model = nn.ModuleList([layer])
    optimizer = QuantumNaturalGradient(model, lr=1.0, damping=0.1)
    before, inputs = layer.weight.detach().clone(), X[:2, :1]
    (layer(inputs[:1]).sum() + layer(inputs[1:]).sum()).backward()
    optimizer.step()
    metric = fubini_study(StatevectorExecutor(), CIRCUIT, inputs, before)
    expected = before - torch.linalg.solve(metric + 0.1 * torch.eye(2), layer.weight.grad)
    assert torch.allclose(layer.weight, expected, atol=1e-12)


@pytest.mark.parametrize("metric", ["full", "block-diagonal", "diagonal"])
def test_conjugate_gradients_make_the_step_of_cholesky(metric):
    weights = []
    for solver in ("cholesky", "cg"):
        model = network()
        optimizer = QuantumNaturalGradient(model, metric=metric, solver=solver)
        model(X).square().sum().backward()
        optimizer.step()
        weights.append(model[1].weight.detach())
    assert torch.allclose(*weights, atol=1e-9)


def test_a_metric_from_overlaps_makes_nearly_the_same_step():
    steps = []
    for source in ("amplitudes", "overlaps"):
        layer = qvae.CircuitLayer(CIRCUIT, executor=StatevectorExecutor(seed=0)).double()
        layer.executor.shots = 100_000
        with torch.no_grad():
            layer.weight.copy_(torch.tensor([0.7, 1.9]))
        optimizer = QuantumNaturalGradient(layer, lr=1.0, damping=0.1, source=source)
        layer(X[:1, :1]).sum().backward()
        before = layer.weight.detach().clone()
        optimizer.step()
        steps.append(layer.weight.detach() - before)
    assert torch.allclose(*steps, rtol=0.05, atol=0.01)
    assert not torch.equal(*steps)


def test_layers_that_share_a_weight_have_the_mean_of_their_metrics():
    one, two = (qvae.CircuitLayer(CIRCUIT).double() for _ in range(2))
    two.weight = one.weight
    optimizer = QuantumNaturalGradient(nn.ModuleList([one, two]), lr=1.0, damping=0.1)
    before = one.weight.detach().clone()
    (one(X[:1, :1]).sum() + two(X[1:2, :1]).sum()).backward()
    optimizer.step()
    metric = fubini_study(StatevectorExecutor(), CIRCUIT, X[:2, :1], before)
    assert torch.allclose(one.weight, before - torch.linalg.solve(metric + 0.1 * torch.eye(2), one.weight.grad), atol=1e-12)


def test_probabilities_are_watched_and_inputs_go_with_their_gradients():
    layer = qvae.CircuitLayer(CIRCUIT).double()
    optimizer = QuantumNaturalGradient(layer)
    layer.probabilities(X[:2, :1])
    optimizer.zero_grad()
    layer.probabilities(X[:, :1])
    ((_, rows),) = optimizer._watch.taken([layer])
    assert torch.equal(rows, X[:, :1])


def test_gradients_may_be_cleared_behind_the_loss():
    weights = []
    for is_behind in (False, True):
        model = network()
        optimizer = QuantumNaturalGradient(model)
        for _ in range(2):
            if not is_behind:
                optimizer.zero_grad()
            loss = model(X).square().sum()
            if is_behind:
                optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        weights.append(model[1].weight.detach())
    assert torch.equal(*weights)
    assert not torch.equal(weights[0], network()[1].weight)


def test_a_gradient_without_inputs_is_refused():
    model = network().eval()
    optimizer = QuantumNaturalGradient(model)
    model(X).square().sum().backward()
    with pytest.raises(CircuitError, match=r"model\.train\(\)"):
        optimizer.step()


def test_what_is_evaluated_is_not_watched():
    model = network()
    optimizer = QuantumNaturalGradient(model)
    with torch.no_grad():
        model(X)
    model.eval()(X)
    assert optimizer._watch.taken([model[1]]) == []


def test_its_state_goes_on(tmp_path):
    def steps(model, optimizer, number):
        for _ in range(number):
            optimizer.zero_grad()
            (model(X) - 0.7).square().mean().backward()
            optimizer.step()

    whole = network()
    optimizer = QuantumNaturalGradient(whole, momentum=0.9)
    steps(whole, optimizer, 3)
    half = copy.deepcopy(whole.state_dict())
    stored = io.BytesIO()
    torch.save(optimizer.state_dict(), stored)
    steps(whole, optimizer, 3)
    again = network(seed=1)
    again.load_state_dict(half)
    resumed = QuantumNaturalGradient(again, momentum=0.9)
    resumed.load_state_dict(torch.load(io.BytesIO(stored.getvalue())))
    steps(again, resumed, 3)
    for name, value in whole.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_models_and_numbers_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="no CircuitLayer"):
        QuantumNaturalGradient(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="metric is 'blocks'; it must be full or block-diagonal or diagonal"):
        QuantumNaturalGradient(network(), metric="blocks")
    with pytest.raises(ValueError, match="damping is 0; it must be a number above 0"):
        QuantumNaturalGradient(network(), damping=0)


def test_no_rows_move_nothing():
    model = network()
    optimizer = QuantumNaturalGradient(model)
    layer = next(module for module in model.modules() if isinstance(module, qvae.CircuitLayer))
    before = layer.weight.detach().clone()
    layer(torch.zeros(0, layer.circuit.num_inputs)).sum().backward()
    optimizer.step()
    assert torch.equal(layer.weight, before)
