"""Gradients by Jordan's circuit: autograd is the truth, and promises are counted over many runs."""

from math import factorial, pi, sin, sqrt

import pytest
import torch

from qvae.circuits.gradients import jordan
from qvae.circuits.gradients.jordan import central_differences, jordan_gradient
from qvae.circuits.library.diagonals import diagonal
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError, ExecutorError

RUNS = 200
X = torch.randn(8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
Y = (X > 0.3).double()
BOUND, CURVATURE = 0.6, {1: 1.0, 2: 3.0, 4: 30.0}


def sigmoid_unit(points):
    """The squared error of a unit of two parameters."""
    return (torch.sigmoid(points[:, :1] * X + points[:, 1:]) - Y).square().mean(1)


def exact(loss, at):
    at = at.clone().requires_grad_()
    return torch.autograd.grad(loss(at.unsqueeze(0)).sum(), at)[0]


def start(seed):
    return torch.randn(2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def least(probability, runs):
    """What a count of so many runs is above, but for three standard deviations."""
    return runs * probability - 3 * sqrt(runs * probability * (1 - probability))


@pytest.mark.parametrize(("degree", "qubits", "repetitions"), [(1, 4, 1), (2, 4, 5), (4, 3, 3)])
def test_the_promise_holds_in_200_runs(degree, qubits, repetitions):
    executor = load_executor("statevector", seed=3)
    right, promised = 0, 1.0
    for seed in range(RUNS):
        at = start(seed)
        found = jordan_gradient(sigmoid_unit, at, BOUND, CURVATURE[degree], executor, qubits, degree, repetitions)
        right += bool(((found.gradient - exact(sigmoid_unit, at)).abs() <= found.precision).all())
        promised = min(promised, found.probability)
    assert promised > 0.5
    assert right >= least(promised, RUNS)


def test_the_probability_is_that_of_the_worst_gradient():
    """One reading of one linear parameter, whose slope is halfway between two values: 0.81 and no more."""
    executor, unit = load_executor("statevector", seed=4), 0.7 / 7
    found = [
        jordan_gradient(lambda w: 0.25 * w[:, 0], torch.zeros(1).double(), 0.7, 1e-3, executor, repetitions=1)
        for _ in range(RUNS)
    ]
    assert found[0].precision == pytest.approx(unit)
    right = sum(abs(float(each.gradient) - 0.25) <= unit for each in found)
    promised = found[0].probability
    assert 0.75 < promised < 0.82
    assert least(promised, RUNS) <= right <= RUNS * 0.815 + 3 * sqrt(RUNS * 0.815 * 0.185)


@pytest.mark.parametrize("phase_error", [0.04, 0.2])
def test_what_phases_are_off_is_taken_off_the_promise(phase_error):
    """At least the half that the loss's curvature may take, at most all."""
    loss, at = lambda w: 0.25 * w[:, 0], torch.zeros(1).double()
    promised = jordan_gradient(loss, at, 0.7, 1e-3, repetitions=1, phase_error=phase_error).probability
    linear = 2 / (16 * sin(pi / 32)) ** 2
    assert phase_error / 2 <= linear - promised <= phase_error * 1.01


def test_more_components_are_less_likely_to_be_right_all_together():
    """Each of three fails as often as one does; what else the circuits leave out is below a hundredth."""
    one, three = (
        jordan_gradient(lambda w: 0.25 * w.sum(1), torch.zeros(number).double(), 0.7, 1e-3, qubits=3).probability
        for number in (1, 3)
    )
    assert 1 - three == pytest.approx(3 * (1 - one), abs=0.03)
    assert one < 0.99


@pytest.mark.parametrize(("degree", "ratio"), [(1, 2.0), (2, 2**0.75)])
def test_corners_of_a_cube_of_more_parameters_are_further_away(degree, ratio):
    """The remainder grows as distance^(degree + 1), and the root of degree of it bounds the side."""
    one, two = (
        jordan_gradient(lambda w: 0.25 * w.sum(1), torch.zeros(number).double(), 0.7, 1e-3, qubits=3, degree=degree).side
        for number in (1, 2)
    )
    assert one / two == pytest.approx(ratio)


@pytest.mark.parametrize("slope", [-0.7, 0.7])
def test_slopes_at_the_bound_keep_their_sign(slope):
    executor = load_executor("statevector", seed=5)
    found = jordan_gradient(lambda w: slope * w[:, 0], torch.zeros(1).double(), 0.7, 1e-3, executor, repetitions=9)
    assert float(found.gradient) == pytest.approx(slope)


def test_on_aer():
    pytest.importorskip("qiskit_aer")
    executor, runs, right, promised = load_executor("qiskit", seed=0), 20, 0, 1.0
    for seed in range(runs):
        at = start(seed)
        found = jordan_gradient(sigmoid_unit, at, BOUND, CURVATURE[2], executor)
        right += bool(((found.gradient - exact(sigmoid_unit, at)).abs() <= found.precision).all())
        promised = min(promised, found.probability)
    assert right >= least(promised, runs)


def test_five_parameters_on_twenty_qubits():
    slopes = torch.tensor([0.5, -0.25, 0.125, 0.75, -0.875], dtype=torch.float64)

    def loss(points):
        return torch.sin(points @ slopes)

    at = torch.full((5,), 0.1, dtype=torch.float64)
    executor = load_executor("statevector", seed=0)
    found = jordan_gradient(loss, at, 0.9, float(slopes.norm()) ** 3, executor, repetitions=15)
    assert (found.num_qubits, found.loss_evaluations, found.oracle_calls) == (20, 2 * 2**20, 30)
    assert found.probability > 0.9
    assert ((found.gradient - exact(loss, at)).abs() <= found.precision).all()


@pytest.mark.parametrize("degree", [1, 2, 4, 6])
def test_central_differences_are_exact_for_polynomials(degree):
    stencil = central_differences(degree)
    for power in range(1, degree + 1):
        assert sum(weight * step**power for step, weight in stencil.items()) == pytest.approx(float(power == 1), abs=1e-12)


def test_higher_degrees_turn_the_phase_less_for_the_same_precision():
    found = [
        jordan_gradient(sigmoid_unit, start(0), BOUND, CURVATURE[degree], load_executor("statevector", seed=0), degree=degree)
        for degree in (1, 2, 4)
    ]
    assert [each.precision for each in found] == [found[0].precision] * 3
    assert found[0].phase_scale > 10 * found[1].phase_scale > 10 * found[2].phase_scale
    assert [each.oracle_calls for each in found] == [5, 10, 20]


def parabola(points):
    return points.square().sum(1)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"bound": 0.1}, "raise bound"),
        ({"curvature": 0.1, "degree": 1}, "bends more than curvature says"),
        ({"at": torch.zeros(2, 2)}, r"must be a tensor \(d,\)"),
        ({"bound": 0.0}, "bound is 0.0; it must be above 0"),
        ({"curvature": float("nan")}, "curvature is nan"),
        ({"qubits": 1}, "needs 2 or more"),
        ({"degree": 3}, "must be 1 or an even number"),
        ({"repetitions": 4}, "must be an odd number"),
        ({"loss": lambda points: points}, "one number a row"),
        ({"loss": lambda points: points[:, 0] / 0}, "infinite or NaN"),
        ({"loss": lambda points: parabola(points).float() + 100, "degree": 1}, "compute it in float64"),
    ],
)
def test_what_is_refused(changed, words):
    arguments = {"loss": parabola, "at": torch.full((2,), 0.2).double(), "bound": 1.0, "curvature": 2.0} | changed
    with pytest.raises(CircuitError, match=words):
        jordan_gradient(**arguments)


def test_too_many_qubits_are_refused_before_the_loss_is_asked_for():
    def loss(points):
        raise AssertionError

    with pytest.raises(ExecutorError, match="at most 24 qubits"):
        jordan_gradient(loss, torch.zeros(5), 1.0, 1.0, qubits=5)


def test_what_the_oracle_leaves_out_is_taken_off_the_promise(monkeypatch):
    def promised(left_out):
        monkeypatch.setattr(jordan, "diagonal", lambda phases, tolerance: diagonal(phases)._replace(error=left_out))
        return jordan_gradient(lambda w: 0.25 * w[:, 0], torch.zeros(1).double(), 0.7, 1e-3, repetitions=1).probability

    assert promised(0.0) - promised(0.015) == pytest.approx(0.015)


@pytest.mark.parametrize(
    ("degree", "sizes"),
    [(1, {1: 1.0}), (2, {-1: 0.5, 1: 0.5}), (4, {-2: 1 / 12, -1: 2 / 3, 1: 2 / 3, 2: 1 / 12})],
)
def test_points_are_as_far_apart_as_the_curvature_allows(degree, sizes):
    """Taylor's remainder, at the corner of the cube that is furthest away, turns the phase by half of ``phase_error``."""
    bound, curvature, number, phase_error = 0.7, 0.02, 3, 0.1
    found = jordan_gradient(
        lambda w: 0.25 * w.sum(1), torch.zeros(number).double(), bound, curvature, None, 3, degree, phase_error=phase_error
    )
    corner = found.side * sqrt(number) / 2
    remainder = sum(size * (abs(step) * corner) ** (degree + 1) for step, size in sizes.items()) / factorial(degree + 1)
    per_unit = 2 * pi / (found.precision * found.side)
    assert found.precision == pytest.approx(bound / 3)
    assert per_unit * curvature * remainder == pytest.approx(phase_error / 2)
    assert found.phase_scale == pytest.approx(per_unit * sum(sizes.values()))


def test_a_slope_above_the_bound_is_told_and_what_phases_may_be_off_is_not():
    """A bound of 0.7 in units of 0.1: the 0.02 radians of a phase are 1.1 % of a unit."""

    def estimate(slope):
        return jordan_gradient(lambda w: slope * w[:, 1], torch.zeros(2).double(), 0.7, 1e-3, repetitions=9)

    for sign in (1, -1):
        assert float(estimate(sign * 0.7005).gradient[1]) == pytest.approx(sign * 0.7)
        with pytest.raises(CircuitError, match=r"slope of 0.7[02].*raise bound"):
            estimate(sign * 0.702)


def test_rounding_is_taken_off_the_promise_until_it_is_more_than_phases_may_be_off():
    def estimate(height):
        loss = lambda w: torch.full((len(w),), height, dtype=torch.float32)  # noqa: E731
        return jordan_gradient(loss, torch.zeros(1).double(), 0.7, 1e-3, repetitions=1)

    none = estimate(0.0)
    radians = 4 * torch.finfo(torch.float32).eps * none.phase_scale  # of a loss of 1
    assert none.probability - estimate(0.98 * 0.02 / radians).probability == pytest.approx(0.98 * 0.02, rel=1e-3)
    for sign in (1, -1):
        with pytest.raises(CircuitError, match=r"rounding turns phases by 0.02 radians where 0.02 are"):
            estimate(sign * 1.02 * 0.02 / radians)


def test_a_loss_may_bend_phases_by_as_much_as_they_may_be_off():
    """Of a parabola, what no straight line takes away of the phases is told by its spread on the grid: 0.02 radians."""

    def estimate(bend):
        return jordan_gradient(lambda w: bend * w[:, 0].square(), torch.zeros(1).double(), 0.7, 1e-3, degree=1, repetitions=1)

    none = estimate(0.0)
    squares = (none.side * (torch.arange(16).double() - 7.5) / 16).square()
    most = 0.02 / (none.phase_scale * float(squares.std(correction=0)))
    for sign in (1, -1):
        estimate(0.98 * sign * most)
        with pytest.raises(CircuitError, match="bends more than curvature says"):
            estimate(1.02 * sign * most)
