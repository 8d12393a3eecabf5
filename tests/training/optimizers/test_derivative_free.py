"""Optimizers that ask for values of the loss alone: closed forms, unbiasedness over many draws, and states that travel."""

import copy
import io
import math
from itertools import pairwise

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor
from torch import nn

import qvae
from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import Executor, ExecutorCapabilities
from qvae.circuits.gradients.metric import fubini_study, overlaps
from qvae.training.optimizers import QNSPSA, SPSA, QuantumNaturalGradient, Rotosolve

CIRCUIT = Circuit(
    2,
    [
        Gate("ry", (0,), (Affine(0),)),
        Gate("ry", (1,), (Affine(1),)),
        Gate("cx", (0, 1)),
        Gate("rx", (0,), (Affine(2),)),
        Gate("ry", (1,), (Affine(3),)),
    ],
    num_parameters=4,
)
ENERGY = [[("ZZ", 1.0), ("XI", 0.7), ("IX", 0.7)]]
NONE = torch.zeros(1, 0, dtype=torch.float64)


def ansatz():
    layer = qvae.CircuitLayer(CIRCUIT, ENERGY).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([0.4, 1.0, 0.2, -0.6], dtype=torch.float64))
    return layer


def test_spsa_draws_the_gradient_in_the_mean():
    layer, rate, draws = ansatz(), 1e-3, 1000
    start = layer.weight.detach().clone()
    (gradient,) = torch.autograd.grad(layer(NONE).sum(), layer.weight)
    optimizer = SPSA(layer.parameters(), lr=rate, step=1e-3, seed=0)
    found = []
    for _ in range(draws):
        optimizer.steps = 0
        optimizer.step(lambda: layer(NONE).sum())
        found.append((start - layer.weight.detach()) / rate)
        with torch.no_grad():
            layer.weight.copy_(start)
    found = torch.stack(found)
    error = found.std(0) / math.sqrt(draws)
    assert ((found.mean(0) - gradient).abs() < 5 * error + 1e-4).all()
    # Of a linear loss each draw is the gradient plus all others' parts with random signs.
    assert found.var(0).sum() == pytest.approx(float((len(gradient) - 1) * gradient.square().sum()), rel=0.3)


def test_spsa_s_gains_are_spall_s():
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = SPSA([weight], lr=0.3, step=0.2, stability=5, seed=1)
    moves = []
    for _ in range(3):
        before = float(weight.detach())
        optimizer.step(lambda: weight.sum())
        moves.append(before - float(weight.detach()))
    assert moves == pytest.approx([0.3 / (k + 1 + 5) ** 0.602 for k in range(3)])


def test_each_group_has_a_rate_of_its_own():
    slow, fast = (nn.Parameter(torch.zeros(1, dtype=torch.float64)) for _ in range(2))
    optimizer = SPSA([{"params": [slow]}, {"params": [fast], "lr": 0.6, "stability": 0}], lr=0.3, stability=5, seed=1)
    optimizer.step(lambda: slow.sum())
    assert [abs(float(weight.detach())) for weight in (slow, fast)] == pytest.approx([0.3 / 6**0.602, 0.6])


def test_blocking_takes_back_what_raises_the_loss():
    weight = nn.Parameter(torch.tensor([0.01], dtype=torch.float64))
    optimizer = SPSA([weight], lr=100.0, step=0.1, blocking=0.0, seed=0)
    optimizer.step(lambda: weight.square().sum())
    assert weight.item() == 0.01


def test_rotosolve_finds_each_angle_s_minimum_and_the_ground_state():
    layer = ansatz()
    optimizer = Rotosolve(layer.parameters())

    @torch.no_grad()
    def loss():
        return layer(NONE).sum()

    first = Rotosolve([layer.weight], angles=1).step(loss)
    grid = []
    with torch.no_grad():
        best = layer.weight.clone()
        for angle in torch.linspace(-math.pi, math.pi, 721):
            layer.weight[0] = angle
            grid.append(float(loss()))
        layer.weight.copy_(best)
    assert float(first) == pytest.approx(float(loss()), abs=1e-12)
    assert float(loss()) <= min(grid) + 1e-12
    values = [float(optimizer.step(loss)) for _ in range(30)]
    assert max(after - before for before, after in pairwise(values)) < 1e-12
    x, z, i = (torch.tensor(rows, dtype=torch.float64) for rows in ([[0, 1], [1, 0]], [[1, 0], [0, -1]], [[1, 0], [0, 1]]))
    dense = torch.kron(z, z) + 0.7 * (torch.kron(x, i) + torch.kron(i, x))
    assert values[-1] == pytest.approx(float(torch.linalg.eigvalsh(dense)[0]), abs=0.05)


def test_rotosolve_s_sweep_gives_the_closed_form_minimum_by_the_shortest_way():
    # A sum of sinusoids, one an angle: the least value is minus the sum of amplitudes, at -pi/2 - phase.
    amplitude, phase = torch.tensor([1.0, 0.3, 2.0, 0.7]).double(), torch.tensor([0.2, -2.0, 3.0, 1.2]).double()
    for blocking in (None, 0.0):
        angles = nn.Parameter(torch.tensor([3.0, -1.0, 0.5, 9.0]).double())
        before = angles.detach().clone()
        optimizer = Rotosolve([angles], blocking=blocking)
        least = optimizer.step(lambda angles=angles: (amplitude * torch.sin(angles + phase)).sum())
        assert float(least) == pytest.approx(-4.0)
        assert torch.allclose((angles.detach() + phase + math.pi / 2).cos(), torch.ones(4).double())
        assert ((angles.detach() - before).abs() <= math.pi + 1e-12).all()


def test_rotosolve_goes_on_with_the_next_angles_and_counts_its_losses():
    angles, asked = [nn.Parameter(torch.zeros(2, 2).double()), nn.Parameter(torch.zeros(1).double())], []

    def loss():
        asked.append(1)
        return sum(each.sin().sum() for each in angles)

    optimizer = Rotosolve(angles, angles=2, blocking=0.0)
    moved = []
    for _ in range(3):
        before = torch.cat([each.detach().view(-1) for each in angles])
        optimizer.step(loss)
        moved.append((torch.cat([each.detach().view(-1) for each in angles]) - before).abs().gt(1e-3).tolist())
    assert moved == [[True, True, False, False, False], [False, False, True, True, False], [False, False, False, False, True]]
    assert optimizer.place == 1
    assert len(asked) == 3 * optimizer.executions(1) == 3 * 7
    assert Rotosolve(angles, angles=100).executions(10) == 10 * 15  # each of five is visited once, not more


def test_rotosolve_blocks_a_minimum_that_is_none():
    # At 0, pi/2 and -pi/2 it is cos + sin, least at -3 pi/4, but there it is high.
    def loss():
        return (angle.cos() + angle.sin() + 5 * (2 * angle).sin().square()).sum()

    for blocking, expected in ((None, -3 * math.pi / 4), (0.0, 0.0), (10.0, -3 * math.pi / 4)):
        angle = nn.Parameter(torch.zeros(1).double())
        Rotosolve([angle], blocking=blocking).step(loss)
        assert angle.item() == pytest.approx(expected, abs=1e-12 if expected else 0)


def test_rotosolve_s_state_goes_on():
    def loss_of(layer):
        return lambda: layer(NONE).sum()

    layer = ansatz()
    optimizer = Rotosolve([layer.weight], angles=3)
    optimizer.step(loss_of(layer))
    again = copy.deepcopy(layer)
    resumed = Rotosolve([again.weight], angles=3)
    stored = optimizer.state_dict()
    resumed.load_state_dict(stored)
    assert stored["place"] == 3
    optimizer.step(loss_of(layer))
    resumed.step(loss_of(again))
    assert torch.equal(layer.weight, again.weight)
    with pytest.raises(ValueError, match="the next angle is 4, of 4"):
        resumed.load_state_dict(stored | {"place": 4})


def test_qnspsa_draws_the_metric_in_the_mean():
    layer = ansatz()
    optimizer = QNSPSA(layer, step=0.01, seed=0)
    exact = fubini_study(StatevectorExecutor(), CIRCUIT, NONE, layer.weight)
    found = torch.stack([optimizer.estimated_metric(layer, NONE) for _ in range(500)])
    error = found.std(0) / math.sqrt(len(found))
    assert ((found.mean(0) - exact).abs() < 5 * error + 1e-3).all()


def test_qnspsa_goes_down_and_its_state_goes_on():
    def run(layer, optimizer, steps):
        return [float(optimizer.step(lambda: layer(NONE).sum())) for _ in range(steps)]

    layer = ansatz()
    optimizer = QNSPSA(layer, lr=0.05, blocking=0.5, seed=3)
    losses = run(layer, optimizer, 40)
    assert losses[-1] < losses[0] - 0.5
    weight, stored = layer.weight.detach().clone(), io.BytesIO()
    torch.save(optimizer.state_dict(), stored)
    expected = run(layer, optimizer, 5)
    again = ansatz()
    with torch.no_grad():
        again.weight.copy_(weight)
    resumed = QNSPSA(again, lr=0.05, blocking=0.5, seed=4)
    resumed.load_state_dict(torch.load(io.BytesIO(stored.getvalue())))
    assert run(again, resumed, 5) == expected


def test_qnspsa_moves_all_of_a_model_with_data_and_a_weight_used_twice():
    torch.manual_seed(3)
    circuit = Circuit(2, [*CIRCUIT.gates, Gate("rzz", (0, 1), (Affine(1),))], num_parameters=4, num_inputs=1)
    model = nn.Sequential(nn.Linear(3, 1), qvae.CircuitLayer(circuit), nn.Linear(2, 1)).double()
    x = torch.rand(6, 3, dtype=torch.float64)
    optimizer = QNSPSA(model, lr=0.1, classical_lr=0.1, blocking=0.05, seed=1)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    losses = [float(optimizer.step(lambda: (model(x) - 3.0).square().mean())) for _ in range(60)]
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])
    assert all(not torch.equal(*pair) for pair in zip(before, model.parameters(), strict=True))
    assert optimizer.state[model[1].weight]["metric"].shape == (3, 3)


@pytest.mark.parametrize("make", [QNSPSA, QuantumNaturalGradient])
def test_circuits_and_other_parameters_learn_at_rates_of_their_own(make):
    circuit = qvae.CircuitLayer(Circuit(2, CIRCUIT.gates, num_parameters=4, num_inputs=1))
    model = nn.Sequential(nn.Linear(3, 1), circuit, nn.Linear(2, 1)).double()
    optimizer = make(model, lr=0.3, classical_lr=0.02)
    rates = {parameter: group["lr"] for group in optimizer.param_groups for parameter in group["params"]}
    assert rates == {parameter: 0.3 if parameter is circuit.weight else 0.02 for parameter in model.parameters()}


def test_a_loss_that_fails_leaves_the_parameters_as_they_were():
    layer = ansatz()
    for optimizer in (SPSA([layer.weight], blocking=0.0), QNSPSA(layer, blocking=0.0), Rotosolve([layer.weight], blocking=0.0)):
        for good in range(13 if isinstance(optimizer, Rotosolve) else 3):
            before, left = layer.weight.detach().clone(), list(range(good))

            def closure(left=left):
                left.pop()
                return layer(NONE).sum()

            with pytest.raises(IndexError):
                optimizer.step(closure)
            assert torch.equal(layer.weight, before)


def test_parameters_that_are_frozen_stay_and_the_others_learn():
    def made():
        circuit = qvae.CircuitLayer(Circuit(2, CIRCUIT.gates, num_parameters=4, num_inputs=1))
        return nn.Sequential(nn.Linear(1, 1), circuit, nn.Linear(2, 1)).double()

    makes = (lambda model: SPSA(model.parameters(), seed=0), QNSPSA, lambda model: Rotosolve(model.parameters()))
    for make in makes:
        for frozen in (0, 1):
            model = made()
            model[frozen].requires_grad_(False)
            optimizer, before = make(model), copy.deepcopy(model)
            for _ in range(2):
                optimizer.step(lambda model=model: model(torch.ones(3, 1).double()).square().mean())
            for part in range(3):
                stays = [torch.equal(*pair) for pair in zip(before[part].parameters(), model[part].parameters(), strict=True)]
                assert all(stays) if part == frozen else not any(stays)
    with pytest.raises(ValueError, match="hold no angle that may move"):
        Rotosolve(made().requires_grad_(False).parameters())


@pytest.mark.parametrize("make", [lambda layer: SPSA([layer.weight]), QNSPSA, lambda layer: Rotosolve([layer.weight])])
def test_a_closure_returns_one_number_whatever_its_type(make):
    layer = ansatz()
    for loss in (lambda: float(layer(NONE)), lambda: layer(NONE)):
        before = layer.weight.detach().clone()
        assert make(layer).step(loss).shape == ()
        assert not torch.equal(layer.weight, before)
    for loss, found in ((torch.rand(4), r"of shape \(4,\)"), (None, "returned None")):
        with pytest.raises(ValueError, match=found):
            make(layer).step(lambda loss=loss: loss)


def test_models_without_circuits_and_angles_are_refused():
    with pytest.raises(ValueError, match="no CircuitLayer"):
        QNSPSA(nn.Linear(2, 2))
    with pytest.raises(ValueError, match="hold no angle"):
        Rotosolve([torch.zeros(0)])


def test_spsa_s_state_goes_on():
    layer = ansatz()
    optimizer = SPSA(layer.parameters(), seed=5)
    optimizer.step(lambda: layer(NONE).sum())
    again = copy.deepcopy(layer)
    resumed = SPSA(again.parameters(), seed=6)
    resumed.load_state_dict(optimizer.state_dict())
    for one, own in ((layer, optimizer), (again, resumed)):
        own.step(lambda one=one: one(NONE).sum())
    assert torch.equal(layer.weight, again.weight)


def test_overlaps_are_measured_as_they_are():
    class Shots(StatevectorExecutor):
        capabilities = ExecutorCapabilities()
        shots = 20_000
        _weighted_expectations = Executor._weighted_expectations

    circuit = Circuit(2, [Gate("rx", (0,), (Affine(0),)), Gate("cry", (0, 1), (Affine(1),)), Gate("s", (1,))], 2, 1)
    values = torch.tensor([[0.8], [2.0]], dtype=torch.float64)
    here, there = torch.tensor([0.3], dtype=torch.float64), torch.tensor([[1.7], [-0.8]], dtype=torch.float64)
    exact = overlaps(StatevectorExecutor(), circuit, values, here, there)
    assert exact.shape == (2, 2)
    assert 0.2 < exact.min() < exact.max() < 0.999
    measured = overlaps(Shots(seed=0), circuit, values, here, there)
    assert ((measured - exact).abs() < 5 * (exact * (1 - exact) / 20_000).sqrt()).all()


@pytest.mark.parametrize("make", [lambda: SPSA([nn.Parameter(torch.zeros(1))], lr=0), lambda: QNSPSA(ansatz(), damping=0)])
def test_numbers_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be a number above 0"):
        make()


def test_qnspsa_s_steps_are_those_written_by_hand(monkeypatch):
    """The running mean of the metric's estimates begins with the identity, and goes by magnitudes of its eigenvalues."""
    torch.manual_seed(2)
    circuit = Circuit(2, CIRCUIT.gates, num_parameters=4, num_inputs=1)
    model = nn.Sequential(nn.Linear(3, 1), qvae.CircuitLayer(circuit)).double()
    angles, classical = model[1].weight, list(model[0].parameters())
    optimizer = QNSPSA(model, lr=0.3, step=0.1, damping=0.2, classical_lr=0.05, rows=4, seed=1)
    parameters = [angles, *classical]
    estimates = torch.randn(3, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    estimates, asked, drawn = list(estimates + estimates.mT), [], []
    monkeypatch.setattr(optimizer, "estimated_metric", lambda layer, rows: asked.append(rows) or estimates[len(asked) - 1])
    signs = optimizer._signs
    monkeypatch.setattr(optimizer, "_signs", lambda parameter: drawn.append(signs(parameter)) or drawn[-1])
    x, total = torch.rand(6, 3, dtype=torch.float64), torch.eye(3).double()

    @torch.no_grad()
    def loss(shift=0.0):
        values = [each + shift * sign for each, sign in zip(parameters, drawn[-3:], strict=True)] if shift else parameters
        found = torch.nn.functional.linear(x, *values[1:])
        return (torch.func.functional_call(model[1], {"weight": values[0]}, (found,)).sum(1) - 3).square().mean()

    for number, estimate in enumerate(estimates, 2):
        before = [each.detach().clone() for each in parameters]
        found = optimizer.step(lambda: loss())
        after = [each.detach().clone() for each in parameters]
        with torch.no_grad():
            for each, value in zip(parameters, before, strict=True):
                each.copy_(value)
        up, down = loss(0.1), loss(-0.1)
        assert float(found) == pytest.approx(float(up + down) / 2, rel=1e-9)
        total = total + estimate
        values, vectors = torch.linalg.eigh(total / number)
        natural = vectors @ ((vectors.T @ drawn[-3]) / (values.abs() + 0.2))
        moves = [0.3 * natural, 0.05 * drawn[-2], 0.05 * drawn[-1]]
        for each, start, end, move in zip(parameters, before, after, moves, strict=True):
            torch.testing.assert_close(end, start - (up - down) / 0.2 * move, atol=1e-10, rtol=1e-8)
            with torch.no_grad():
                each.copy_(end)
    assert [rows.shape for rows in asked] == [(4, 1)] * 3


def test_spsa_s_steps_shrink_as_spall_says():
    """The slope of a cube at 0 is the square of the step."""
    weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer, moves = SPSA([weight], lr=0.3, step=0.2, seed=1), []
    for _ in range(3):
        optimizer.step(lambda: weight.pow(3).sum())
        moves.append(-float(weight.detach()))
        with torch.no_grad():
            weight.zero_()
    assert moves == pytest.approx([0.3 / (k + 1) ** 0.602 * (0.2 / (k + 1) ** 0.101) ** 2 for k in range(3)])


class Counting(StatevectorExecutor):
    """Has no amplitudes, and counts the circuits that it is asked to run."""

    capabilities = ExecutorCapabilities()
    _weighted_expectations = Executor._weighted_expectations
    circuits = 0

    def _sample(self, circuit, values, shots):
        self.circuits += len(values)
        return super()._sample(circuit, values, shots)


@pytest.mark.parametrize("num_inputs", [0, 1])
@pytest.mark.parametrize(
    "make",
    [
        lambda layer: SPSA([layer.weight]),
        lambda layer: SPSA([layer.weight], blocking=1.0),
        lambda layer: QNSPSA(layer, rows=3),
        lambda layer: QNSPSA(layer, rows=9, blocking=1.0),
        lambda layer: Rotosolve([layer.weight], angles=2),
        lambda layer: QuantumNaturalGradient(layer, rows=3),
        lambda layer: QuantumNaturalGradient(layer, rows=9, metric="diagonal"),
        lambda layer: QuantumNaturalGradient(layer, metric="block-diagonal", source="amplitudes"),
    ],
)
def test_as_many_circuits_are_run_as_is_said(make, num_inputs):
    executor = Counting(seed=0)
    executor.shots = 10
    layer = qvae.CircuitLayer(Circuit(2, CIRCUIT.gates, num_parameters=4, num_inputs=num_inputs), executor=executor).double()
    optimizer, x = make(layer), torch.rand(5, num_inputs, dtype=torch.float64)
    if isinstance(optimizer, QuantumNaturalGradient):
        layer(x)
        layer.weight.grad = torch.ones_like(layer.weight)
        if optimizer._source == "amplitudes":
            assert optimizer.executions(5) == 0
            return
        executor.circuits = 0
        optimizer.step()
    else:
        with torch.no_grad():
            optimizer.step(lambda: layer(x).sum())
    assert executor.circuits == optimizer.executions(5)
