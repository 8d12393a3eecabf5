"""Minima of polynomials of bits by the quantum approximate optimization algorithm."""

from __future__ import annotations

from math import sqrt

import torch

from qvae.circuits.executor import Executor
from qvae.circuits.gradients import GradientEstimator
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library.qaoa import qaoa
from qvae.ising.pseudo_boolean import PseudoBoolean
from qvae.qubo.minimise import Minimum


def minimise_by_qaoa(
    polynomial: PseudoBoolean,
    executor: Executor | None = None,
    layers: int = 3,
    steps: int = 100,
    lr: float = 0.05,
    num_samples: int = 1000,
    gradient: str | GradientEstimator | None = None,
    ramp: float = 0.7,
) -> Minimum:
    """The lowest of the bits that a trained QAOA circuit is measured as, one qubit a bit.

    The circuit has the polynomial itself as its cost: monomials of any length are rotations about strings of Z, and no bit is
    added. Angles start as a short anneal (Sack and Serbyn 2021, arXiv:2101.05742), and Adam lowers the mean of the cost.

    Args:
        polynomial: with numbers as coefficients.
        executor: None is ``statevector``.
        layers: L, hence 2 L angles.
        steps: of Adam; 0 measures the anneal.
        lr: of Adam, radians.
        num_samples: measured at the end.
        gradient: as of :class:`~qvae.circuits.layer.CircuitLayer`; of shots ``spsa`` takes two circuits a step, and the
            shift rule two for each gate that follows an angle.
        ramp: radians, of the first angles, where the cost is scaled to a deviation of sqrt(n) over all bits.

    Raises:
        CircuitError: the polynomial is a constant.
        ExecutorError: the executor takes fewer qubits, or failed.
    """
    cost = _cost(polynomial)
    layer = CircuitLayer(qaoa(cost, layers), [cost], executor, gradient).double()
    part = (torch.arange(layers) + 0.5) / layers
    with torch.no_grad():
        layer.weight.copy_(ramp * torch.stack([part, 1 - part], dim=1).flatten())
    optimizer = torch.optim.Adam(layer.parameters(), lr)
    nothing = layer.weight.new_zeros(1, 0)
    for _ in range(steps):
        optimizer.zero_grad()
        layer(nothing).sum().backward()
        optimizer.step()
    bits = layer.sample(nothing, num_samples)[0].cpu()
    values = polynomial.values(bits)
    return Minimum.of(values, bits[values.argmin()])


def _cost(polynomial: PseudoBoolean) -> list[tuple[str, float]]:
    """Strings of Z with coefficients, whose squares add up to n; a spin is -Z, since bit 1 is s = 1, and Z = -1."""
    number = polynomial.num_bits
    terms = {spins: value for spins, value in polynomial.spin_terms().items() if spins and value}
    scale = sqrt(number / sum(value**2 for value in terms.values())) if terms else 1.0
    return [
        ("".join("Z" if bit in spins else "I" for bit in reversed(range(number))), (-1) ** len(spins) * scale * value)
        for spins, value in terms.items()
    ]
