"""Random shifts: unbiased over many draws, exact where there is but one pair, and right where no finite rule is."""

import math
from dataclasses import replace

import pytest
import torch
from qvae_backends.statevector import StatevectorExecutor

from qvae.circuits.circuit import Affine, Circuit, Gate
from qvae.circuits.executor import ExecutorCapabilities
from qvae.circuits.gates import pauli_matrix
from qvae.circuits.gradients import ParameterShift, StochasticShift
from qvae.circuits.layer import CircuitLayer
from qvae.circuits.library import evolution, hardware_efficient

OBSERVABLES = [[("ZI", 1.0)], [("XY", 0.5), ("IZ", -1.0)]]
DUAL = torch.tensor([[1.0, -0.7]], dtype=torch.float64)


class Counting(StatevectorExecutor):
    """Exact, without gradients."""

    capabilities = ExecutorCapabilities(exact=True)
    rows: tuple = ()

    def expectations(self, circuit, values, observables, weights=None):
        self.rows = (*self.rows, len(values))
        return super().expectations(circuit, values, observables, weights)


def exact_gradient(circuit, values):
    return ParameterShift().gradients(Counting(), circuit, values, OBSERVABLES, DUAL, range(circuit.num_parameters))


def test_it_is_unbiased_for_repeated_parameters_and_four_term_rules():
    circuit = Circuit(
        2,
        [
            Gate("ry", (0,), (Affine(0),)),
            Gate("cry", (0, 1), (Affine(1),)),
            Gate("rx", (1,), (Affine(0, -0.5, 0.2),)),
            Gate("u", (0,), (Affine(1), 0.3, Affine(2))),
            Gate("rx", (0,), (Affine(0),)),
        ],
        4,
    )
    values = torch.tensor([[0.4, -0.9, 1.3, 0.2]], dtype=torch.float64)
    exact = exact_gradient(circuit, values)[0]
    draws = 4000
    executor = Counting()
    estimator = StochasticShift(seed=3)
    found = estimator.gradients(executor, circuit, values.expand(draws, -1), OBSERVABLES, DUAL.expand(draws, -1), range(4))
    error = found.std(0) / math.sqrt(draws)
    assert ((found.mean(0) - exact).abs() <= 5 * error + 1e-12).all()
    assert error[0] > 1e-4
    assert error[3] == found[:, 3].abs().max() == 0
    assert executor.rows == (draws * estimator.executions(circuit, range(4)),) == (draws * 6,)
    many = StochasticShift(repetitions=200, seed=3).gradients(Counting(), circuit, values, OBSERVABLES, DUAL, range(1, 3))
    assert ((many[0] - exact[1:3]).abs() < 5 * found.std(0)[1:3] / math.sqrt(200) + 1e-12).all()


def test_a_parameter_of_one_rotation_is_exact():
    circuit = hardware_efficient(2, 2)
    turned = [gate._replace(angles=tuple(replace(angle, scale=-0.7) for angle in gate.angles)) for gate in circuit.gates]
    circuit = replace(circuit, gates=turned)
    values = torch.rand(1, circuit.num_parameters, dtype=torch.float64)
    found = StochasticShift(seed=0).gradients(Counting(), circuit, values, OBSERVABLES, DUAL, range(circuit.num_parameters))
    assert torch.allclose(found, exact_gradient(circuit, values), atol=1e-12)


def test_a_cross_resonance_gate_has_the_derivative_of_its_matrix_exponential():
    """exp(-i (a XI + b ZX + c IX) / 2), the gate of Banchi and Crooks, whose a has no rule of a few shifts."""
    strings = ["XI", "ZX", "IX"]
    values = torch.tensor([[0.9, 1.4, -0.6]], dtype=torch.float64)
    leaf = values[0].clone().requires_grad_()
    exponent = sum(weight * pauli_matrix(label) for weight, label in zip(leaf, strings, strict=True))
    state = torch.linalg.matrix_exp(-0.5j * exponent)[:, 0]
    dense = [sum(weight * pauli_matrix(label) for label, weight in terms) for terms in OBSERVABLES]
    loss = sum(dual * (state.conj() @ operator @ state).real for dual, operator in zip(DUAL[0], dense, strict=True))
    (exact,) = torch.autograd.grad(loss, leaf)
    draws = 3000
    circuit = evolution(strings, slices=20)
    found = StochasticShift(seed=1).gradients(
        Counting(), circuit, values.expand(draws, -1), OBSERVABLES, DUAL.expand(draws, -1), range(3)
    )
    error = found.std(0) / math.sqrt(draws)
    assert ((found.mean(0) - exact).abs() < 5 * error + 2e-3).all()
    assert (error[:2] > 5e-4).all()


def test_it_repeats_itself_from_its_state():
    layer = CircuitLayer(evolution(["XI", "ZX"], 3), executor=Counting(), gradient=StochasticShift(seed=1)).double()

    def gradient():
        (found,) = torch.autograd.grad(layer(torch.zeros(1, 0)).sum(), layer.weight)
        return found

    state = (gradient(), layer.gradient.state_dict())[1]
    second = gradient()
    layer.gradient.load_state_dict(state)
    assert torch.equal(gradient(), second)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="repetitions is 0; it must be a whole number, 1 or more"):
        StochasticShift(repetitions=0)


def test_draws_of_a_four_term_rule_have_the_derivative_as_their_weighted_mean():
    """Pairs at pi/2 and 3 pi/2, of opposite signs, of which the first is drawn with (2 + sqrt(2)) / 4."""
    circuit = Circuit(2, [Gate("ry", (0,), (1.1,)), Gate("ry", (1,), (0.4,)), Gate("crx", (0, 1), (Affine(0),))], 1)
    values = torch.tensor([[0.5]], dtype=torch.float64)
    arguments = (circuit, values.expand(60, -1), OBSERVABLES, DUAL.expand(60, -1), range(1))
    found = StochasticShift(seed=1).gradients(Counting(), *arguments).flatten()
    rare, often = sorted({round(one, 9) for one in found.tolist()}, key=lambda one: (found - one).abs().lt(1e-6).sum())
    share = (2 + math.sqrt(2)) / 4
    assert share * often + (1 - share) * rare == pytest.approx(float(exact_gradient(circuit, values)), abs=1e-8)
    assert abs(often - rare) > 0.1
