"""Shots by variance: unbiased, within the budget, and with a smaller error than the same shots spread evenly."""

import math

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.gradients import ParameterShift, ShotBudget
from qvae.circuits.library import hardware_efficient
from qvae.errors import CircuitError

OBSERVABLES = [[("ZZ", 1.0), ("II", 3.0)], [("XI", 0.5)], [("ZI", 0.3)]]
DUAL = torch.tensor([[1.0, -0.7, 0.4]], dtype=torch.float64)
CIRCUIT = hardware_efficient(2, 2, ("ry", "rx"))
VALUES = torch.tensor([[0.4, -0.9, 1.3, 0.8, 0.5, -1.1, 0.3, 0.6]], dtype=torch.float64)


def exact_gradient(circuit, values, observables, dual):
    return ParameterShift().gradients(StatevectorExecutor(), circuit, values, observables, dual, range(circuit.num_parameters))


def test_it_is_unbiased_and_keeps_to_its_budget():
    exact = exact_gradient(CIRCUIT, VALUES, OBSERVABLES, DUAL)[0]
    rows, calls, shots = 50, 6, 700
    estimator, executor = ShotBudget(shots), StatevectorExecutor(seed=0)
    arguments = (CIRCUIT, VALUES.expand(rows, -1), OBSERVABLES, DUAL.expand(rows, -1))
    found = torch.cat([estimator.gradients(executor, *arguments, range(8)) for _ in range(calls)])
    error = found.std(0) / math.sqrt(rows * calls)
    assert ((found.mean(0) - exact).abs() < 5 * error).all()
    assert 0.8 * shots * rows * calls < estimator.spent <= shots * rows * calls
    some = estimator.gradients(executor, *arguments, range(2, 5))
    assert ((some.mean(0) - exact[2:5]).abs() < 5 * some.std(0) / math.sqrt(rows)).all()


@pytest.mark.parametrize(("share", "gain"), [(0.05, 0.5), (0.25, 0.75)])
def test_noisy_derivatives_get_more_and_the_error_is_that_of_neyman(share, gain):
    """One parameter turns its qubit by itself, two by a share of it, so that their derivatives count less."""
    angles = (Affine(0), Affine(1, share), Affine(2, share))
    circuit = Circuit(3, [Gate("ry", (qubit,), (angle,)) for qubit, angle in enumerate(angles)], 3)
    values = torch.tensor([[0.7, 1.1, 2.0]], dtype=torch.float64)
    observables = [[("ZZZ", 1.0)]]
    rows, dual, shots = 400, torch.ones(400, 1, dtype=torch.float64), 960
    exact = exact_gradient(circuit, values, observables, dual[:1])[0]
    estimator, executor = ShotBudget(shots, memory=0.5), StatevectorExecutor(seed=1)
    errors = []
    for _ in range(3):
        found = estimator.gradients(executor, circuit, values.expand(rows, -1), observables, dual, range(3))
        errors.append((found - exact).square().sum(1).mean().item())
    moves = torch.tensor([[math.pi / 2 / angle.scale] for angle in angles], dtype=torch.float64) * torch.eye(3)
    means = StatevectorExecutor().expectations(circuit, torch.cat([values + moves, values - moves]), observables).squeeze(1)
    deviations = 0.5 * torch.tensor([1.0, share, share] * 2) * (1 - means.square()).sqrt()
    best, even = float(deviations.sum()) ** 2 / shots, float(deviations.square().sum()) * 6 / shots
    assert errors[0] == pytest.approx(even, rel=0.25)
    assert errors[2] == pytest.approx(best, rel=0.25)
    assert best < gain * even


def test_variances_are_of_what_a_circuit_adds_to_the_derivative_and_older_ones_fade():
    circuit = Circuit(1, [Gate("ry", (0,), (Affine(0, 0.5),))], 1)
    estimator, executor = ShotBudget(4000), StatevectorExecutor(seed=0)
    variances = []
    for angle in (0.0, math.pi):  # shifted by pi/2 either way, of means 0, and of -1 and 1
        values, dual = torch.full((50, 1), angle, dtype=torch.float64), torch.ones(50, 1, dtype=torch.float64)
        estimator.gradients(executor, circuit, values, [[("Z", 1.0)]], dual, range(1))
        variances.append(estimator.state_dict()["variances"].flatten())
    first = torch.full((2,), 0.25**2, dtype=torch.float64)  # both terms have the coefficient 0.5 * 0.5
    torch.testing.assert_close(variances[0], first, rtol=0.02, atol=0)
    torch.testing.assert_close(variances[1], 0.9 * variances[0])


def test_its_state_goes_on():
    one, two = ShotBudget(700), ShotBudget(700)
    arguments = (CIRCUIT, VALUES, OBSERVABLES, DUAL, range(8))
    one.gradients(StatevectorExecutor(seed=0), *arguments)
    two.load_state_dict(one.state_dict())
    first, second = (each.gradients(StatevectorExecutor(seed=1), *arguments) for each in (one, two))
    assert torch.equal(first, second)
    assert one.spent == two.spent
    with pytest.raises(ValueError, match="is none"):
        two.load_state_dict({"spent": "x"})


def test_too_few_shots_are_refused():
    with pytest.raises(CircuitError, match="the gradient takes 32 circuits, each at least 2; raise it to 64 or more"):
        ShotBudget(63).gradients(StatevectorExecutor(), CIRCUIT, VALUES, OBSERVABLES, DUAL, range(8))
    fewest = ShotBudget(64)
    fewest.gradients(StatevectorExecutor(seed=0), CIRCUIT, VALUES, OBSERVABLES, DUAL, range(8))
    assert fewest.spent == 64


def test_portions_are_rounded_to_the_nearest_and_none_is_left_over():
    estimator = ShotBudget(22)  # eleven portions of two shots
    estimator.load_state_dict({"spent": 0, "variances": torch.tensor([[1.3], [5.9], [3.8]]).double().square()})
    counts, size = estimator._portions(3, 1)
    assert (counts.flatten().tolist(), size) == ([1, 6, 4], 2)
    estimator.load_state_dict({"spent": 0, "variances": torch.tensor([[0.0, 4.0], [1.0, 0.0]]).double()})
    counts, size = estimator._portions(2, 2)  # no cell is without shots
    assert (counts.tolist(), size) == ([[1, 6], [3, 1]], 2)
