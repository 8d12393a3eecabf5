"""Jordan's gradient estimation: all components of a gradient at once, from a loss in the phase of a superposition of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import comb, factorial, pi, sin, sqrt

import torch
from torch import Tensor

from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.executor import Executor
from qvae.circuits.inverse import inverse
from qvae.circuits.library.diagonals import diagonal
from qvae.circuits.library.fourier import fourier
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError
from qvae.memory import require_memory

_ROWS = 2**14  # points at which the loss is asked for in one call
_ROUNDINGS = 4  # units in the last place by which a loss may be off


@dataclass(frozen=True)
class GradientEstimate:
    """A measured gradient, what is promised of it, and what it took.

    Attributes:
        gradient: (d,), float64; multiples of ``precision``.
        precision: by which each component is off at most,
        probability: with at least this probability for all of them, on an executor without errors.
        oracle_calls: how often the circuits wrote the loss, times a number, into the phase.
        phase_scale: radians that one circuit turns per unit of loss: as many calls of an oracle exp(i loss) would it take.
        loss_evaluations: classical ones, by which the simulator learned what the oracle does.
        num_qubits: of the circuit.
        side: of the cube of points, in units of the parameters.
    """

    gradient: Tensor
    precision: float
    probability: float
    oracle_calls: int
    phase_scale: float
    loss_evaluations: int
    num_qubits: int
    side: float


def jordan_gradient(
    loss: Callable[[Tensor], Tensor],
    at: Tensor,
    bound: float,
    curvature: float,
    executor: Executor | None = None,
    qubits: int = 4,
    degree: int = 2,
    repetitions: int = 5,
    phase_error: float = 0.04,
) -> GradientEstimate:
    """The gradient of a loss by a quantum circuit: Jordan 2005 (quant-ph/0405146).

    A register of m qubits for each parameter holds all 2**m points of a grid around its value; a phase oracle turns every
    combination of them by a multiple of the loss, which is nearly linear there; then the inverse Fourier transform of each
    register leaves it in a component of the gradient. The median of a few measurements makes failure unlikely.

    A ``degree`` of 2, 4, ... takes central differences (Gilyen, Arunachalam and Wiebe 2019, arXiv:1711.00465), which are exact
    for polynomials of that degree: so many oracle calls a circuit, but points further apart, and so a smaller ``phase_scale``.

    On a simulator this shows the algorithm and speeds nothing up: the oracle is made of the loss at all 2**(d m) points. A
    quantum computer would need a circuit that computes the loss, and one call for all points at once.

    Args:
        loss: from points (rows, d) to values (rows,), float64 if it can.
        at: (d,), where the gradient is wanted.
        bound: of every component's magnitude.
        curvature: of the magnitude of the loss's derivative of order ``degree`` + 1 along any line, within the cube of points.
        executor: None is ``statevector``.
        qubits: m, 2 or more, of each parameter; the precision is bound / (2**(m-1) - 1).
        degree: 1, which is Jordan's own single call, or an even number.
        repetitions: odd, measurements whose median is taken.
        phase_error: radians by which phases may be off, half by the loss's curvature, which sets the distance of the points,
            and half by what is left out of the oracle's circuit.

    Raises:
        CircuitError: an argument is out of its range, the loss is steeper or more curved than ``bound`` and ``curvature`` say,
            its values aren't finite, or so inexact that phases would be off.
        ExecutorError: the executor takes fewer qubits, or failed.

    >>> found = jordan_gradient(lambda w: w.square().sum(1), torch.tensor([0.25, -0.125]), bound=0.75, curvature=1.0)
    >>> found.precision, found.oracle_calls, found.num_qubits
    (0.10714285714285714, 10, 8)
    """
    executor = load_executor("statevector") if executor is None else executor
    _check(executor, at, bound, curvature, qubits, degree, repetitions, phase_error)
    scheme = _Scheme(len(at), qubits, bound, curvature, degree, phase_error / 2)
    phases, roundoff = scheme.phases(loss, at.detach())
    oracle = diagonal(phases, tolerance=phase_error / 2)
    circuit = _circuit(oracle.circuit, scheme.registers)
    bits = executor.sample(circuit, phases.new_zeros(1, 0), repetitions)[0].to(phases.device)
    # No phase is further off than this, and no probability, in a state of norm 1, by more.
    error = scheme.deviation + oracle.error + roundoff
    return GradientEstimate(
        gradient=_components(bits, qubits).median(0).values * scheme.unit,
        precision=scheme.unit,
        probability=_probability(len(at), qubits, repetitions, error),
        oracle_calls=repetitions * len(scheme.stencil),
        phase_scale=scheme.scale * sum(map(abs, scheme.stencil.values())),
        loss_evaluations=len(scheme.stencil) * len(phases),
        num_qubits=circuit.num_qubits,
        side=scheme.side,
    )


def central_differences(degree: int) -> dict[int, float]:
    """a_l with sum_l a_l f(l x) = f'(0) x + f(0) sum_l a_l for polynomials of the degree: 1, or an even number.

    >>> central_differences(4)
    {-2: 0.08333333333333333, -1: -0.6666666666666666, 1: 0.6666666666666666, 2: -0.08333333333333333}
    """
    if degree == 1:
        return {1: 1.0}
    half = degree // 2
    steps = [step for step in range(-half, half + 1) if step]
    return {step: (-1) ** (step + 1) / step * comb(half, abs(step)) / comb(half + abs(step), abs(step)) for step in steps}


class _Scheme:
    """Where the loss is asked for, and how much its values turn the phase.

    A register's value k stands for the offset x = side (k - (N-1)/2) / N, and the phase scale * g x grows by
    2 pi g / (unit N) with k, so that the inverse Fourier transform reads g / unit. Values up to the bound and the next one
    below find room among -N/2 ... N/2 - 1, and don't come out on the other side.
    """

    def __init__(self, num: int, qubits: int, bound: float, curvature: float, degree: int, deviation: float) -> None:
        points = 2**qubits
        self.num, self.qubits, self.bound, self.deviation = num, qubits, bound, deviation
        self.unit = bound / (points // 2 - 1)
        self.stencil = central_differences(degree)
        # Taylor's remainder, at the corners of a cube of side 1 and per radian of the phase.
        order = degree + 1
        spread = sum(abs(weight) * abs(step) ** order for step, weight in self.stencil.items())
        remainder = spread * curvature * (sqrt(num) / 2) ** order / factorial(order)
        self.side = (deviation * self.unit / (2 * pi * remainder)) ** (1 / degree)
        self.scale = 2 * pi / (self.unit * self.side)

    @property
    def registers(self) -> list[range]:
        return [range(first, first + self.qubits) for first in range(0, self.num * self.qubits, self.qubits)]

    def phases(self, loss: Callable[[Tensor], Tensor], at: Tensor) -> tuple[Tensor, float]:
        """Of all points, (2**(d m),), float64, and how much rounding may have changed them.

        Raises:
            CircuitError: the values aren't what was promised, or no such values.
        """
        size = 2**self.qubits
        number = torch.arange(size**self.num, device=at.device)
        steps = torch.stack([number >> register[0] & size - 1 for register in self.registers], dim=1)
        offsets = (steps.double() - (size - 1) / 2) * (self.side / size)
        turned, largest, precision = torch.zeros(len(offsets), dtype=torch.float64, device=at.device), 0.0, 0.0
        for step, weight in self.stencil.items():
            values = torch.cat([_losses(loss, at + step * rows) for rows in offsets.split(_ROWS)])
            largest, precision = max(largest, float(values.abs().max())), torch.finfo(values.dtype).eps
            turned += self.scale * weight * values.double()
        roundoff = _ROUNDINGS * precision * largest * self.scale * sum(map(abs, self.stencil.values()))
        self._verify(turned, offsets, roundoff)
        return turned, roundoff

    def _verify(self, turned: Tensor, offsets: Tensor, roundoff: float) -> None:
        """The table of phases, which a simulator needs anyway, tells whether the loss keeps its promises."""
        if roundoff > self.deviation:
            raise CircuitError(
                f"the loss is too inexact: rounding turns phases by {roundoff:.2g} radians where {self.deviation:.2g} are "
                "allowed; compute it in float64, take a higher degree or fewer qubits."
            )
        square = offsets[:, 0].square().mean()
        slopes = offsets.T @ turned / (len(turned) * square)
        allowed = self.deviation + roundoff
        steepest = float(slopes.abs().max()) / self.scale
        if steepest > self.bound + allowed / (self.scale * float(square.sqrt())):
            raise CircuitError(
                f"the loss has a slope of {steepest:.4g}, but bound is {self.bound:g}: it would be read with another sign; "
                "raise bound."
            )
        rest = turned - turned.mean() - offsets @ slopes
        if float(rest.square().mean().sqrt()) > allowed:
            raise CircuitError("the loss bends more than curvature says, and the precision wouldn't be kept; raise curvature.")


def _losses(loss: Callable[[Tensor], Tensor], points: Tensor) -> Tensor:
    with torch.no_grad():
        values = loss(points)
    if not isinstance(values, Tensor) or values.shape != points.shape[:1] or not values.is_floating_point():
        form = f"a tensor of shape {tuple(values.shape)}" if isinstance(values, Tensor) else f"a {type(values).__name__}"
        raise CircuitError(f"the loss of points {tuple(points.shape)} is {form}; it must be real, one number a row.")
    if not bool(values.isfinite().all()):
        raise CircuitError("the loss is infinite or NaN near the parameters; a gradient needs finite values.")
    return values


def _circuit(oracle: Circuit, registers: list[range]) -> Circuit:
    """All points at once, their phases, and the inverse Fourier transform of each register."""
    everywhere = Circuit(oracle.num_qubits, [Gate("h", (qubit,)) for qubit in range(oracle.num_qubits)])
    return everywhere.then([*oracle.gates, *inverse(fourier(oracle.num_qubits, registers)).gates])


def _components(bits: Tensor, qubits: int) -> Tensor:
    """Whole numbers -N/2 ... N/2 - 1 that the registers hold in each measurement, (repetitions, d), float64."""
    weights = 2 ** torch.arange(qubits, device=bits.device)
    weights[-1] *= -1  # the highest bit counts as negative, since values are modulo N
    return (bits.unflatten(1, (-1, qubits)).long() * weights).sum(2).double()


def _probability(num: int, qubits: int, repetitions: int, error: float) -> float:
    """That all medians are within one unit.

    Of exactly linear phases one of the two nearest values is read with the probability 2 / (N sin(pi / 2 N))^2 or more, which
    is 0.81; the median is right if more than half of the readings are, and all are right unless one isn't.
    """
    points = 2**qubits
    single = max(0.0, 2 / (points * sin(pi / (2 * points))) ** 2 - error)
    most = range(repetitions // 2 + 1, repetitions + 1)
    median = sum(comb(repetitions, right) * single**right * (1 - single) ** (repetitions - right) for right in most)
    return max(0.0, 1 - num * (1 - median))


def _check(
    executor: Executor,
    at: Tensor,
    bound: float,
    curvature: float,
    qubits: int,
    degree: int,
    repetitions: int,
    phase_error: float,
) -> None:
    """Refuse what makes no sense before the loss is asked for."""
    if not isinstance(at, Tensor) or at.ndim != 1 or len(at) == 0 or not at.is_floating_point():
        raise CircuitError("the point of a gradient must be a tensor (d,) of floating-point numbers, d of 1 or more.")
    for name, number in (("bound", bound), ("curvature", curvature), ("phase_error", phase_error)):
        if not number > 0:
            raise CircuitError(f"{name} is {number}; it must be above 0.")
    if qubits < 2:
        raise CircuitError(f"qubits is {qubits}; a component of a gradient needs 2 or more.")
    if degree < 1 or (degree > 1 and degree % 2):
        raise CircuitError(f"degree is {degree}; it must be 1 or an even number.")
    if repetitions < 1 or repetitions % 2 == 0:
        raise CircuitError(f"repetitions is {repetitions}; it must be an odd number, of which there is a median.")
    executor.check_size(len(at) * qubits)
    needed = 8 * (2 * len(at) + 4) << len(at) * qubits
    what = f"the loss at 2^{len(at) * qubits} points"
    require_memory(needed, what, "take fewer qubits or parameters", CircuitError, at.device)
