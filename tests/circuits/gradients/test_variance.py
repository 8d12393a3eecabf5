"""Variances of gradients against published closed forms, and the remedies on the circuits that need them."""

from math import pi

import numpy as np
import pytest
import torch

from qvae.circuits.circuit import Circuit, Gate
from qvae.circuits.gradients import variance
from qvae.circuits.gradients.variance import (
    GradientVariance,
    exponential_decay,
    gradient_variance,
    power_decay,
)
from qvae.circuits.initialisation import FirstLayers, IdentityBlocks, SmallAngles
from qvae.circuits.initialisation import uniform as uniform_angles
from qvae.circuits.library import angle_encoding, compose, hardware_efficient
from qvae.circuits.library.costs import global_cost, local_cost
from qvae.circuits.library.placed import placed_gates
from qvae.circuits.registry import load_executor
from qvae.errors import CircuitError


def product_circuit(num_qubits):
    return placed_gates(num_qubits, [("rx", (qubit,)) for qubit in range(num_qubits)])


def two_qubit_string(num_qubits):
    return [("I" * (num_qubits - 2) + "ZZ", 1.0)]


def deep(num_qubits):
    """Random rotations and a ring of CZ, 5 n layers: near a random unitary before and after its middle."""
    return hardware_efficient(num_qubits, 5 * num_qubits, entangler="cz")


def off(found, exact):
    """In standard errors."""
    return abs(found.variance - exact) / found.stderr


@pytest.mark.parametrize("num_qubits", [2, 4, 6, 8])
def test_the_product_circuit_has_the_variances_of_cerezo(num_qubits):
    circuit = product_circuit(num_qubits)
    found = gradient_variance(circuit, global_cost(num_qubits), starts=10_000, seed=1)
    assert off(found, (1 / 8) * (3 / 8) ** (num_qubits - 1)) < 4
    assert found.stderr < 0.15 * found.variance
    found = gradient_variance(circuit, local_cost(num_qubits), weight=None, starts=1000, seed=2)
    assert off(found, 1 / (8 * num_qubits**2)) < 4
    assert found.stderr < 0.03 * found.variance  # of all weights, whose variances are equal


def test_deep_circuits_have_the_variance_of_random_unitaries():
    """d^2 / (2 (d^2 - 1) (d + 1)), d = 2^n, by integrals over the unitaries before and after: one bit a qubit."""
    sizes, found = (3, 4, 5, 6), []
    for num_qubits in sizes:
        circuit, dim = deep(num_qubits), 2**num_qubits
        found.append(
            gradient_variance(circuit, two_qubit_string(num_qubits), weight=circuit.num_weights // 2, starts=300, seed=3)
        )
        assert off(found[-1], dim**2 / (2 * (dim**2 - 1) * (dim + 1))) < 4
    decay = exponential_decay(sizes, found)
    assert abs(decay.rate - 1) < 4 * decay.stderr < 0.4


def test_costs_are_minimal_at_zero():
    zero = torch.zeros(1, 3).double()
    executor = load_executor("statevector")
    for cost in (global_cost(3), local_cost(3)):
        assert float(executor.expectations(product_circuit(3), zero, [cost])) == pytest.approx(0, abs=1e-12)
        assert float(executor.expectations(product_circuit(3), zero + torch.pi, [cost])) == pytest.approx(1)


def test_local_costs_decay_as_a_power_and_global_ones_exponentially():
    sizes = (2, 4, 6, 8)
    local = [gradient_variance(product_circuit(n), local_cost(n), starts=1000, seed=n) for n in sizes]
    power = power_decay(sizes, local)
    assert abs(power.rate - 2) < 4 * power.stderr
    assert exponential_decay(sizes, local).chi_square > 10 * max(power.chi_square, 1)
    everywhere = [gradient_variance(product_circuit(n), global_cost(n), starts=3000, seed=n) for n in sizes]
    decay = exponential_decay(sizes, everywhere)
    assert abs(decay.rate - 1.415) < 4 * decay.stderr  # log2(8 / 3)


def test_a_decay_has_the_error_of_a_straight_line():
    generator = torch.Generator().manual_seed(0)
    rates, stderr = [], 0.0
    for _ in range(300):
        noise = (0.1 * torch.randn(4, generator=generator)).exp().tolist()
        variances = [GradientVariance(2.0**-n * factor, 2.0**-n * factor / 10, 0.0, 100) for n, factor in enumerate(noise)]
        decay = exponential_decay(range(4), variances)
        rates.append(decay.rate)
        stderr = decay.stderr
    rates = torch.tensor(rates)
    assert float(rates.mean()) == pytest.approx(1, abs=4 * stderr / 300**0.5)
    assert float(rates.std()) == pytest.approx(stderr, rel=0.2)


def test_sizes_that_are_known_better_count_for_more():
    sizes, values, errors = [2, 4, 6, 9], np.array([0.3, 0.11, 0.02, 0.02]), np.array([0.1, 0.02, 0.4, 0.2])  # relative
    decay = exponential_decay(sizes, [GradientVariance(v, v * e, v, 100) for v, e in zip(values, errors, strict=True)])
    weights = np.log(2) / errors
    line, covariance = np.polyfit(sizes, np.log2(values), 1, w=weights, cov="unscaled")
    assert decay.rate == pytest.approx(-line[0])
    assert decay.stderr == pytest.approx(covariance[0, 0] ** 0.5)
    rest = (np.log2(values) - np.polyval(line, sizes)) * weights
    assert decay.chi_square == pytest.approx((rest**2).sum() / 2)  # of four sizes, of which a line takes two


def test_remedies_keep_gradients_that_uniform_angles_lose():
    """From RY(pi/4) on all qubits, where Z isn't sharp, and at the same number of gates."""
    num_qubits, observable = 6, two_qubit_string(6)
    tilted = Circuit(num_qubits, [Gate("ry", (qubit,), (pi / 4,)) for qubit in range(num_qubits)])
    blocks = IdentityBlocks(hardware_efficient(num_qubits, 2, entangler="cz"), blocks=8)
    circuit = compose(tilted, blocks.circuit)
    uniform, *remedies = (
        gradient_variance(circuit, observable, weight=None, starts=40, start=start, seed=4)
        for start in (uniform_angles, blocks, SmallAngles(0.05), FirstLayers(3 * num_qubits))
    )
    assert uniform.mean_square == pytest.approx(uniform.variance, rel=0.1)
    for found in remedies:
        assert found.mean_square > 2 * (uniform.variance + 4 * uniform.stderr)


def test_identity_blocks_leave_the_state_alone():
    blocks = IdentityBlocks(hardware_efficient(3, 2), blocks=2)
    weights = blocks(blocks.circuit, 5, torch.Generator().manual_seed(0))
    state = load_executor("statevector").probabilities(blocks.circuit, weights)
    assert torch.allclose(state[:, 0], torch.ones(5).double())
    assert weights.unique().numel() == weights.numel() / 2


def test_executors_without_gradients_are_asked_by_shifts():
    pytest.importorskip("qiskit_aer")
    executor = load_executor("qiskit", seed=0, shots=4000)
    found = gradient_variance(product_circuit(2), local_cost(2), starts=60, executor=executor, seed=1)
    assert off(found, 1 / 32) < 4


def test_a_circuit_with_inputs():
    circuit = compose(angle_encoding(2), product_circuit(2))
    inputs = torch.tensor([torch.pi / 2, 0.3])
    found = gradient_variance(circuit, [("IZ", 1.0)], inputs=inputs, starts=100, seed=0)
    assert found.variance == pytest.approx(0, abs=1e-12)  # RX leaves |+> alone
    with pytest.raises(CircuitError, match="has 2 inputs, but 0 are given"):
        gradient_variance(circuit, [("IZ", 1.0)])


def test_what_is_refused():
    with pytest.raises(CircuitError, match="none of number 3"):
        gradient_variance(product_circuit(3), local_cost(3), weight=3)
    with pytest.raises(CircuitError, match="none of number None"):
        gradient_variance(Circuit(1, []), local_cost(1), weight=None)
    with pytest.raises(CircuitError, match="needs 2 or more"):
        gradient_variance(product_circuit(3), local_cost(3), starts=1)
    with pytest.raises(CircuitError, match="three sizes or more"):
        exponential_decay([1, 2], [GradientVariance(1.0, 0.1, 0.0, 10)] * 2)
    with pytest.raises(CircuitError, match="identity blocks need one of weights alone"):
        IdentityBlocks(angle_encoding(2), 1)
    with pytest.raises(CircuitError, match="take the circuit of IdentityBlocks itself"):
        gradient_variance(product_circuit(3), local_cost(3), start=IdentityBlocks(product_circuit(3), 1))


def test_starts_that_are_run_in_parts_give_the_same(monkeypatch):
    circuit = hardware_efficient(3, 2)

    def found():
        return gradient_variance(circuit, [("ZZI", 1.0)], 2, 7, seed=3)

    expected = found()
    monkeypatch.setattr(variance, "_AT_ONCE", 2 * 2**3)
    again = found()
    assert (again.variance, again.stderr) == pytest.approx((expected.variance, expected.stderr))


def test_the_numbers_are_those_of_few_starts():
    """d<Z_q>/dw_q is -sin w_q: an unbiased variance of each weight's derivatives, its mean over weights, and its error."""
    angles = np.array([[0.3, 1.1], [2.0, -0.4], [-1.3, 0.9], [0.8, 2.2], [1.7, 0.2]])
    circuit, both = product_circuit(2), [("IZ", 2.0), ("ZI", 1.0)]
    derivatives = -np.sin(angles) * [2.0, 1.0]

    def found(weight):
        return gradient_variance(circuit, both, weight, 5, lambda circuit, starts, generator: torch.from_numpy(angles))

    for weight, chosen in ((0, derivatives[:, :1]), (1, derivatives[:, 1:]), (None, derivatives)):
        squares = ((chosen - chosen.mean(0)) ** 2).mean(1) * 5 / 4
        one = found(weight)
        assert one.variance == pytest.approx(chosen.var(0, ddof=1).mean())
        assert one.stderr == pytest.approx(squares.std(ddof=1) / 5**0.5)
        assert one.mean_square == pytest.approx((chosen**2).mean())
        assert one.starts == 5
